"""Labels for people and for programs: tables, lines, bars on a terminal, JSON."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gru_audio.inference.segments import Found, segments

_WIDTH = 1000  # columns of a table in a file


@dataclass(frozen=True)
class Printer:
    """Prints what a model finds.

    Attributes:
      class_names: of the probabilities.
      rate: of its samples, in Hz.
      top_k: how many labels of a clip or a window are given, at most.
      threshold: labels of clips and windows whose best one is less probable are not given, and a
        tag has stretches where it is at least so probable; None: 0, and for these 0.5.
      as_json: one object a line, of every clip or window.
      several: whether sound may have several labels at once, as tags are.
    """

    class_names: tuple[str, ...]
    rate: int
    top_k: int
    threshold: float | None
    as_json: bool
    several: bool = False

    def clips(self, rows: Iterable[tuple[str, np.ndarray]]) -> None:
        """Prints names of files with the probabilities (classes,) of their labels."""
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
        """Prints a recording's segments, or as JSON its windows, as they come."""
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
        """Gives what shows a window: as bars where there is a terminal, else as a line."""
        console = plain_console()
        if self.as_json or not console.is_terminal:
            yield self._print_json if self.as_json else self._print_line
            return
        with Live(console=console, auto_refresh=False) as screen:
            yield lambda window: screen.update(self._bars(window), refresh=True)

    def _print_json(self, window: Found, about: dict[str, Any] | None = None) -> None:
        if labels := self._labels(window.probabilities):
            times = {"start": window.start / self.rate, "end": window.end / self.rate}
            print(json.dumps((about or {}) | times | {"labels": labels}), flush=True)

    def _print_line(self, window: Found) -> None:
        if labels := self._labels(window.probabilities):
            shown = "  ".join(map(_text, labels))
            print(f"{clock(window.end / self.rate):>11}  {shown}", flush=True)

    def _bars(self, window: Found) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(clock(window.end / self.rate))
        for label in self._labels(window.probabilities):
            chance = label["probability"]
            grid.add_row(label["label"], f"{chance:.1%}", Bar(1.0, 0.0, chance, width=40))
        return grid

    def _labels(self, probabilities: np.ndarray) -> list[dict[str, Any]]:
        """The most probable labels, the best one first; none if that is below the threshold."""
        if self.threshold is not None and probabilities.max() < self.threshold:
            return []
        order = np.argsort(-probabilities)[: self.top_k]
        return [
            {"label": self.class_names[c], "probability": float(probabilities[c])} for c in order
        ]


def plain_console() -> Console:
    """Prints names as they are, "[a].wav" too, and whole where it is no terminal."""
    width = None if Console().is_terminal else _WIDTH
    return Console(markup=False, emoji=False, highlight=False, width=width)


def clock(seconds: float) -> str:
    """3725.5 as 1:02:05.50."""
    minutes, hundredths = divmod(round(100 * seconds), 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{hundredths / 100:05.2f}"


def _text(label: dict[str, Any]) -> str:
    return f"{label['label']} {label['probability']:.1%}"
