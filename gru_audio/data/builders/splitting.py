"""Which clip goes into which split where a data set does not say."""

import collections
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from gru_audio.config import UserError
from gru_audio.data.builders.clips import SPLITS

FRACTIONS = (80.0, 10.0, 10.0)  # of `SPLITS`

# What else people call them.
USUAL_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


def choose(
    given: Sequence[str] | None,
    labels: Sequence[str],
    groups: Sequence[str] | None,
    fractions: Sequence[float],
    seed: int,
) -> Sequence[str]:
    """Random splits by group where groups are asked for, else those given, else stratified ones.

    Raises:
      UserError: there are fewer groups than splits, or given splits and how to draw others.
    """
    if groups is not None:
        return by_group(groups, fractions, seed)
    if given is None:
        return stratified(labels, fractions, seed)
    if list(fractions) != shares(FRACTIONS) or seed:
        raise UserError(
            "The splits are given, so that --fractions and --seed decide nothing: leave them out, "
            "or have splits drawn by --split_by."
        )
    return given


def stratified(labels: Sequence[str], fractions: Sequence[float], seed: int) -> list[str]:
    """A split for each example, so that every label has its share in each.

    Label after label, and in random order within each, examples go to the split that lags furthest
    behind its share of all so far. So rare labels, too, reach every split, some this one and others
    that. The first example of each is trained on: nobody finds what he never heard.
    """
    share = np.array(fractions)
    order = np.random.default_rng(seed).permutation(len(labels))
    counts = np.zeros(len(SPLITS))
    chosen = [""] * len(labels)
    met = set()
    for i in sorted(order, key=lambda i: labels[i]):
        lag = np.round(share * (counts.sum() + 1) - counts, 9)  # so that ties are ties
        split = max(np.flatnonzero(share), key=lag.__getitem__) if labels[i] in met else 0
        met.add(labels[i])
        counts[split] += 1
        chosen[i] = SPLITS[split]
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
