"""A model on windows: of a recording, many at a time; of sound that is coming, each at once."""

import collections
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.audio.live import cut
from gru_audio.inference.segments import Found
from gru_audio.inference.trained_model import TrainedModel

_TOGETHER = 32  # windows of a recording


def label_recording(
    trained: TrainedModel, blocks: Iterable[np.ndarray], size: int, hop: int
) -> Iterator[Found]:
    """What the model finds in every window of a recording, which is never held as a whole.

    Args:
      trained: the model.
      blocks: int16 samples at the model's rate, in order.
      size: samples of a window.
      hop: samples from one window to the next.
    """
    windows = cut(blocks, size, hop)
    while some := list(itertools.islice(windows, _TOGETHER)):
        rows = trained.probabilities([window.samples for window in some], batch=_TOGETHER)
        for window, probabilities in zip(some, rows, strict=True):
            yield Found(window.start, window.end, probabilities)


@dataclass
class Pace:
    """Whether work on windows keeps up with sound that brings one every `hop` seconds.

    Waiting work is counted as in a queue (Lindley's recursion), whenever the windows come: a pipe
    may also bring them faster.
    """

    hop: float
    behind: float = 0.0  # seconds
    skipped: int = 0  # windows

    def worked(self, seconds: float) -> None:
        """A window took this long."""
        self.behind = max(0.0, self.behind + seconds - self.hop)

    def skips(self) -> bool:
        """Whether the next window is left out, because it would come more than a hop late."""
        if self.behind <= self.hop:
            return False
        self.behind -= self.hop
        self.skipped += 1
        return True


def label_live(
    trained: TrainedModel,
    blocks: Iterable[np.ndarray],
    size: int,
    hop: int,
    *,
    smooth: int,
    pace: Pace,
) -> Iterator[Found]:
    """What the model finds in each window as soon as its sound has come.

    Windows are scored again from their beginning, though they overlap: a bidirectional model, too,
    hears each as a clip. What is done with a result counts as work on it.

    Args:
      trained: the model.
      blocks: int16 samples at the model's rate, as they come.
      size: samples of a window.
      hop: samples from one window to the next.
      smooth: the probabilities are the mean over so many windows, this and those before it.
      pace: counts the windows that are skipped.
    """
    trained.probabilities([np.zeros(size, np.int16)], batch=1)  # compiled before sound comes
    recent: collections.deque[np.ndarray] = collections.deque(maxlen=smooth)
    for window in cut(blocks, size, hop):
        if pace.skips():
            continue
        began = time.monotonic()
        recent.append(trained.probabilities([window.samples], batch=1)[0])
        yield Found(window.start, window.end, np.mean(recent, axis=0))
        pace.worked(time.monotonic() - began)
