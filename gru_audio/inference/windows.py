"""Applies a model to windows: of a recording in batches, of live sound as it arrives."""

import collections
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.audio.live import cut
from gru_audio.inference.segments import Found
from gru_audio.inference.stream import CHUNK_MS, Stream
from gru_audio.inference.stream_step import stream_step
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


def window_streams(trained: TrainedModel, size: int, hop: int) -> Stream:
    """Starts as many streams as windows overlap; the arguments are those of `label_live`.

    Raises:
      UserError: the model cannot run in a stream.
    """
    step = stream_step(trained, CHUNK_MS)
    chunks = -(-size // step.chunk) + step.flush
    return Stream(trained, step, -(-chunks // _whole_chunks(hop, step.chunk)))


def label_stream(
    stream: Stream, blocks: Iterable[np.ndarray], size: int, hop: int, *, smooth: int
) -> Iterator[Found]:
    """Yields the same as `label_live`, but computes each window while its sound arrives.

    A window is a stream. A stream that has ended begins again with a later window.

    Args:
      stream: the result of `window_streams`.
      blocks: int16 samples at the model's rate, as they arrive.
      size: samples per window.
      hop: samples between the starts of two windows; the nearest multiple of a chunk is used.
      smooth: the probabilities are the mean over the last `smooth` windows.
    """
    chunk, rows = stream.chunk, np.arange(stream.streams)
    every = _whole_chunks(hop, chunk)
    life = -(-size // chunk) + stream.flush  # chunks until the output of a window is known
    latest = np.zeros((len(rows), stream.outputs), np.float32)
    recent: collections.deque[np.ndarray] = collections.deque(maxlen=smooth)
    heard, end = 0, 0
    tail = np.zeros(0, np.int16)
    for number, samples in enumerate(_chunks(blocks, chunk)):
        heard, tail = heard + len(samples), np.concatenate([tail, samples])[-size:]
        age = number - rows * every  # chunks since the first window of each stream
        active, age = age >= 0, age % (len(rows) * every)
        lengths = np.where(active, np.clip(size - chunk * age, 0, chunk), 0)
        padded = np.pad(samples, (0, chunk - len(samples)))
        new = stream.advance(np.tile(padded, (len(rows), 1)), lengths, active & (age == 0))
        for row, outputs in enumerate(new):
            latest[row] = outputs.values[-1] if len(outputs.values) else latest[row]
        start = (number - life + 1) * chunk
        for ended in np.flatnonzero(active & (age == life - 1)):
            if start + size <= heard:
                end = start + size
                recent.append(stream.probabilities(latest[ended]))
                yield Found(start, end, np.mean(recent, axis=0))
        if len(samples) < chunk and start + size >= heard:  # no later window is whole
            break
    if heard > end:  # the last window ends with the sound
        recent.append(stream.trained.probabilities([tail], batch=1)[0])
        yield Found(heard - len(tail), heard, np.mean(recent, axis=0))


def _whole_chunks(samples: int, chunk: int) -> int:
    """Returns the number of chunks that is nearest to a duration in samples, at least 1."""
    return max(1, round(samples / chunk))


def _chunks(blocks: Iterable[np.ndarray], chunk: int) -> Iterator[np.ndarray]:
    """Yields chunks of samples, then what is left, and then chunks without samples."""
    waiting = np.zeros(0, np.int16)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= chunk:
            yield waiting[:chunk]
            waiting = waiting[chunk:]
    yield waiting
    yield from itertools.repeat(waiting[:0])
