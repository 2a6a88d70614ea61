"""Decodes the class probabilities of frames to a list of sound events.

The steps, in this order:

1. The probability of each class is replaced by its median over a window, centred on the frame.
2. A class is active where its probability reaches its threshold. If events exclude each other, only
   the most probable class can be active, and class 0 is the background.
3. Events shorter than the minimum duration are removed. If events exclude each other, short ones
   that touch are one event of the most frequent class, if it is long enough; otherwise they become
   a part of the event before them, or after them, that they touch. Cohen et al. 2022 (eLife 11,
   e63853) take a vote over all events that touch, which merges events of different classes.
4. Gaps between events of a class are filled if they are shorter than the minimum gap.

All durations are in seconds, so that they mean the same at any frame rate.
"""

import collections
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gru_audio.data.fields import Event

_ROUNDING = 1e-5  # frames; durations may have been stored in float32


class Events(NamedTuple):
    """The events of a recording.

    Attributes:
      times: onset and offset in seconds, float64 (E, 2).
      classes: class indices, int64 (E,).
    """

    times: np.ndarray
    classes: np.ndarray

    def in_order(self) -> list[int]:
        """Returns the classes in the order of the onsets."""
        return self.classes[np.argsort(self.times[:, 0], kind="stable")].tolist()

    def named(self, names: Sequence[str]) -> list[Event]:
        """Returns the events with the names of their classes."""
        pairs = zip(self.times.tolist(), self.classes.tolist(), strict=True)
        return [Event(onset, offset, names[label]) for (onset, offset), label in pairs]


@dataclass(frozen=True)
class Decoder:
    """The parameters of decoding; see the module's docstring.

    Attributes:
      threshold: the threshold of each class but the background.
      exclusive: whether at most one event is active at a time, and frames have probabilities of the
        background, too. A threshold of 0 then leaves the choice to the largest probability.
      median: the window of the median filter in seconds; an odd number of frames is used.
      duration: the minimum duration of an event in seconds.
      gap: the minimum gap between events of a class in seconds.
    """

    threshold: tuple[float, ...]
    exclusive: bool = False
    median: float = 0.0
    duration: float = 0.0
    gap: float = 0.0

    def __post_init__(self) -> None:
        seconds = (self.median, self.duration, self.gap)
        if not all(0 <= value < math.inf for value in seconds):
            raise ValueError(f"durations must be finite and at least 0, not {seconds}")

    def decode(self, frames: np.ndarray, step: float, first: float = 0.0) -> Events:
        """Returns the events in the order of their onsets.

        Args:
          frames: probabilities (T, classes); (T, 1 + classes) if events exclude each other.
          step: the duration of a frame in seconds.
          first: the time at which the first frame begins, in seconds.
        """
        stream = DecoderStream(self, step, first)
        pushed, closed = stream.push(frames), stream.close()
        times = np.concatenate([pushed.times, closed.times])
        classes = np.concatenate([pushed.classes, closed.classes])
        order = np.lexsort((classes, times[:, 1], times[:, 0]))
        return Events(times[order], classes[order])


class DecoderStream:
    """Decodes frames that come in blocks. The memory does not depend on their number.

    The events are those of `Decoder.decode`, in the order in which they become certain.
    """

    def __init__(self, decoder: Decoder, step: float, first: float = 0.0):
        """Starts a recording; the arguments are those of `Decoder.decode`."""
        self._decoder, self._step, self._first = decoder, step, first
        self._half = math.floor(decoder.median / step / 2 + _ROUNDING)
        self._width = len(decoder.threshold) + decoder.exclusive
        self._waiting = np.zeros((self._half, self._width))  # silence before the first frame
        duration, gap = (
            math.ceil(seconds / step - _ROUNDING) for seconds in (decoder.duration, decoder.gap)
        )
        tracks = 1 if decoder.exclusive else self._width
        self._tracks = [_Track(duration, max(1, gap)) for _ in range(tracks)]

    def push(self, frames: np.ndarray) -> Events:
        """Returns the events that become certain with the next frames (n, classes)."""
        if frames.ndim != 2 or frames.shape[1] != self._width:
            raise ValueError(f"frames must be (n, {self._width}), not {frames.shape}")
        waiting = np.concatenate([self._waiting, frames])
        window = 2 * self._half + 1
        self._waiting = waiting[max(0, len(waiting) - window + 1) :]
        if len(waiting) < window:
            return self._events([[] for _ in self._tracks])
        views = np.lib.stride_tricks.sliding_window_view(waiting, window, axis=0)
        labels = self._labels(np.partition(views, self._half)[..., self._half])
        return self._events(
            [track.push(column) for track, column in zip(self._tracks, labels, strict=True)]
        )

    def close(self) -> Events:
        """Returns the other events; no frame follows."""
        last = self.push(np.zeros((self._half, self._width)))
        closed = self._events([track.close() for track in self._tracks])
        return Events(*(np.concatenate(both) for both in zip(last, closed, strict=True)))

    def _labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the labels of the frames of each track (tracks, n); 0: no event."""
        threshold = np.array(self._decoder.threshold)
        if not self._decoder.exclusive:
            return (probabilities >= threshold).T.astype(np.int64)
        labels = probabilities.argmax(axis=1)
        reached = probabilities.max(axis=1) >= np.concatenate([[0.0], threshold])[labels]
        return np.where(reached, labels, 0)[None]

    def _events(self, found: Sequence[Sequence["_Run"]]) -> Events:
        runs = [(run, track) for track, runs in enumerate(found) for run in runs]
        # A track has one class, or all classes after the background.
        classes = [run.label - 1 if self._decoder.exclusive else track for run, track in runs]
        frames = np.array([(run.start, run.stop) for run, _ in runs], np.float64).reshape(-1, 2)
        return Events(self._first + self._step * frames, np.array(classes, np.int64))


class _Run(NamedTuple):
    """Frames `start` to `stop - 1` with the same label; 0: no event."""

    label: int
    start: int
    stop: int


class _Track:
    """Turns labels of frames into events, with at most one event at a time.

    Args:
      duration: the minimum number of frames of an event.
      gap: the minimum number of frames between events with the same label, at least 1.
    """

    def __init__(self, duration: int, gap: int):
        self._duration, self._gap = duration, gap
        self._open = _Run(0, 0, 0)  # the run of the last frame
        self._votes: collections.Counter[int] = collections.Counter()  # frames of short runs
        self._event: _Run | None = None  # the last event, which may still grow

    def push(self, labels: np.ndarray) -> list[_Run]:
        """Returns the events that become certain with the next labels (n,)."""
        certain: list[_Run] = []
        begin = self._open.stop
        edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
        for start, stop in itertools.pairwise(edges):
            if start < stop:
                self._extend(int(labels[start]), begin + stop, certain)
        return certain

    def close(self) -> list[_Run]:
        """Returns the other events."""
        certain: list[_Run] = []
        self._extend(0, self._open.stop + self._gap, certain)
        return certain

    def _extend(self, label: int, stop: int, certain: list[_Run]) -> None:
        """Continues to frame `stop` with a label; adds events that become certain to `certain`."""
        last = self._open
        if label == last.label:
            self._open = last._replace(stop=stop)
        else:
            if self._is_short(last):
                self._votes[last.label] += last.stop - last.start
            self._open = _Run(label, last.stop, stop)
        if not self._is_short(self._open):
            self._join_short(certain)
            self._join(self._open, certain)

    def _is_short(self, run: _Run) -> bool:
        return run.label > 0 and run.stop - run.start < self._duration

    def _join_short(self, certain: list[_Run]) -> None:
        """Joins the short runs before the open run, which is long."""
        if not self._votes:
            return
        frames, stop = self._votes.total(), self._open.start
        before = self._event.label if self._event and self._event.stop == stop - frames else 0
        if frames >= self._duration:
            label = self._votes.most_common(1)[0][0]  # the first one of several
        else:
            label = before or self._open.label
        self._votes.clear()
        if label:
            self._join(_Run(label, stop - frames, stop), certain)

    def _join(self, run: _Run, certain: list[_Run]) -> None:
        """Joins a run to the last event, or ends that event."""
        last = self._event
        if last and last.label == run.label and run.start - last.stop < self._gap:
            self._event = last._replace(stop=run.stop)
        elif run.label:
            certain += [last] if last else []
            self._event = run
        elif last and run.stop - last.stop >= self._gap:
            certain.append(last)
            self._event = None
