"""A long recording as overlapping windows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """A part of a recording: `samples` int16 (n,), the first of them at sample `start`."""

    start: int
    samples: np.ndarray

    @property
    def end(self) -> int:
        """The first sample behind it."""
        return self.start + len(self.samples)


def cut(blocks: Iterable[np.ndarray], size: int, hop: int) -> Iterator[Window]:
    """Windows of `size` samples, one every `hop`, of consecutive blocks of sound.

    The last window ends where the sound does, and may overlap more. Sound shorter than a window
    is one window. No more is held than a window and a block.

    Args:
      blocks: int16 (any,), in order, of any lengths.
      size: samples, at least 1.
      hop: samples from one window's start to the next one's, 1 to `size`.
    """
    held, start, last = np.empty(0, np.int16), 0, None
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= size:
            last = Window(start, held[:size].copy())
            yield last
            held, start = held[hop:], start + hop
    if last is None:
        if len(held):
            yield Window(0, held)
    elif end := held[size - hop :].size:  # what came behind the last window
        yield Window(last.start + end, np.concatenate([last.samples, held[size - hop :]])[-size:])
