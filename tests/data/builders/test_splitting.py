"""Who goes to which split: shares by label, groups whole."""

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.config import UserError
from gru_audio.data.builders import splitting
from gru_audio.data.builders.clips import SPLITS


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    fractions=st.sampled_from([(80, 10, 10), (50, 25, 25), (70, 0, 30), (1, 0, 0)]),
    seed=st.integers(0, 10),
)
@settings(max_examples=60, deadline=None)
def test_stratified_splits_give_every_label_its_share(counts, fractions, seed):
    labels = [str(c) for c, count in enumerate(counts) for _ in range(count)]
    shares = splitting.shares(fractions)
    splits = splitting.stratified(labels, shares, seed)
    assert splits == splitting.stratified(labels, shares, seed)
    for label, count in collections.Counter(labels).items():
        got = collections.Counter(s for s, x in zip(splits, labels, strict=True) if x == label)
        assert got["train"] >= 1
        for split, share in zip(SPLITS, shares, strict=True):
            assert abs(got[split] - share * count) <= 2.5
    total = collections.Counter(splits)
    for split, share in zip(SPLITS, shares, strict=True):
        assert (total[split] == 0) if share == 0 else abs(total[split] - share * len(labels)) <= 2


def test_rare_labels_reach_every_split():
    labels = [str(c) for c in range(100) for _ in range(4)]
    splits = splitting.stratified(labels, splitting.shares((80, 10, 10)), 0)
    assert collections.Counter(splits) == {"train": 320, "validation": 40, "test": 40}


def test_how_to_draw_splits_is_refused_where_they_are_given():
    given = ["train", "test"]
    assert splitting.choose(given, ["a", "b"], None, splitting.shares((80, 10, 10)), 0) == given
    for fractions, seed in (((80, 0, 20), 0), ((80, 10, 10), 1)):
        with pytest.raises(UserError, match="--fractions and --seed decide nothing"):
            splitting.choose(given, ["a", "b"], None, splitting.shares(fractions), seed)


def test_the_seed_changes_who_goes_where():
    labels = ["a"] * 50 + ["b"] * 50
    draws = {tuple(splitting.stratified(labels, (0.8, 0.1, 0.1), seed)) for seed in range(5)}
    assert len(draws) == 5


@given(
    groups=st.lists(st.integers(0, 12), min_size=1, max_size=200),
    fractions=st.sampled_from([(80, 10, 10), (60, 20, 20), (90, 0, 10)]),
    seed=st.integers(0, 10),
)
@settings(max_examples=100, deadline=None)
def test_no_group_is_in_two_splits_and_no_split_is_empty(groups, fractions, seed):
    shares = splitting.shares(fractions)
    wanted = {split for split, share in zip(SPLITS, shares, strict=True) if share}
    if len(set(groups)) < len(wanted):
        with pytest.raises(UserError, match="groups cannot fill"):
            splitting.by_group(groups, shares, seed)
        return
    splits = splitting.by_group(groups, shares, seed)
    assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
    assert set(splits) == wanted


def test_groups_of_like_size_meet_the_shares():
    groups = [i // 5 for i in range(500)]
    counts = collections.Counter(splitting.by_group(groups, (0.8, 0.1, 0.1), 0))
    assert counts == {"train": 400, "validation": 50, "test": 50}


@pytest.mark.parametrize("fractions", [(1, 2), "abc", (0, 1, 1), (1, -1, 1), ("nan", 1, 1), ()])
def test_impossible_fractions_are_refused(fractions):
    with pytest.raises(UserError, match="Fractions"):
        splitting.shares(fractions)
