"""Predicts sound events: lists of onset, offset and class, of recordings and live sound."""

import contextlib
import functools
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.audio.frontends.frontend import Frontend
from gru_audio.audio.io import LONGEST
from gru_audio.audio.live import Window, cut
from gru_audio.data.fields import Event
from gru_audio.events.formats import FORMATS, dcase
from gru_audio.inference.detector import Detector
from gru_audio.inference.predictor import Clip, Predictor, grouped
from gru_audio.inference.stream import Stream
from gru_audio.settings import UserError

_BATCH = 4  # windows of a recording per model call
_LIVE = "live"  # the file name of live sound


@dataclass(frozen=True)
class EventLists(Predictor):
    """Prints the events of files, each as soon as it is certain.

    A clip is one window, as in an evaluation. A recording is cut into overlapping windows, and each
    contributes the frames around its middle. Live sound is a stream, and an event is printed when
    it has ended. If the model cannot run in a stream, or the user asks for windows, it is cut into
    windows of the length of the training examples.

    Attributes:
      format: a key of `gru_audio.events.formats.FORMATS`.
      threshold: the threshold of all classes; None: those chosen on the validation split.
      window: seconds per window; None: the length of the longest clip of the data set, and for live
        sound the longest length that the model was trained on.
      hop: seconds between the starts of two windows; None: half a window.
    """

    format: str
    threshold: float | None
    window: float | None
    hop: float | None

    def __post_init__(self) -> None:
        for name, seconds in (("window", self.window), ("hop", self.hop)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise UserError(f"--{name} must be seconds above 0, not {seconds}.")
        if self.window and self.window * self.rate > LONGEST:
            longest = LONGEST // self.rate
            raise UserError(f"--window is at most {longest} seconds, not {self.window:g}.")

    @property
    def single(self) -> bool:
        """A label track does not name its file."""
        return FORMATS[self.format].single and not self.as_json

    @property
    def limit(self) -> int:
        """The largest number of samples of a clip: of a window, if the user chose its length."""
        return super().limit if self.window is None else round(self.window * self.rate)

    @functools.cached_property
    def _detector(self) -> Detector:
        return Detector(self.trained, self.threshold)

    @functools.cached_property
    def _frontend(self) -> Frontend:
        return self.trained.program().frontend

    def clips(self, clips: Iterable[Clip]) -> None:
        """Prints the events of clips."""
        if self.format == "dcase" and not self.as_json:
            print(dcase({}), end="")  # the names of the columns
        for names, sounds in grouped(clips):
            for name, frames in zip(names, self._detector.frames(sounds), strict=True):
                self._print(name, [self._detector.events(frames)])

    def recording(self, name: str, blocks: Iterable[np.ndarray]) -> None:
        """Prints the events of a recording."""
        self._print(name, self._events(cut(blocks, *self._size_and_hop(self.limit))))

    def live(self, blocks: Iterable[np.ndarray]) -> None:
        """Prints the events of live sound."""
        with contextlib.suppress(KeyboardInterrupt):
            self._print(_LIVE, self._heard(blocks))

    def _heard(self, blocks: Iterable[np.ndarray]) -> Iterator[list[Event]]:
        """Yields the events of live sound that have become certain."""
        size, hop = self._size_and_hop(self.limit if self.window else self.trained.longest)
        stream = None
        if not (self.window or self.hop):
            stream = self.started(functools.partial(Stream.of, self.trained))
        if stream:
            yield from stream.events(blocks, self._detector)
            return
        self.trained.outputs([np.zeros(size, np.int16)], batch=1)  # compiles before sound arrives
        yield from self._events(cut(blocks, size, hop), batch=1)

    def _size_and_hop(self, size: int) -> tuple[int, int]:
        """Returns the samples of a window, and between the starts of two: whole frames."""
        frame, hop = self._frontend.hop, size / 2
        if self.hop is not None:
            hop = self.hop * self.rate
        hop = frame * max(1, round(hop / frame))
        least = hop + self._frontend.samples(1)
        if least > size:
            raise UserError(
                f"--hop ({hop / self.rate:g} s) must be shorter than --window "
                f"({size / self.rate:g} s), which needs at least {least / self.rate:g} s."
            )
        return size, hop

    def _events(self, windows: Iterable[Window], batch: int = _BATCH) -> Iterator[list[Event]]:
        """Yields the events of one sound that have become certain."""
        return self._detector.stream(middles(self._frames(windows, batch)))

    def _frames(self, windows: Iterable[Window], batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields for each window the number of its first frame, and its probabilities (n, outputs).

        A window that does not begin at a frame of the recording begins at the next one.
        """
        hop, windows = self._frontend.hop, iter(windows)
        while group := list(itertools.islice(windows, batch)):
            sounds = [window.samples[-window.start % hop :] for window in group]
            for window, frames in zip(group, self._detector.frames(sounds, batch), strict=True):
                yield -(-window.start // hop), frames

    def _print(self, name: str, found: Iterable[list[Event]]) -> None:
        empty = True
        for events in found:
            empty = empty and not events
            if self.as_json:
                lines = [json.dumps({"file": name, **event._asdict()}) + "\n" for event in events]
            else:
                lines = [FORMATS[self.format].rows(name, events)] if events else []
            print(*lines, sep="", end="", flush=True)
        if empty and not self.as_json:
            print(FORMATS[self.format].rows(name, []), end="", flush=True)


def middles(windows: Iterable[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
    """Joins the frames of overlapping windows; each overlap is divided in its middle.

    Args:
      windows: the number of the first frame, and the frames (n, ...), of windows in order.

    Yields:
      Consecutive frames, without gaps and repetitions.
    """
    begin, before = 0, None
    for start, frames in windows:
        if before is not None:
            first, earlier = before
            border = (start + first + len(earlier)) // 2
            yield earlier[begin - first : border - first]
            begin = border
        before = start, frames
    if before is not None:
        first, earlier = before
        yield earlier[begin - first :]
