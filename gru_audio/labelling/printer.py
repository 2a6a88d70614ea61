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

from gru_audio.labelling.segments import Found, segments


@dataclass(frozen=True)
class Printer:
    """Prints what a model finds.

    Attributes:
      class_names: of the probabilities.
      rate: of its samples, in Hz.
      top_k: how many labels of a clip or a window are given.
      threshold: of windows whose best label is less probable nothing is said.
      as_json: one object a line, of every clip or window.
    """

    class_names: tuple[str, ...]
    rate: int
    top_k: int
    threshold: float
    as_json: bool

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
            table.add_row(name, *map(_text, self._labels(probabilities)))
        if table.row_count:
            Console().print(table)

    def recording(self, name: str, found: Iterable[Found]) -> None:
        """Prints a recording's segments, or as JSON its windows, as they come."""
        if self.as_json:
            for window in found:
                self._print_json(window, {"file": name})
            return
        width = max(map(len, (*self.class_names, "label")))
        print(f"{name}\n{'start':>11}{'end':>12}  {'label':{width}}  probability")
        for segment in segments(found, self.threshold):
            start, end = (clock(sample / self.rate) for sample in (segment.start, segment.end))
            label = self.class_names[segment.label]
            print(f"{start:>11}{end:>12}  {label:{width}}  {segment.probability:.1%}", flush=True)

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[Found], None]]:
        """Gives what shows a window: as bars where there is a terminal, else as a line."""
        console = Console()
        if self.as_json or not console.is_terminal:
            yield self._print_json if self.as_json else self._print_line
            return
        with Live(console=console, auto_refresh=False) as screen:
            yield lambda window: screen.update(self._bars(window), refresh=True)

    def _print_json(self, window: Found, about: dict[str, Any] | None = None) -> None:
        if self._tells(window):
            times = {"start": window.start / self.rate, "end": window.end / self.rate}
            labels = {"labels": self._labels(window.probabilities)}
            print(json.dumps((about or {}) | times | labels), flush=True)

    def _print_line(self, window: Found) -> None:
        if self._tells(window):
            labels = "  ".join(map(_text, self._labels(window.probabilities)))
            print(f"{clock(window.end / self.rate):>11}  {labels}", flush=True)

    def _bars(self, window: Found) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(clock(window.end / self.rate))
        if self._tells(window):
            for label in self._labels(window.probabilities):
                chance = label["probability"]
                grid.add_row(label["label"], f"{chance:.1%}", Bar(1.0, 0.0, chance, width=40))
        return grid

    def _tells(self, window: Found) -> bool:
        return float(window.probabilities.max()) >= self.threshold

    def _labels(self, probabilities: np.ndarray) -> list[dict[str, Any]]:
        """The most probable labels, the best one first."""
        order = np.argsort(-probabilities)[: self.top_k]
        return [
            {"label": self.class_names[c], "probability": float(probabilities[c])} for c in order
        ]


def clock(seconds: float) -> str:
    """3725.5 as 1:02:05.50."""
    minutes, hundredths = divmod(round(100 * seconds), 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{hundredths / 100:05.2f}"


def _text(label: dict[str, Any]) -> str:
    return f"{label['label']} {label['probability']:.1%}"
