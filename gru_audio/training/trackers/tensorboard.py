"""TensorBoard: an event file in the folder of each run, which grows with every save.

On a disk new records are appended. An object store does not support this: there the file is written
when its run has ended.
"""

import io
from collections.abc import Iterable, Mapping, Sequence

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from gru_audio.files import open_own, read_bytes, write_atomically
from gru_audio.training.logging import Record
from gru_audio.training.trackers.tracker import TrackedRun, Tracker, scalars, shown, timestamp

_EVENTS = "events.out.tfevents.0"  # TensorBoard searches for the middle part of the name


class TensorBoard(Tracker):
    """Writes scalars with their wall times, and the hyperparameters for the tab HPARAMS."""

    def __init__(self, run: TrackedRun):
        super().__init__(run)
        self._path = run.folder / "tensorboard" / _EVENTS
        self._written = 0  # number of records in the file; 0: it may be out of date

    def update(self, records: Sequence[Record]) -> None:
        if not self.run.is_local:
            return
        written, self._written = self._written, 0  # after an error, all is written again
        if written:
            with open_own(self._path, "ab") as file:
                file.write(_framed(_events(records[written:])))
        else:
            self._write(self._content(records))
        self._written = len(records)

    def finish(self, records: Sequence[Record], final: Mapping[str, float] | None) -> None:
        content = self._content(records)
        if records:
            last, time = records[-1]["step"], timestamp(records[-1])
            results = _scalar_events(last, time, scalars(dict(final or {})))
            end = Event(step=last, wall_time=time, summary=_end(final is None, time))
            content += _framed([*results, end])
        self._write(content)

    def _write(self, content: bytes) -> None:
        """Appends what the file lacks, because TensorBoard may be reading it, or replaces it."""
        there = read_bytes(self._path) if self._path.exists() else b""
        if there and self.run.is_local and content.startswith(there):
            with open_own(self._path, "ab") as file:
                file.write(content[len(there) :])
        else:
            write_atomically(self._path, content)

    def _content(self, records: Sequence[Record]) -> bytes:
        """Returns the whole file: version, hyperparameters, records."""
        began = timestamp(records[0]) if records else 0.0
        settings = {name: shown(value) for name, value in self.run.changes.items()}
        hparams = hparams_pb(settings, trial_id=self.run.name, start_time_secs=began)
        start = [Event(file_version="brain.Event:2", wall_time=began)]
        if records:
            start.append(Event(wall_time=began, summary=hparams))
        return _framed([*start, *_events(records)])


def _events(records: Iterable[Record]) -> Iterable[Event]:
    for record in records:
        yield from _scalar_events(record["step"], timestamp(record), scalars(record))


def _scalar_events(step: int, time: float, values: Mapping[str, float]) -> Iterable[Event]:
    for name, value in values.items():
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        yield Event(step=step, wall_time=time, summary=summary)


def _end(failed: bool, time: float) -> Summary:
    """Returns how a run ended, for the tab HPARAMS."""
    status = Status.STATUS_FAILURE if failed else Status.STATUS_SUCCESS
    end = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time))
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(end),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])


def _framed(events: Iterable[Event]) -> bytes:
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    return file.getvalue()
