"""The runs of a group as TensorBoard shows them: event files that grow with every save.

An event file is a sequence of records, framed as in a TFRecord file, so it can be added to. On an
object store it cannot: there the file appears when its run has ended.
"""

import contextlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping

from etils import epath
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from gru_audio.files import open_own, read_bytes, write_atomically
from gru_audio.training.metrics import Record

_NAME = "events.out.tfevents.0"  # TensorBoard looks for the middle part
_NOT_SHOWN = ("run", "step", "seconds")


class Boards:
    """The event files of the runs of a group that train.

    They are for lookers-on: what cannot be written is left out until the run has ended.
    """

    def __init__(self, directories: Mapping[str, epath.Path]):
        """Of every run to be shown its directory."""
        self._directories = {
            run: directory for run, directory in directories.items() if "://" not in str(directory)
        }

    def begin(self, records: Iterable[Record]) -> None:
        """Shows these records and no others."""
        for directory, its in self._by_directory(records):
            with contextlib.suppress(OSError):
                write_board(directory, its)

    def add(self, records: Iterable[Record]) -> None:
        """Shows some more."""
        for directory, its in self._by_directory(records):
            path = _path(directory)
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with open_own(path, "ab") as file:
                    file.write(_events(its) if file.tell() else _begun(its))

    def _by_directory(self, records: Iterable[Record]) -> Iterator[tuple[epath.Path, list[Record]]]:
        of_runs: dict[str, list[Record]] = {run: [] for run in self._directories}
        for record in records:
            if record["run"] in of_runs:
                of_runs[record["run"]].append(record)
        for run, directory in self._directories.items():
            yield directory, of_runs[run]


def write_board(directory: epath.Path, records: Iterable[Record]) -> None:
    """Writes a run's event file, unless it holds just that, for TensorBoard may be reading it.

    Raises:
      OSError: it cannot be written.
    """
    path, whole = _path(directory), _begun(records)
    if not path.exists() or read_bytes(path) != whole:
        write_atomically(path, whole)


def _path(directory: epath.Path) -> epath.Path:
    return directory / "tensorboard" / _NAME


def _begun(records: Iterable[Record]) -> bytes:
    return _framed([Event(file_version="brain.Event:2")]) + _events(records)


def _events(records: Iterable[Record]) -> bytes:
    """A scalar for each value that is finite, at its step and its second of training."""
    return _framed(
        Event(
            step=record["step"],
            wall_time=record["seconds"],
            summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]),
        )
        for record in records
        for name, value in record.items()
        if name not in _NOT_SHOWN and value is not None and math.isfinite(value)
    )


def _framed(events: Iterable[Event]) -> bytes:
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    return file.getvalue()
