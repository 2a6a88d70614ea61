"""What was found in overlapping windows, as stretches of time with a label."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Found:
    """What a model finds from sample `start` to `end`: probabilities float32 (classes,)."""

    start: int
    end: int
    probabilities: np.ndarray


@dataclass(frozen=True)
class Segment:
    """Samples `start` to `end`, from `windows` windows with one label.

    `probability` is its mean over these windows.
    """

    start: int
    end: int
    label: int
    probability: float
    windows: int = 1


def segments(
    found: Iterable[Found], threshold: float = 0.0, *, several: bool = False
) -> Iterator[Segment]:
    """Joins neighbouring windows with the same label; where two overlap, each has its half.

    Args:
      found: windows in order, without gaps between them.
      threshold: a label less probable than this is none.
      several: whether a window has all labels that are probable, as tags are, or its best alone.

    Yields:
      Segments, each when it ends.
    """
    current: dict[int, Segment] = {}  # by their labels
    for share in _shares(found):
        chances = share.probabilities
        labels = range(len(chances)) if several else [int(chances.argmax())]
        going_on = {}
        for label in labels:
            if chances[label] < threshold:
                continue
            new = Segment(share.start, share.end, label, float(chances[label]))
            begun = current.pop(label, None)
            going_on[label] = _joined(begun, new) if begun else new
        yield from current.values()
        current = going_on
    yield from current.values()


def _joined(one: Segment, next_: Segment) -> Segment:
    windows = one.windows + next_.windows
    total = one.windows * one.probability + next_.windows * next_.probability
    return Segment(one.start, next_.end, one.label, total / windows, windows)


def _shares(found: Iterable[Found]) -> Iterator[Found]:
    """The same windows without their overlaps."""
    begin, previous = 0, None
    for window in found:
        if previous is None:
            begin = window.start
        else:
            border = (window.start + previous.end) // 2
            yield Found(begin, border, previous.probabilities)
            begin = border
        previous = window
    if previous is not None:
        yield Found(begin, previous.end, previous.probabilities)
