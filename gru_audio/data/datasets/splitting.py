"""Which clip goes into which split where a data set does not say."""

import collections
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gru_audio.data.datasets.clips import SPLITS
from gru_audio.settings import UserError

FRACTIONS = (80.0, 10.0, 10.0)  # of `SPLITS`

# What else people call them.
USUAL_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


class Groups(NamedTuple):
    """What must not be in two splits.

    Attributes:
      name: what the groups are, for messages: "speaker".
      values: the group of each clip; "": none.
      asked: whether the user asked for them, so that they overrule splits that are given.
    """

    name: str
    values: Sequence[str]
    asked: bool


def choose(
    given: Sequence[str] | None,
    labels: Sequence[str],
    groups: Groups | None,
    same: Sequence[Hashable],
    fractions: Sequence[float],
    seed: int,
    parts: bool = False,
) -> tuple[list[str], list[str]]:
    """A split for each clip, and what the user should know about how they came about.

    Splits that are given are taken as they are, unless groups are asked for; where they lack
    validation alone, a part of the training clips becomes it. Otherwise splits are drawn: by group
    where there are groups, else by file where clips are parts of files, else label by label. What
    is drawn never parts clips of one file, or of files with the same content; but for a label all
    of whose clips are alike, such as digital silence, which would be in one split only.

    Args:
      given: the split of each clip, if the data set says so.
      labels: of each clip; "": none.
      groups: what else must stay together.
      same: of each clip a value that is equal for clips of one file, or of files with the same
        content.
      fractions: of `SPLITS`, where splits are drawn; they add up to 1.
      seed: of the draw.
      parts: whether clips are parts of files.

    Raises:
      UserError: there are fewer groups than splits, or given splits and how to draw others.
    """
    if given is not None and not (groups and groups.asked):
        drawn, remarks = _with_validation(given, labels, groups, same, fractions, seed, parts)
        remarks += _parted(given, groups, same)
        return drawn, remarks
    remarks = ["The splits that are given are not used: --split_by draws others."] if given else []
    same = same if parts else _where_it_matters(labels, same)
    if copies := 0 if parts else len(same) - len(set(same)):
        remarks.append(f"Copies of other clips: {copies}. Each is in the split of its original.")
    if groups:
        remarks.append(f"Splits are drawn by {groups.name}: none is in two splits.")
        return _by_joined_group(groups, same, fractions, seed), remarks
    if parts:
        remarks.append("Splits are drawn by file: no two splits have parts of one file.")
        return by_group(same, fractions, seed), remarks
    remarks.append("Splits are drawn at random, with the same share of each label.")
    return stratified(labels, fractions, seed, same), remarks


def _where_it_matters(labels: Sequence[str], same: Sequence[Hashable]) -> list[Hashable]:
    """`same`, with the clips of a label that has nothing but copies of one as different ones."""
    of_label, with_label = collections.defaultdict(set), collections.defaultdict(set)
    for label, content in zip(labels, same, strict=True):
        of_label[label].add(content)
        with_label[content].add(label)
    alone = {
        label
        for label, contents in of_label.items()
        if label and len(contents) == 1 and with_label[next(iter(contents))] == {label}
    }
    return [
        (label, i) if label in alone else content
        for i, (label, content) in enumerate(zip(labels, same, strict=True))
    ]


def _with_validation(
    given: Sequence[str],
    labels: Sequence[str],
    groups: Groups | None,
    same: Sequence[Hashable],
    fractions: Sequence[float],
    seed: int,
    parts: bool,
) -> tuple[list[str], list[str]]:
    """The given splits, with validation taken from training where there is only a test split."""
    train, validation, test = SPLITS
    splits = [*given]
    if validation in splits or train not in splits or test not in splits:
        if list(fractions) != shares(FRACTIONS) or seed:
            raise UserError(
                "The splits are given, so that --fractions and --seed decide nothing: leave them "
                "out, or have splits drawn by --split_by."
            )
        return splits, []
    share = shares([*fractions[:2], 0])
    if not share[1]:
        return splits, ["There is no validation split: train with config.data.validation=''."]
    of_train = [i for i, split in enumerate(splits) if split == train]
    own = [same[i] for i in of_train]
    try:
        if groups:
            of_groups = groups._replace(values=[groups.values[i] for i in of_train])
            drawn = _by_joined_group(of_groups, own, share, seed)
        elif parts:
            drawn = by_group(own, share, seed)
        else:
            own_labels = [labels[i] for i in of_train]
            drawn = stratified(own_labels, share, seed, _where_it_matters(own_labels, own))
    except UserError:  # one group only
        drawn = [train] * len(of_train)
    count = drawn.count(validation)
    if not count:
        return splits, ["There is no validation split, and nothing to take one from."]
    for i, split in zip(of_train, drawn, strict=True):
        splits[i] = split
    return splits, [
        f"There is no validation split: {share[1]:.0%} of train ({count} clips) becomes one. "
        "--fractions sets the share; 80,0,20 takes none."
    ]


def _parted(given: Sequence[str], groups: Groups | None, same: Sequence[Hashable]) -> list[str]:
    """Remarks on groups and files that have clips in several of the given splits."""
    kinds = {"Files (with their copies)": list(same)}
    if groups:
        kinds[f"Values of {groups.name}"] = [value or None for value in groups.values]
    remarks = []
    for kind, values in kinds.items():
        splits = collections.defaultdict(set)
        for value, split in zip(values, given, strict=True):
            splits[value].add(split)
        splits.pop(None, None)
        parted = sum(len(of) > 1 for of in splits.values())
        if parted:
            remarks.append(f"{kind} that have clips in several of the given splits: {parted}.")
    return remarks


def _by_joined_group(
    groups: Groups, same: Sequence[Hashable], fractions: Sequence[float], seed: int
) -> list[str]:
    """Splits that part neither groups nor files; a clip without a group belongs to its file."""
    clips = zip(groups.values, same, strict=True)
    of_group = _numbers([("group", name) if name else ("file", of) for name, of in clips])
    of_file = _numbers(same) + len(set(of_group.tolist()))
    count = of_file.max() + 1
    links = coo_array((np.ones(len(same)), (of_group, of_file)), (count, count))
    joined = connected_components(links, directed=False)[1][of_group]
    different = len(set(groups.values) - {""})
    try:
        return by_group(joined.tolist(), fractions, seed)
    except UserError as error:
        left = len(set(joined.tolist()))
        if left < different:
            raise UserError(
                f"{different} values of {groups.name} share files, or files with the same content, "
                f"so that only {left} can be kept apart, which is fewer than the splits. Remove "
                "the copies, or split by something else."
            ) from error
        if not groups.asked:
            raise UserError(f"{error} --split_by file splits file by file.") from error
        raise


def _numbers(values: Sequence[Hashable]) -> np.ndarray:
    """Values as numbers from 0, in the order in which they come first."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def stratified(
    labels: Sequence[str],
    fractions: Sequence[float],
    seed: int,
    same: Sequence[Hashable] | None = None,
) -> list[str]:
    """A split for each example, so that every label has its share in each.

    Label after label, and in random order within each, examples go to the split that lags furthest
    behind its share of all so far. So rare labels, too, reach every split, some this one and others
    that. The first example of each is trained on: nobody finds what he never heard. Examples with
    equal values in `same` follow the first of them.
    """
    share = np.array(fractions)
    order = np.random.default_rng(seed).permutation(len(labels))
    counts = np.zeros(len(SPLITS))
    chosen = [""] * len(labels)
    met = set()
    placed: dict[Hashable, int] = {}
    splits = np.flatnonzero(share)
    for i in sorted(order, key=lambda i: labels[i]):
        unit = i if same is None else same[i]
        if unit not in placed:
            lag = np.round(share * (counts.sum() + 1) - counts, 9)  # so that ties are ties
            placed[unit] = int(max(splits, key=lag.__getitem__)) if labels[i] in met else 0
        met.add(labels[i])
        counts[placed[unit]] += 1
        chosen[i] = SPLITS[placed[unit]]
    return chosen


def by_group(groups: Sequence[Hashable], fractions: Sequence[float], seed: int) -> list[str]:
    """A split for each example, so that no group is in two and no split is left empty.

    The largest groups are placed first, each in the split with the most room left for its share.

    Raises:
      UserError: there are fewer groups than splits.
    """
    share = np.array(fractions)
    sizes = collections.Counter(groups)
    room = {int(split): share[split] * len(groups) for split in np.flatnonzero(share)}
    empty = set(room)
    if len(sizes) < len(empty):
        raise UserError(
            f"{len(sizes)} groups cannot fill {len(empty)} splits, with no group in two of them: "
            "split by something finer, or give a split no share, as in --fractions 80,0,20."
        )
    names = list(sizes)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    placed: dict[Hashable, str] = {}
    for group in sorted(shuffled, key=lambda name: -sizes[name]):
        must_fill = len(names) - len(placed) == len(empty)
        split = max(empty if must_fill else room, key=lambda s: (room[s], -s))
        room[split] -= sizes[group]
        empty.discard(split)
        placed[group] = SPLITS[split]
    return [placed[group] for group in groups]


def shares(fractions: Iterable[float | str]) -> list[float]:
    """Three numbers for `SPLITS` in any unit, scaled to add up to 1.

    Raises:
      UserError: they are not three numbers, or leave nothing to train on.
    """
    given = list(fractions)
    try:
        numbers = np.array(given, float)
    except ValueError:
        numbers = np.array([])
    if numbers.shape != (len(SPLITS),) or not (numbers >= 0).all() or not 0 < numbers[0] < np.inf:
        raise UserError(
            f"Fractions are three numbers, for {', '.join(SPLITS)}, as in 80,10,10; "
            f"not {','.join(map(str, given))}."
        )
    return (numbers / numbers.sum()).tolist()
