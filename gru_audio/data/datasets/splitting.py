"""Assigns clips to splits."""

import collections
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gru_audio.data.datasets.clips import SPLITS
from gru_audio.data.fields import clean
from gru_audio.settings import UserError

FRACTIONS = (80.0, 10.0, 10.0)  # of `SPLITS`

# Other common names of splits.
USUAL_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


class Groups(NamedTuple):
    """Groups of clips that must stay in one split.

    Attributes:
      name: the noun for a group in messages, such as "speaker".
      values: the group of each clip; "": none.
      requested: whether the user requested them; they then override the existing splits.
    """

    name: str
    values: Sequence[str]
    requested: bool


def groups_of(rows: Iterable[Mapping[str, str]], split_by: str | None) -> Groups | None:
    """Returns the groups in the column `split_by`, by default "group"; None without values."""
    column = split_by or "group"
    values = [clean(row.get(column, "")) for row in rows]
    return Groups(column, values, bool(split_by)) if any(values) else None


def choose(
    existing: Sequence[str] | None,
    labels: Sequence[str],
    groups: Groups | None,
    same: Sequence[Hashable],
    fractions: Sequence[float],
    seed: int,
    parts: bool = False,
) -> tuple[list[str], list[str]]:
    """Returns a split for each clip, and remarks for the user.

    Existing splits are kept unless groups are requested. If only validation is missing, a part of
    the training clips becomes it. Otherwise splits are drawn: by group if there are groups, else by
    file if clips are parts of files, else stratified by label. Drawn splits keep clips of one file,
    and of files with equal content, together. The exception is a label all of whose clips are
    equal, such as digital silence: its clips are in all splits.

    Args:
      existing: the split of each clip, if the data set has splits.
      labels: the label of each clip; "": none.
      groups: groups of clips to keep together.
      same: a key of each clip that is equal for clips of one file or of files with equal content.
      fractions: the shares of `SPLITS`, if splits are drawn; they add up to 1.
      seed: the seed of the splits.
      parts: whether clips are parts of files.

    Raises:
      UserError: there are fewer groups than splits, or options for drawing although the splits
        exist.
    """
    if existing is not None and not (groups and groups.requested):
        drawn, remarks = _with_validation(existing, labels, groups, same, fractions, seed, parts)
        remarks += _divided(existing, groups, same)
        return drawn, remarks
    remarks = ["The existing splits are not used: --split_by draws others."] if existing else []
    same = same if parts else _separate_uniform_labels(labels, same)
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


def _separate_uniform_labels(labels: Sequence[str], same: Sequence[Hashable]) -> list[Hashable]:
    """Returns `same` with a separate key for each clip of a label all of whose clips are equal."""
    contents_by_label, labels_by_content = (collections.defaultdict(set) for _ in range(2))
    for label, content in zip(labels, same, strict=True):
        contents_by_label[label].add(content)
        labels_by_content[content].add(label)
    uniform = {
        label
        for label, contents in contents_by_label.items()
        if label and len(contents) == 1 and labels_by_content[next(iter(contents))] == {label}
    }
    return [
        (label, i) if label in uniform else content
        for i, (label, content) in enumerate(zip(labels, same, strict=True))
    ]


def _with_validation(
    existing: Sequence[str],
    labels: Sequence[str],
    groups: Groups | None,
    same: Sequence[Hashable],
    fractions: Sequence[float],
    seed: int,
    parts: bool,
) -> tuple[list[str], list[str]]:
    """Returns the existing splits; takes validation from training if only validation is missing."""
    train, validation, test = SPLITS
    splits = [*existing]
    if validation in splits or train not in splits or test not in splits:
        if list(fractions) != shares(FRACTIONS) or seed:
            raise UserError(
                "The data set has splits, so --fractions and --seed have no effect: omit them, "
                "or draw other splits with --split_by."
            )
        return splits, []
    share = shares([*fractions[:2], 0])
    if not share[1]:
        return splits, ["There is no validation split: train with config.data.validation=''."]
    training = [i for i, split in enumerate(splits) if split == train]
    keys = [same[i] for i in training]
    try:
        if groups:
            train_groups = groups._replace(values=[groups.values[i] for i in training])
            drawn = _by_joined_group(train_groups, keys, share, seed)
        elif parts:
            drawn = by_group(keys, share, seed)
        else:
            train_labels = [labels[i] for i in training]
            keys = _separate_uniform_labels(train_labels, keys)
            drawn = stratified(train_labels, share, seed, keys)
    except UserError:  # one group only
        drawn = [train] * len(training)
    count = drawn.count(validation)
    if not count:
        return splits, ["There is no validation split, and nothing to take one from."]
    for i, split in zip(training, drawn, strict=True):
        splits[i] = split
    return splits, [
        f"There is no validation split: {share[1]:.0%} of train ({count} clips) becomes one. "
        "--fractions sets the share; 80,0,20 takes none."
    ]


def _divided(existing: Sequence[str], groups: Groups | None, same: Sequence[Hashable]) -> list[str]:
    """Returns remarks on groups and files with clips in several of the existing splits."""
    kinds = {"Files (with their copies)": list(same)}
    if groups:
        kinds[f"Values of {groups.name}"] = [value or None for value in groups.values]
    remarks = []
    for kind, values in kinds.items():
        splits = collections.defaultdict(set)
        for value, split in zip(values, existing, strict=True):
            splits[value].add(split)
        splits.pop(None, None)
        divided = sum(len(found) > 1 for found in splits.values())
        if divided:
            remarks.append(f"{kind} with clips in several of the splits: {divided}.")
    return remarks


def joined_groups(groups: Groups, same: Sequence[Hashable]) -> list[int]:
    """Returns a number of each clip, equal for clips that groups or files link."""
    # These imports take long: errors in options do not wait for them.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    clips = zip(groups.values, same, strict=True)
    group = _numbers([("group", name) if name else ("file", key) for name, key in clips])
    file = _numbers(same) + len(set(group.tolist()))
    count = file.max() + 1
    links = coo_array((np.ones(len(same)), (group, file)), (count, count))
    return connected_components(links, directed=False)[1][group].tolist()


def _by_joined_group(
    groups: Groups, same: Sequence[Hashable], fractions: Sequence[float], seed: int
) -> list[str]:
    """Draws splits that divide no group and no file; clips without a group follow their file."""
    joined = joined_groups(groups, same)
    different = len(set(groups.values) - {""})
    try:
        return by_group(joined, fractions, seed)
    except UserError as error:
        left = len(set(joined))
        if left < different:
            raise UserError(
                f"{different} values of {groups.name} share files, or files with equal content, so "
                f"only {left} can be kept apart, fewer than the splits. Remove the copies, or "
                "split by something else."
            ) from error
        if not groups.requested:
            raise UserError(f"{error} --split_by file splits file by file.") from error
        raise


def _numbers(values: Sequence[Hashable]) -> np.ndarray:
    """Numbers the different values from 0, in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def stratified(
    labels: Sequence[str],
    fractions: Sequence[float],
    seed: int,
    same: Sequence[Hashable] | None = None,
) -> list[str]:
    """Assigns a split to each example, stratified by label.

    The examples are taken label by label, in random order within a label. Each goes to the split
    that is furthest below its share of the examples so far, so rare labels reach different splits.
    The first example of each label goes to training, so that every class is trained on. Examples
    with equal values in `same` go to the split of the first of them.
    """
    share = np.array(fractions)
    order = np.random.default_rng(seed).permutation(len(labels))
    counts = np.zeros(len(SPLITS))
    chosen = [""] * len(labels)
    seen = set()
    placed: dict[Hashable, int] = {}
    splits = np.flatnonzero(share)
    for i in sorted(order, key=lambda i: labels[i]):
        unit = i if same is None else same[i]
        if unit not in placed:
            lag = np.round(share * (counts.sum() + 1) - counts, 9)  # makes ties exact
            placed[unit] = int(max(splits, key=lag.__getitem__)) if labels[i] in seen else 0
        seen.add(labels[i])
        counts[placed[unit]] += 1
        chosen[i] = SPLITS[placed[unit]]
    return chosen


def by_group(groups: Sequence[Hashable], fractions: Sequence[float], seed: int) -> list[str]:
    """Assigns a split to each example; each group is in one split, and no split is empty.

    The largest groups are placed first, each in the split that is furthest below its share.

    Raises:
      UserError: there are fewer groups than splits.
    """
    share = np.array(fractions)
    sizes = collections.Counter(groups)
    free = {int(split): share[split] * len(groups) for split in np.flatnonzero(share)}
    empty = set(free)
    if len(sizes) < len(empty):
        raise UserError(
            f"{len(sizes)} groups cannot fill {len(empty)} splits if each is in one split only: "
            "split by something finer, or give a split no share, as in --fractions 80,0,20."
        )
    names = list(sizes)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    placed: dict[Hashable, str] = {}
    for group in sorted(shuffled, key=lambda name: -sizes[name]):
        must_fill = len(names) - len(placed) == len(empty)
        split = max(empty if must_fill else free, key=lambda s: (free[s], -s))
        free[split] -= sizes[group]
        empty.discard(split)
        placed[group] = SPLITS[split]
    return [placed[group] for group in groups]


def shares(fractions: Iterable[float | str]) -> list[float]:
    """Scales three numbers for `SPLITS` so that they add up to 1.

    Raises:
      UserError: there are not three valid numbers, or the share of training is 0.
    """
    values = list(fractions)
    try:
        numbers = np.array(values, float)
    except ValueError:
        numbers = np.array([])
    if numbers.shape != (len(SPLITS),) or not (numbers >= 0).all() or not 0 < numbers[0] < np.inf:
        raise UserError(
            f"Fractions are three numbers, for {', '.join(SPLITS)}, as in 80,10,10; "
            f"not {','.join(map(str, values))}."
        )
    return (numbers / numbers.sum()).tolist()
