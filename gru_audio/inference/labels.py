"""Predicts labels: the most probable classes or tags of clips, windows and live sound."""

import contextlib
import functools
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.audio.io import LONGEST
from gru_audio.inference.labeller import Labeller
from gru_audio.inference.predictor import Clip, Predictor, grouped
from gru_audio.inference.printer import Printer, clock
from gru_audio.inference.segments import Found
from gru_audio.inference.windows import (
    Pace,
    label_live,
    label_recording,
    label_stream,
    window_streams,
)
from gru_audio.settings import UserError


@dataclass(frozen=True)
class Labels(Predictor):
    """Prints the most probable labels of clips, and those of the windows of recordings.

    Attributes:
      top_k, threshold: see `Printer`.
      window: seconds per window; None: the longest length that the model was trained on.
      hop: seconds between the starts of two windows; None: half a window.
      smooth: probabilities of live sound are the mean over this many windows.
    """

    top_k: int
    threshold: float | None
    window: float | None
    hop: float | None
    smooth: int

    def __post_init__(self) -> None:
        for name, seconds in (("window", self.window), ("hop", self.hop)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise UserError(f"--{name} must be seconds above 0, not {seconds}.")
        if self.window and self.window * self.rate > LONGEST:
            longest = LONGEST // self.rate
            raise UserError(f"--window is at most {longest} seconds, not {self.window:g}.")
        if not 1 <= self._hop <= self._size:
            raise UserError(
                f"--hop ({self._hop / self.rate:g} s) must be above 0, and at most --window "
                f"({self._size / self.rate:g} s)."
            )

    @property
    def _size(self) -> int:
        """Samples per window."""
        return self.trained.longest if self.window is None else round(self.window * self.rate)

    @property
    def _hop(self) -> int:
        """Samples between the starts of two windows."""
        return max(1, self._size // 2) if self.hop is None else round(self.hop * self.rate)

    @property
    def limit(self) -> int:
        """The largest number of samples of a clip: of a window, if the user chose its length."""
        return super().limit if self.window is None else self._size

    @functools.cached_property
    def _printer(self) -> Printer:
        task = self.trained.program().task
        shown = self.top_k, self.threshold, self.as_json
        return Printer(task.output_names, self.rate, *shown, several=task.several)

    def clips(self, clips: Iterable[Clip]) -> None:
        """Prints a row of labels for each clip, or a line of JSON."""
        self._printer.clips(self._labelled(clips))

    def _labelled(self, clips: Iterable[Clip]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the names and the probabilities (classes,) of clips."""
        model = Labeller(self.trained) if self.window is None else self.trained
        for names, sounds in grouped(clips):
            yield from zip(names, model.probabilities(sounds), strict=True)

    def recording(self, name: str, blocks: Iterable[np.ndarray]) -> None:
        """Prints the stretches of time with one label, or as JSON every window."""
        size, hop = self._size, self._hop
        print(
            f"{name} is cut into windows of {size / self.rate:g} s, one every "
            f"{hop / self.rate:g} s",
            file=sys.stderr,
        )
        self._printer.recording(name, label_recording(self.trained, blocks, size, hop))

    def live(self, blocks: Iterable[np.ndarray]) -> None:
        """Shows the labels of every window, and at the end how many there were."""
        pace, labelled, seconds, late = Pace(self._hop / self.rate), 0, 0.0, False
        found = self._heard(blocks, pace)
        with contextlib.suppress(KeyboardInterrupt), self._printer.live() as show:
            for window in found:
                if pace.skipped and not late:
                    print(
                        "Labelling takes longer than --hop: windows are skipped.", file=sys.stderr
                    )
                late = pace.skipped > 0
                labelled, seconds = labelled + 1, window.end / self.rate
                show(window)
        print(
            f"{clock(seconds)} heard, {labelled} windows labelled, {pace.skipped} skipped",
            file=sys.stderr,
        )

    def _heard(self, blocks: Iterable[np.ndarray], pace: Pace) -> Iterator[Found]:
        """Returns the labels of the windows of live sound."""
        size, hop = self._size, self._hop
        stream = self.started(functools.partial(window_streams, self.trained, size, hop))
        if stream is None:
            return label_live(self.trained, blocks, size, hop, smooth=self.smooth, pace=pace)
        return label_stream(stream, blocks, size, hop, smooth=self.smooth)
