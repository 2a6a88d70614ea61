"""Splits: shares by label, and groups in one split."""

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.data.datasets import splitting
from gru_audio.data.datasets.clips import SPLITS
from gru_audio.settings import UserError


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


SHARES = tuple(splitting.shares((80, 10, 10)))


def choose(given=None, labels=(), groups=None, same=None, fractions=SHARES, seed=0, parts=False):
    labels = labels or [""] * len(given or same or groups.values)
    same = range(len(labels)) if same is None else same
    return splitting.choose(given, labels, groups, same, fractions, seed, parts)


def by(*values: str, requested: bool = True) -> splitting.Groups:
    return splitting.Groups("speaker", values, requested)


def test_options_for_drawing_are_refused_if_splits_exist():
    given = ["train", "test", "validation"]
    assert choose(given) == (given, [])
    for fractions, seed in (((80, 0, 20), 0), ((80, 10, 10), 1)):
        with pytest.raises(UserError, match="--fractions and --seed have no effect"):
            choose(given, fractions=splitting.shares(fractions), seed=seed)


def test_validation_is_taken_from_training_where_there_is_only_a_test_split():
    given, labels = ["train"] * 90 + ["test"] * 30, ["a", "b", "c"] * 40
    splits, remarks = choose(given, labels)
    assert splits[90:] == given[90:]
    counts = collections.Counter(zip(splits[:90], labels, strict=False))
    assert all(abs(counts["validation", label] - 10 / 3) < 1 for label in "abc")
    (remark,) = remarks
    assert "11% of train (10 clips) becomes one" in remark
    splits, (remark,) = choose(given, labels, fractions=splitting.shares((80, 0, 20)))
    assert splits == given
    assert "no validation split" in remark
    for others in (["train"] * 3, ["train", "validation"], ["test"], ["train", "test", "dev2"]):
        validated = "validation" in choose(others, list("aaa"[: len(others)]))[0]
        assert validated == ("validation" in others)


def test_drawn_validation_divides_no_group_and_no_file():
    given, speakers = ["train"] * 80 + ["test"] * 10, [f"s{i // 8}" for i in range(90)]
    splits, remarks = choose(given, groups=by(*speakers, requested=False))
    assert len(set(zip(speakers, splits, strict=True))) == len(set(speakers)) == 12
    assert splits.count("validation") == 8
    assert len(remarks) == 1
    splits, _ = choose(given, same=[i // 4 for i in range(90)], parts=True)
    files = {(i // 4, split) for i, split in enumerate(splits)}
    assert len(files) == 23
    splits, (remark,) = choose(
        ["train", "train", "test"], groups=by("s", "s", "t", requested=False)
    )
    assert "validation" not in splits
    assert "nothing to take one from" in remark


def test_existing_splits_that_divide_groups_or_files_are_reported():
    given = ["train", "validation", "test"] * 2
    splits, remarks = choose(given, groups=by(*"abcabd", requested=False), same=[0, 1, 2, 0, 0, 3])
    assert splits == given
    assert remarks == [
        "Files (with their copies) with clips in several of the splits: 1.",
    ]
    _, remarks = choose(given, groups=by(*"abcbbd", requested=False))
    assert remarks == ["Values of speaker with clips in several of the splits: 1."]


def test_requested_splits_override_existing_ones():
    splits, remarks = choose(["train"] * 30, groups=by(*[f"s{i % 6}" for i in range(30)]))
    assert set(splits) == set(SPLITS)
    assert remarks[0].startswith("The existing splits are not used")


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=80),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_neither_groups_nor_files_are_divided(clips, seed):
    """Group 0 means none: its clips follow their files."""
    same, groups = zip(*clips, strict=True)
    try:
        splits, _ = choose(same=same, groups=by(*[f"g{g}" if g else "" for g in groups]), seed=seed)
    except UserError:
        return
    for values in (same, [g or None for g in groups]):
        found = collections.defaultdict(set)
        for value, split in zip(values, splits, strict=True):
            found[value].add(split)
        found.pop(None, None)
        assert all(len(of) == 1 for of in found.values())
    assert set(splits) == set(SPLITS)


def test_groups_that_copies_join_are_refused_with_the_reason():
    with pytest.raises(UserError, match=r"4 values of speaker share files.* only 1 can be"):
        choose(same=[0] * 4, groups=by(*"abcd"))
    with pytest.raises(UserError, match=r"2 groups cannot fill 3.*--split_by file"):
        choose(groups=by(*"aabb", requested=False))


def test_copies_stay_together_and_all_else_is_as_without_them():
    labels = [str(i % 4) for i in range(200)]
    single = splitting.stratified(labels, SHARES, 0)
    assert splitting.stratified(labels, SHARES, 0, range(200)) == single
    same = [i % 150 for i in range(200)]
    splits, remarks = choose(labels=labels, same=same)
    assert all(splits[i] == splits[i + 150] for i in range(50))
    assert remarks[0].startswith("Copies of other clips: 50.")
    counts = collections.Counter(splits)
    assert all(abs(counts[s] - 200 * share) < 5 for s, share in zip(SPLITS, SHARES, strict=True))


def test_a_label_that_is_one_sound_is_in_all_splits():
    labels = ["silence"] * 20 + ["a"] * 20
    splits, remarks = choose(labels=labels, same=[0] * 20 + [*range(1, 21)])
    for label in "silence", "a":
        own = [s for s, its in zip(splits, labels, strict=True) if its == label]
        assert collections.Counter(own) == {"train": 16, "validation": 2, "test": 2}
    assert len(remarks) == 1
    # Not if another label has the same sound, or if the clips are parts of one file.
    splits, _ = choose(labels=[*labels, "b"], same=[0] * 20 + [*range(1, 21), 0])
    assert len({*splits[:20], splits[-1]}) == 1
    splits, _ = choose(labels=labels, same=[0] * 20 + [*range(1, 21)], parts=True)
    assert len(set(splits[:20])) == 1


def test_the_seed_changes_the_splits():
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
