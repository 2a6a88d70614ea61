"""Shards: every run is in exactly one, for any number of shards; names are unambiguous."""

import pytest

from gru_audio.settings import UserError
from gru_audio.sweeps.shard import Shard, divide
from gru_audio.sweeps.sweep import Sweep, expand, group
from tests.tones import tiny

VARIANTS = {
    "GRU": {"model.cell": "gru"},
    "RNN": {"model.cell": "rnn"},
    "LSTM": {"model.cell": "lstm"},
}
RATES = [{"optimizer.learning_rate": rate} for rate in (0.01, 0.02, 0.03, 0.04, 0.05)]
SEEDS = [{"seed": seed} for seed in range(2)]
GROUPS = group(expand(tiny(), Sweep(VARIANTS, RATES, SEEDS)))  # three of ten runs


def by_name(run):
    return run.name


def names(groups):
    return [run.name for of_group in groups for run in of_group.runs]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 12, 30, 40])
def test_every_run_is_in_one_shard(count):
    shards = divide(GROUPS, count, by_name)
    assert len(shards) == count
    found = [name for shard in shards for name in names(shard)]
    assert sorted(found) == sorted(names(GROUPS))
    assert [[g.name for g in s] for s in shards] == [
        [g.name for g in s] for s in divide(GROUPS, count, by_name)
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_groups_are_whole_where_there_are_enough(count):
    whole = {g.name: g.runs for g in GROUPS}
    for shard in divide(GROUPS, count, by_name):
        assert all(whole[g.name] == g.runs for g in shard)


@pytest.mark.parametrize(("count", "sizes"), [(6, [5] * 6), (4, [5, 5, 10, 10]), (30, [1] * 30)])
def test_cut_groups_are_balanced(count, sizes):
    shards = divide(GROUPS, count, by_name)
    assert sorted(len(names(shard)) for shard in shards) == sizes


def test_more_shards_than_runs_leave_some_empty():
    assert [len(names(shard)) for shard in divide(GROUPS[:1], 12, by_name)].count(0) == 2


def test_long_runs_count_for_more():
    variants = {
        "GRU": {"train.steps": 300},
        "RNN": {"model.cell": "rnn"},
        "LSTM": {"model.cell": "lstm"},
    }
    shards = divide(group(expand(tiny(), Sweep(variants, replicates=SEEDS))), 2, by_name)
    assert [{run.variant for g in shard for run in g.runs} for shard in shards] == [
        {"GRU"},
        {"RNN", "LSTM"},
    ]


def test_a_name_stands_for_the_same_runs_in_every_division():
    meant = {}
    for count in range(1, 31):
        for shard in divide(GROUPS, count, by_name):
            for of_group in shard:
                assert meant.setdefault(of_group.name, names([of_group])) == names([of_group])


def test_what_belongs_together_stays_together():
    variants = {"less": {"model.dropout": 0.1}, "more": {"model.dropout": 0.5}}
    (one,) = group(expand(tiny(), Sweep(variants, RATES, SEEDS)))
    shards = divide([one], 8, lambda run: run.variant)
    assert [{run.variant for g in shard for run in g.runs} for shard in shards][:2] == [
        {"less"},
        {"more"},
    ]
    assert not any(shards[2:])


def test_shards_as_text():
    assert Shard.parse("2/3") == Shard(2, 3)
    assert str(Shard(2, 3)) == "2/3"


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0", "1/3/5", ""])
def test_shards_that_are_none(text):
    with pytest.raises(UserError, match=f'--shard "{text}" must be I/N'):
        Shard.parse(text)


def test_locks_of_another_number_of_shards_exclude():
    for other, excluded in [("lock", True), ("lock-1of3", False), ("lock-1of2", True)]:
        assert Shard(2, 3).excludes(other) is excluded
    assert Shard().excludes("lock-1of2")
    assert not Shard().excludes(Shard().lock)
