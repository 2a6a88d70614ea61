"""What a person sees while runs train: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_SECONDS = 15.0  # between plain lines


class TrainProgress:
    """Progress of one group, as a context manager."""

    def __init__(self, title: str, silent: bool = False):
        """`silent`: another process speaks."""
        self._title, self._silent, self._total = title, silent, 0
        self._console = Console(file=sys.stderr)
        self._live = self._console.is_terminal and not silent
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(title, total=None, text="")

    def __enter__(self) -> "TrainProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, step: int, total: int) -> None:
        """Training begins, or goes on, at `step` of `total`."""
        self._total = total
        self._bar.update(self._task, completed=step, total=total, text="compiling")
        if step:
            self.say(f"{self._title}: resumes at step {step}")

    def step(self, step: int, steps_per_second: float, text: str) -> None:
        """Shows where training is; `text` is the latest metrics."""
        text = f"{steps_per_second:.1f} steps/s  {text}"
        self._bar.update(self._task, completed=step, text=text)
        now = time.monotonic()
        if not self._live and (now - self._last_line > _LINE_SECONDS or step >= self._total):
            self._last_line = now
            self.say(f"{self._title}: step {step}/{self._total}  {text}")

    def say(self, message: str) -> None:
        """One line that stays."""
        if self._live:
            self._bar.console.print(message, highlight=False, markup=False)
        elif not self._silent:
            print(message, file=sys.stderr, flush=True)
