"""Sweeps: their runs, names and groups."""

import pytest

from gru_audio.config import differences, flatten
from gru_audio.settings import UserError
from gru_audio.sweeps.sweep import Sweep, expand, folds, group
from tests.tones import tiny

VARIANTS = {"GRU": {"model.cell": "gru"}, "tanh RNN": {"model.cell": "rnn", "model.hidden": 9}}
TRIALS = [{"optimizer.learning_rate": rate} for rate in (0.01, 0.0001)]
SEEDS = [{"seed": seed} for seed in range(3)]


def names(runs):
    return [run.name for run in runs]


def test_runs_are_all_combinations():
    runs = expand(tiny(), Sweep(VARIANTS, TRIALS, SEEDS))
    assert len(runs) == len(set(names(runs))) == 12
    for run in runs:
        flat, others = flatten(run.config), differences(run.config)
        changed = {**VARIANTS[run.variant], **run.trial, **run.replicate}
        assert {name: flat[name] for name in changed} == changed
        assert {k: v for k, v in others.items() if k not in changed} == {
            k: v for k, v in differences(tiny()).items() if k not in changed
        }


def test_names_tell_runs_apart_and_can_be_typed():
    runs = expand(tiny(), Sweep(VARIANTS, TRIALS, SEEDS[:1]))
    assert names(runs) == [
        "GRU-learning_rate0.01-seed0",
        "GRU-learning_rate0.0001-seed0",
        "tanh_RNN-learning_rate0.01-seed0",
        "tanh_RNN-learning_rate0.0001-seed0",
    ]
    held_out = expand(tiny(), Sweep({"a/b": {}}, replicates=[{"data.hold_out": "group=ann"}]))
    assert names(held_out) == ["a_b-hold_outgroup_ann"]
    assert names(expand(tiny(), Sweep({"one": {}}, replicates=[{}]))) == ["one"]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (Sweep({"a": {"model.hiden": 3}}), 'Did you mean "model.hidden"'),
        (Sweep({"a": {"model.hidden": "x"}}), "model.hidden"),
        (Sweep({"a": {"seed": 3}}), "Variant a: a config key is changed twice.*seed"),
        (Sweep({"a b": {}, "a_b": {}}), "Two runs of the sweep have the same name"),
        (Sweep({}), "has no runs"),
    ],
)
def test_sweeps_that_cannot_be(sweep, message):
    with pytest.raises(UserError, match=message):
        expand(tiny(), sweep)


def test_groups_share_a_program():
    groups = group(expand(tiny(), Sweep(VARIANTS, TRIALS, SEEDS)))
    assert [len(g.runs) for g in groups] == [6, 6]
    assert [{run.variant for run in g.runs} for g in groups] == [{"GRU"}, {"tanh RNN"}]
    assert [g.name.rpartition("-")[0] for g in groups] == ["GRU", "tanh_RNN"]


def test_variants_that_differ_in_numbers_share_one_too():
    variants = {"less": {"model.dropout": 0.1}, "more": {"model.dropout": 0.5}, "none": {}}
    groups = group(expand(tiny(), Sweep(variants, replicates=SEEDS)))
    assert [[run.name for run in g.runs] for g in groups] == [
        [f"{variant}-seed{seed}" for variant in ("less", "more") for seed in range(3)],
        [f"none-seed{seed}" for seed in range(3)],
    ]


def test_folds_share_one():
    folds = [{"data.hold_out": f"group={who}"} for who in ("ann", "ben", "cid")]
    assert len(group(expand(tiny(), Sweep({"one": {}}, replicates=folds)))) == 1


def test_a_groups_name_stays_the_same():
    """Other processes find the group's checkpoints by its name."""
    first, second = (group(expand(tiny(), Sweep(VARIANTS, TRIALS, SEEDS))) for _ in range(2))
    assert [g.name for g in first] == [g.name for g in second]
    assert len({g.name for g in first}) == 2
    other = group(expand(tiny({"train.batch_size": 4}), Sweep(VARIANTS, TRIALS, SEEDS)))
    assert not {g.name for g in other} & {g.name for g in first}


def test_each_fold_is_tested_on_once_and_validated_on_once():
    made = folds("fold", ("1", "2", "3"))
    assert made[2] == {"data.hold_out": "fold=3", "data.validation": "fold=1"}
    for key in ("data.hold_out", "data.validation"):
        assert sorted(fold[key] for fold in made) == ["fold=1", "fold=2", "fold=3"]
    assert (
        len(group(expand(tiny({"data.train": "train+test"}), Sweep({"GRU": {}}, replicates=made))))
        == 1
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"variants": [{}]}, "variants must be a dict of names to changes"),
        ({"variants": {"one": 3}}, "variants must be"),
        ({"variants": {1: {}}}, "name of a variant must be a string"),
        ({"variants": {"one": {3: 4}}}, "variants must be"),
        ({"variants": {"one": {}}, "trials": 3}, "trials must be a list of changes"),
        ({"variants": {"one": {}}, "trials": [3]}, "trials must be"),
        ({"variants": {"one": {}}, "replicates": {"seed": 1}}, "replicates must be"),
        ({"variants": {"one": {}}, "replicates": None}, "replicates must be"),
    ],
)
def test_parts_of_other_types_are_refused(parts, message):
    with pytest.raises(UserError, match=message):
        Sweep(**parts)
