"""The examples that a run trains, validates and tests on."""

import dataclasses
import itertools

import numpy as np
import pytest

from gru_audio.data.fields import ClassField, NumberField
from gru_audio.data.signal import Signal
from gru_audio.data.source import Source
from gru_audio.data.split import (
    BACKGROUND,
    ROLES,
    SCORED,
    never_trained_on,
    select,
    trainable,
)
from gru_audio.settings import UserError
from tests.tones import tiny

SPLIT = np.array(["train"] * 6 + ["validation"] * 3 + ["test"] * 3)
GROUP = np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 1, 2], np.int32)
LABEL = np.array([0, 1, 0, 1, 0, -1, 0, 1, 0, 1, 0, 1], np.int32)
SOURCE = Source(
    name="made_up",
    signal=Signal(8000),
    columns={"split": SPLIT, "group": GROUP, "label": LABEL, "length": np.full(12, 800, np.int32)},
    fields={"label": ClassField(("a", "b")), "group": ClassField(("ann", "ben", "cid"))},
    fingerprint="",
    records=(),
)


def data(**changes):
    return tiny({f"data.{name}": value for name, value in changes.items()}).data


def selected(**changes):
    """Lists of ids by role, without the role `SCORED`."""
    ids = select(SOURCE, data(**changes), 0)
    return {role: those.tolist() for role, those in ids.items() if role != SCORED}


def test_roles_are_the_splits_without_unlabelled_clips():
    assert selected() == {"train": [0, 1, 2, 3, 4], "validation": [6, 7, 8], "test": [9, 10, 11]}


def test_splits_may_be_joined_or_left_out():
    joined = selected(train="train+validation", validation="")
    assert joined == {"train": [0, 1, 2, 3, 4, 6, 7, 8], "validation": [], "test": [9, 10, 11]}


@pytest.mark.parametrize("given", ["train;validation", "train, validation", "train,validation"])
def test_a_list_of_splits_says_how_they_are_joined(given):
    with pytest.raises(UserError, match=r'join splits by "\+": "train\+validation"'):
        selected(train=given, validation="")


def test_ids_are_int32_and_ascending():
    for ids in select(
        SOURCE, data(train="test+train", test="validation", validation=""), 0
    ).values():
        assert ids.dtype == np.int32
        assert np.all(np.diff(ids) > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "train+test"}, "3 examples of made_up would be .* used as test data"),
        ({"train": "train+validation"}, "3 examples of made_up would be .* as validation data"),
        ({"validation": "train"}, "6 examples of made_up would be .* as validation data"),
    ],
)
def test_training_examples_are_not_tested(changes, message):
    with pytest.raises(UserError, match=message):
        select(SOURCE, data(**changes), 0)


@pytest.mark.parametrize(("value", "group"), [("ann", 0), ("ben", 1), ("cid", 2)])
def test_only_held_out_examples_are_tested(value, group):
    chosen = select(SOURCE, data(hold_out=f"group={value}"), 0)
    known = set(np.flatnonzero(LABEL >= 0))
    assert set(chosen["test"]) == set(np.flatnonzero(group == GROUP)) & known
    assert not any(np.any(GROUP[chosen[role]] == group) for role in ("train", "validation"))
    assert set(chosen["validation"]) <= set(np.flatnonzero(SPLIT == "validation"))
    assert not set(chosen["train"]) & set(chosen["validation"])


def test_a_fold_may_be_validated_on_while_another_is_tested():
    everything = {"train": "train+validation+test", "test": "test"}
    chosen = selected(**everything, hold_out="group=ann", validation="group=cid")
    assert chosen == {"train": [2, 3, 7, 10], "validation": [4, 8, 11], "test": [0, 1, 6, 9]}


def test_a_validated_value_comes_out_of_the_training_split():
    chosen = selected(validation="group=ben")
    assert chosen == {"train": [0, 1, 4], "validation": [2, 3], "test": [9, 10, 11]}


def test_background_is_of_the_training_examples_and_needs_no_label():
    assert selected(background="group=cid")[BACKGROUND] == [4, 5]
    with pytest.raises(UserError, match="No training example"):  # all are tested on
        selected(background="group=cid", hold_out="group=cid")


def test_examples_that_any_fold_trains_on_are_trainable():
    holdings = [data(hold_out=f"group={value}") for value in ("ann", "ben")]
    folds = [select(SOURCE, holding, 0)["train"] for holding in holdings]
    chosen = trainable(SOURCE, data(hold_out="group=ann"))
    assert np.all(chosen[np.concatenate(folds)])
    np.testing.assert_array_equal(chosen, trainable(SOURCE, data(hold_out="group=ben")))
    np.testing.assert_array_equal(
        np.flatnonzero(trainable(SOURCE, data())), select(SOURCE, data(), 0)["train"]
    )


def test_classes_without_training_examples_are_reported():
    held_out = data(target="group", hold_out="group=ben", cluster="")
    remarks = never_trained_on(SOURCE, held_out, select(SOURCE, held_out, 0))
    assert remarks == ["group: 1 class is in test but not in train: ben (4 clips)."]
    for changes in ({}, {"hold_out": "group=ann"}, {"target": ""}):
        assert never_trained_on(SOURCE, data(**changes), select(SOURCE, data(**changes), 0)) == []
    one = data(train_examples=1)
    (validation, test) = never_trained_on(SOURCE, one, select(SOURCE, one, 0))
    assert validation.startswith("label: 1 class is in validation")
    assert test.startswith("label: 1 class is in test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "trian"}, r'no split "trian" \(config.data.train\). Did you mean "train"'),
        ({"train": ""}, "config.data.train must name a split"),
        ({"test": ""}, "config.data.test must name a split"),
        ({"target": "lable"}, 'no field "lable". Did you mean "label"'),
        ({"hold_out": "ann"}, 'should read like "speaker=theo"'),
        ({"hold_out": "grop=ann"}, 'Did you mean "group"'),
        ({"hold_out": "group=anne"}, 'no value "anne". Did you mean "ann"'),
    ],
)
def test_missing_names_are_reported(changes, message):
    with pytest.raises(UserError, match=message):
        select(SOURCE, data(**changes), 0)


@pytest.mark.parametrize("role", ROLES)
def test_nothing_to_train_validate_or_test_on(role):
    label = np.where(role == SPLIT, -1, LABEL)
    unknown = dataclasses.replace(SOURCE, columns=SOURCE.columns | {"label": label})
    with pytest.raises(UserError, match=f"config.data.{role}"):
        select(unknown, data(), 0)


def test_holding_out_leaves_something_to_validate_on():
    by_split = {"train": 0, "validation": 1, "test": 2}
    group = np.array([by_split[split] for split in SPLIT], np.int32)
    source = dataclasses.replace(SOURCE, columns=SOURCE.columns | {"group": group})
    with pytest.raises(UserError, match=r'validation="validation".* without .*"group=ben"'):
        select(source, data(hold_out="group=ben"), 0)
    assert select(source, data(hold_out="group=ben", validation=""), 0)["test"].tolist() == [
        6,
        7,
        8,
    ]


def test_every_role_is_selected():
    assert {*ROLES, SCORED} == set(select(SOURCE, data(), 0))


@pytest.mark.parametrize(("key", "value"), [("hold_out", "age=3"), ("background", "age=3")])
def test_the_error_lists_class_fields(key, value):
    fields = SOURCE.fields | {"age": NumberField()}
    columns = SOURCE.columns | {"age": np.arange(12, dtype=np.float32)}
    source = dataclasses.replace(SOURCE, fields=fields, columns=columns)
    with pytest.raises(UserError) as refusal:
        select(source, data(**{key: value}), 0)
    assert str(refusal.value) == (
        f'config.data.{key} needs a field of classes, and "age" of made_up has numbers. '
        "It has classes in: label, group."
    )


def some(count, seed=0, **changes):
    """The training examples if `count` of them are drawn."""
    return select(SOURCE, data(train_examples=count, **changes), seed)["train"].tolist()


def test_a_larger_draw_of_training_examples_holds_the_smaller_ones():
    draws = [set(some(count)) for count in (1, 2, 3, 4, 5)]
    assert [len(drawn) for drawn in draws] == [1, 2, 3, 4, 5]
    assert all(few < more for few, more in itertools.pairwise(draws))
    assert draws[-1] == set(selected()["train"])
    assert some(0) == selected()["train"]


def test_the_seed_draws_them_and_nothing_else_does():
    drawn = {tuple(some(2, seed)) for seed in range(40)}
    assert len(drawn) == 10  # all pairs of the five
    assert some(3, seed=7) == some(3, seed=7)
    assert some(3) == sorted(some(3))
    for role in ("validation", "test"):
        assert select(SOURCE, data(train_examples=1), 0)[role].tolist() == selected()[role]


def test_they_are_drawn_from_what_is_not_held_out():
    rest = selected(hold_out="group=ann")["train"]
    assert set(some(2, hold_out="group=ann")) < set(rest)
    assert some(len(rest), hold_out="group=ann") == rest


@pytest.mark.parametrize("seed", [0, 7])
def test_scored_training_examples_do_not_depend_on_the_run_seed(seed):
    def scored(count, **changes):
        return select(SOURCE, data(train_scored=count, **changes), seed)[SCORED].tolist()

    everything = selected()["train"]
    assert scored(0) == scored(5) == scored(9) == everything
    assert len(scored(2)) == 2 and set(scored(2)) < set(everything)
    assert scored(2) == select(SOURCE, data(train_scored=2), seed + 1)[SCORED].tolist()
    assert set(scored(2, train_examples=3)) < set(some(3, seed))


def test_more_than_there_are_is_an_error():
    with pytest.raises(UserError, match="train_examples=6: made_up has only 5 to train on"):
        some(6)


def of_each_class(count, seed=0, **changes):
    """The training examples if `count` of each class are drawn."""
    changes = {"examples_per_class": count, **changes}
    return select(SOURCE, data(**changes), seed)["train"].tolist()


def test_as_many_examples_of_each_class():
    drawn = {tuple(of_each_class(1, seed)) for seed in range(40)}
    assert len(drawn) == 6  # one of three "a", one of two "b"
    for seed in range(5):
        one, two = of_each_class(1, seed), of_each_class(2, seed)
        assert sorted(LABEL[two].tolist()) == [0, 0, 1, 1]
        assert set(one) < set(two)
        assert two == sorted(two) == of_each_class(2, seed)
    assert of_each_class(0) == selected()["train"]
    for role in ("validation", "test"):
        assert select(SOURCE, data(examples_per_class=1), 0)[role].tolist() == selected()[role]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 3}, 'per_class=3: class "b" of made_up has only 2 to train on'),
        ({"count": 1, "train_examples": 2}, "config.data.train_examples exclude each other"),
    ],
)
def test_examples_of_each_class_that_cannot_be_drawn(changes, message):
    with pytest.raises(UserError, match=message):
        of_each_class(**changes)
