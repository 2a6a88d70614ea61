"""Joins the predictions on overlapping windows into labelled segments of time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Found:
    """A model's prediction for samples `start` to `end`: probabilities float32 (classes,)."""

    start: int
    end: int
    probabilities: np.ndarray


@dataclass(frozen=True)
class Segment:
    """A stretch of samples with one label.

    Attributes:
      start, end: samples.
      label: the class index.
      probability: the label's mean probability over the windows.
      windows: the number of joined windows.
    """

    start: int
    end: int
    label: int
    probability: float
    windows: int = 1


def segments(
    found: Iterable[Found], threshold: float = 0.0, *, several: bool = False
) -> Iterator[Segment]:
    """Joins neighbouring windows with the same label; two windows share their overlap equally.

    Args:
      found: windows in order, without gaps between them.
      threshold: labels with a lower probability are ignored.
      several: whether a window has every label above the threshold, as with tags, or only the most
        probable one.

    Yields:
      Segments, each as soon as it has ended.
    """
    current: dict[int, Segment] = {}  # by label
    for window in _without_overlaps(found):
        probabilities = window.probabilities
        labels = range(len(probabilities)) if several else [int(probabilities.argmax())]
        continued = {}
        for label in labels:
            if probabilities[label] < threshold:
                continue
            new = Segment(window.start, window.end, label, float(probabilities[label]))
            previous = current.pop(label, None)
            continued[label] = _joined(previous, new) if previous else new
        yield from current.values()
        current = continued
    yield from current.values()


def _joined(first: Segment, second: Segment) -> Segment:
    windows = first.windows + second.windows
    total = first.windows * first.probability + second.windows * second.probability
    return Segment(first.start, second.end, first.label, total / windows, windows)


def _without_overlaps(found: Iterable[Found]) -> Iterator[Found]:
    """Cuts each overlap of two windows in its middle."""
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
