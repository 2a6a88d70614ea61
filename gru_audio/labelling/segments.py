"""What was found in overlapping windows, as stretches of time with one label."""

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
    """Samples `start` to `end`, from `windows` windows with one best class.

    `probability` is its mean over these windows.
    """

    start: int
    end: int
    label: int
    probability: float
    windows: int = 1


def segments(found: Iterable[Found], threshold: float = 0.0) -> Iterator[Segment]:
    """Joins neighbouring windows with the same best class; where two overlap, each has its half.

    Args:
      found: windows in order, without gaps between them.
      threshold: windows whose best class is less probable than this belong to no segment.
    """
    current: Segment | None = None
    for share in _shares(found):
        label = int(share.probabilities.argmax())
        probability = float(share.probabilities[label])
        if current is not None and (label != current.label or probability < threshold):
            yield current
            current = None
        if probability < threshold:
            continue
        new = Segment(share.start, share.end, label, probability)
        current = _joined(current, new) if current is not None else new
    if current is not None:
        yield current


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
