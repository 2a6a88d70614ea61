"""Prints predicted labels as tables, lines, bars on a terminal, or JSON."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gru_audio.inference.labeller import ranked
from gru_audio.inference.segments import Found, segments

_WIDTH = 1000  # columns of a table in a file


@dataclass(frozen=True)
class Printer:
    """Prints the labels that a model predicts.

    Attributes:
      class_names: the names of the classes, in the order of the probabilities.
      rate: the model's sample rate in Hz.
      top_k: the largest number of labels per clip or window.
      threshold: a clip or window gets no labels if its largest probability is below this. In a
        recording a tag has segments where its probability is at least this. None: 0 for clips and
        windows, 0.5 for the segments of tags.
      as_json: whether to print one JSON object per clip or window.
      several: whether sound may have several labels at once, as with tags.
    """

    class_names: tuple[str, ...]
    rate: int
    top_k: int
    threshold: float | None
    as_json: bool
    several: bool = False

    def clips(self, rows: Iterable[tuple[str, np.ndarray]]) -> None:
        """Prints the labels of clips: pairs of a file name and probabilities (classes,)."""
        if self.as_json:
            for name, probabilities in rows:
                print(json.dumps({"file": name, "labels": self._labels(probabilities)}))
            return
        table = Table()
        table.add_column("file", overflow="fold")
        for place in range(min(self.top_k, len(self.class_names))):
            table.add_column("label" if place == 0 else f"{place + 1}.")
        for name, probabilities in rows:
            table.add_row(name, *([_text(label) for label in self._labels(probabilities)] or ["-"]))
        if table.row_count:
            plain_console().print(table)

    def recording(self, name: str, found: Iterable[Found]) -> None:
        """Prints a recording's segments, or as JSON its windows, each as soon as it is known."""
        if self.as_json:
            for window in found:
                self._print_json(window, {"file": name})
            return
        width = max(map(len, (*self.class_names, "label")))
        threshold = 0.5 * self.several if self.threshold is None else self.threshold
        print(f"{name}\n{'start':>11}{'end':>12}  {'label':{width}}  probability")
        for segment in segments(found, threshold, several=self.several):
            start, end = (clock(sample / self.rate) for sample in (segment.start, segment.end))
            label = self.class_names[segment.label]
            print(f"{start:>11}{end:>12}  {label:{width}}  {segment.probability:.1%}", flush=True)

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[Found], None]]:
        """Yields a function that shows a window: as bars on a terminal, otherwise as a line."""
        console = plain_console()
        if self.as_json or not console.is_terminal:
            yield self._print_json if self.as_json else self._print_line
            return
        with Live(console=console, auto_refresh=False) as screen:
            yield lambda window: screen.update(self._bars(window), refresh=True)

    def _print_json(self, window: Found, extra: dict[str, Any] | None = None) -> None:
        if labels := self._labels(window.probabilities):
            times = {"start": window.start / self.rate, "end": window.end / self.rate}
            print(json.dumps((extra or {}) | times | {"labels": labels}), flush=True)

    def _print_line(self, window: Found) -> None:
        if labels := self._labels(window.probabilities):
            shown = "  ".join(map(_text, labels))
            print(f"{clock(window.end / self.rate):>11}  {shown}", flush=True)

    def _bars(self, window: Found) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(clock(window.end / self.rate))
        for label in self._labels(window.probabilities):
            probability = label["probability"]
            bar = Bar(1.0, 0.0, probability, width=40)
            grid.add_row(label["label"], f"{probability:.1%}", bar)
        return grid

    def _labels(self, probabilities: np.ndarray) -> list[dict[str, Any]]:
        """Returns the most probable labels in order; none if the first is below the threshold."""
        if self.threshold is not None and probabilities.max() < self.threshold:
            return []
        first = itertools.islice(ranked(self.class_names, probabilities).items(), self.top_k)
        return [{"label": label, "probability": probability} for label, probability in first]


def plain_console() -> Console:
    """Returns a console without markup, so "[a].wav" prints unchanged; wide if not a terminal."""
    width = None if Console().is_terminal else _WIDTH
    return Console(markup=False, emoji=False, highlight=False, width=width)


def clock(seconds: float) -> str:
    """Formats seconds: 3725.5 as 1:02:05.50."""
    minutes, hundredths = divmod(round(100 * seconds), 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{hundredths / 100:05.2f}"


def _text(label: dict[str, Any]) -> str:
    return f"{label['label']} {label['probability']:.1%}"
