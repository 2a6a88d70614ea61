"""Applies a model to windows: of a recording in batches, of live sound one at a time."""

import collections
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.audio.live import cut
from gru_audio.inference.segments import Found
from gru_audio.inference.trained_model import TrainedModel

_BATCH = 32  # windows of a recording per model call


def label_recording(
    trained: TrainedModel, blocks: Iterable[np.ndarray], size: int, hop: int
) -> Iterator[Found]:
    """Yields the model's prediction for every window, without holding the whole recording.

    Args:
      trained: the model.
      blocks: int16 samples at the model's rate, in order.
      size: samples per window.
      hop: samples between the starts of two windows.
    """
    windows = cut(blocks, size, hop)
    while group := list(itertools.islice(windows, _BATCH)):
        rows = trained.probabilities([window.samples for window in group], batch=_BATCH)
        for window, probabilities in zip(group, rows, strict=True):
            yield Found(window.start, window.end, probabilities)


@dataclass
class Pace:
    """Tracks whether the processing of live windows keeps up with the sound.

    The delay follows Lindley's recursion for a queue with one window every `hop` seconds. It does
    not depend on when the windows arrive, since a pipe may deliver them faster.

    Attributes:
      hop: seconds between two windows.
      behind: the current delay in seconds.
      skipped: the number of skipped windows.
    """

    hop: float
    behind: float = 0.0
    skipped: int = 0

    def worked(self, seconds: float) -> None:
        """Records that a window took `seconds` to process."""
        self.behind = max(0.0, self.behind + seconds - self.hop)

    def skips(self) -> bool:
        """Returns whether to skip the next window because the delay exceeds one hop; counts it."""
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
    """Yields the model's prediction for each window as soon as its sound has arrived.

    The model scores each window from its beginning, although windows overlap, so bidirectional
    models work too. The time that the caller spends on a result counts as processing time.

    Args:
      trained: the model.
      blocks: int16 samples at the model's rate, as they arrive.
      size: samples per window.
      hop: samples between the starts of two windows.
      smooth: the probabilities are the mean over the last `smooth` scored windows.
      pace: decides which windows to skip, and counts them.
    """
    trained.probabilities([np.zeros(size, np.int16)], batch=1)  # compiles before sound arrives
    recent: collections.deque[np.ndarray] = collections.deque(maxlen=smooth)
    for window in cut(blocks, size, hop):
        if pace.skips():
            continue
        began = time.monotonic()
        recent.append(trained.probabilities([window.samples], batch=1)[0])
        yield Found(window.start, window.end, np.mean(recent, axis=0))
        pace.worked(time.monotonic() - began)
