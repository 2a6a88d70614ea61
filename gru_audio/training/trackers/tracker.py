"""What a tracker does: it shows the metrics of one run in another program."""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from gru_audio.files import read_bytes, write_atomically
from gru_audio.training.logging import Record

_NO_SCALARS = ("run", "step", "seconds", "time")


@dataclass(frozen=True)
class TrackedRun:
    """A run, as trackers show it.

    Attributes:
      name: name of the run.
      folder: its folder in the workdir, where a tracker may keep files.
      project: name of the project or experiment that the run belongs to.
      variant: name of its variant.
      settings: its config by dotted name, without the settings of the machine.
      changes: its variant, trial and replicate by dotted name, in which runs of a sweep differ.
    """

    name: str
    folder: epath.Path
    project: str
    variant: str
    settings: Mapping[str, Any]
    changes: Mapping[str, Any]

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a disk, not in an object store."""
        return "://" not in str(self.folder)

    def identifier(self) -> str:
        """Returns a random name of the run that stays the same when the run is resumed."""
        path = self.folder / "tracker_id"
        if not path.exists():
            write_atomically(path, secrets.token_hex(8))
        return read_bytes(path).decode()


class Tracker:
    """Shows one run. The methods are called in process 0; errors do not stop training."""

    def __init__(self, run: TrackedRun):
        """The run starts, or is resumed."""
        self.run = run

    def update(self, records: Sequence[Record]) -> None:
        """Shows these records, each exactly once.

        They are all records of the run so far, in order of steps. A run that was killed may have
        shown some of them, or later ones, which will come again with the same values.
        """
        raise NotImplementedError

    def finish(self, records: Sequence[Record], final: Mapping[str, float] | None) -> None:
        """The run has ended.

        Args:
          records: all records of the run.
          final: metrics of its best weights by full name, such as "test/loss"; None: it failed.
        """
        self.update(records)

    def close(self) -> None:
        """The process ends before the run has ended, which may be resumed later."""


def scalars(record: Record) -> dict[str, float]:
    """Returns the finite metrics of a record by name."""
    return {
        name: value
        for name, value in record.items()
        if name not in _NO_SCALARS and value is not None and math.isfinite(value)
    }


def timestamp(record: Record) -> float:
    """Returns the time of a record in seconds since 1970."""
    return record["time" if "time" in record else "seconds"]  # earlier versions have no time


def shown(value: Any) -> Any:
    """Returns a setting as a number, a bool or text."""
    return value if isinstance(value, bool | int | float | str) else str(value)
