"""Trackers: programs that show the metrics of runs, beside the files of the workdir.

A tracker gets its records from the log segments, so a resumed run shows every point once.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gru_audio.settings import UserError, choose
from gru_audio.training.logging import Record
from gru_audio.training.trackers.tracker import TrackedRun, Tracker

MakeTracker = Callable[[TrackedRun], Tracker]


@dataclass(frozen=True)
class Library:
    """A tracker whose library is imported only when it is used.

    Attributes:
      module: the module of this package; also the name of the library and of its extra.
      tracker: the class in it.
    """

    module: str
    tracker: str

    def load(self) -> MakeTracker:
        """Imports the library.

        Raises:
          UserError: it is missing.
        """
        try:
            return getattr(importlib.import_module(f"{__name__}.{self.module}"), self.tracker)
        except ImportError as error:
            raise UserError(
                f"config.log.trackers={self.module}: {self.module} cannot be imported ({error}): "
                f'pip install "gru-audio[{self.module}]"'
            ) from error

    def __call__(self, run: TrackedRun) -> Tracker:
        return self.load()(run)


TRACKERS: dict[str, MakeTracker] = {
    "tensorboard": Library("tensorboard", "TensorBoard"),
    "wandb": Library("wandb", "Wandb"),
    "mlflow": Library("mlflow", "Mlflow"),
}


def check_trackers(names: Iterable[str]) -> None:
    """Raises `UserError` if there is no such tracker, or if its library is missing."""
    for name in names:
        tracker = choose("tracker", name, TRACKERS)
        if isinstance(tracker, Library):
            tracker.load()


class Trackers:
    """The trackers of the runs of a group.

    An error of a tracker is reported to `say` once. Its run is shown again when it has ended.
    """

    def __init__(
        self, names: Sequence[str], runs: Iterable[TrackedRun], say: Callable[[str], None]
    ):
        """Starts the trackers `names` of each run."""
        self._say = say
        self._failed: set[Tracker] = set()
        self._records: dict[str, list[Record]] = {}
        self._trackers: dict[str, list[Tracker]] = {}
        for run in runs:
            self._records[run.name], self._trackers[run.name] = [], []
            for name in names:
                try:
                    self._trackers[run.name].append(choose("tracker", name, TRACKERS)(run))
                except Exception as error:  # each library has its own kinds of errors
                    self._say(f"{run.name} is not shown by {name}: {_line(error)}")

    def reset(self, records: Iterable[Record]) -> None:
        """Shows these records and no others; a resumed run begins with them."""
        self._records = {run: [] for run in self._records}
        self.add(records)

    def add(self, records: Iterable[Record]) -> None:
        """Shows more records."""
        for record in records:
            if record["run"] in self._records:
                self._records[record["run"]].append(record)
        for run, trackers in self._trackers.items():
            for tracker in trackers:
                if tracker not in self._failed:
                    self._call(tracker, tracker.update, self._records[run])

    def finish(
        self, run: str, records: Sequence[Record], final: Mapping[str, float] | None
    ) -> None:
        """A run has ended; see `Tracker.finish`."""
        for tracker in self._trackers.pop(run, ()):
            self._call(tracker, tracker.finish, records, final)

    def close(self) -> None:
        """Closes the trackers of all runs that have not ended."""
        for trackers in self._trackers.values():
            for tracker in trackers:
                self._call(tracker, tracker.close)
        self._trackers = {}

    def _call(self, tracker: Tracker, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception as error:
            if tracker not in self._failed:
                self._say(f"{tracker.run.name}: {type(tracker).__name__}: {_line(error)}")
            self._failed.add(tracker)


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split())[:200] or type(error).__name__}; training goes on"
