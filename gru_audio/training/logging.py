"""Outputs of a run during training: log segments, status and progress.

A log segment is an immutable file with the metrics of all members from one checkpoint to the next.
On resume, segments after the checkpoint are deleted and written again with the same values.
Object stores can neither append nor lock, but they can write whole files.
"""

import contextlib
import datetime
import json
import math
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gru_audio.files import matching, parse_json, read_bytes, write_atomically

# {"run", "step", "train/loss", ...}; "seconds" of training, and "time" in seconds since 1970
Record = dict[str, Any]

# States of a group, as its `status.json` names them.
COMPILING, TRAINING, SCORING = "compiling", "training", "scoring"
FINISHED, FAILED = "finished", "failed"
STOPPED, PREEMPTED = "stopped", "preempted"  # by Ctrl-C, by SIGTERM

_HEARTBEAT_SECONDS = 5.0  # between heartbeats of one state
_LINE_SECONDS = 15.0  # between plain lines of progress


@dataclass(frozen=True)
class Elapsed:
    """A duration, or a reading of two clocks. Only differences of readings are meaningful.

    On a busy machine wall time includes other work. Processor time is that of this process only.

    Attributes:
      wall: seconds.
      cpu: seconds of processor time, summed over the threads of this process.
    """

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> "Elapsed":
        """Reads both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Elapsed") -> "Elapsed":
        return Elapsed(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: "Elapsed") -> "Elapsed":
        return Elapsed(self.wall - other.wall, self.cpu - other.cpu)


class LogSegments:
    """The metrics of one group, as files `START-STOP.jsonl` named by the steps they cover.

    The last line of a file holds the number of records before it and their CRC-32. Damaged files
    are reported to `say` and skipped.
    """

    def __init__(self, directory: epath.Path, say: Callable[[str], None]):
        self._directory, self._say = directory, say

    def whole_until(self) -> int:
        """Returns the step up to which all metrics are present and undamaged."""
        reached = 0
        for start, stop, path in self._files():
            if start > reached or _read(path) is None:
                break
            reached = max(reached, stop)
        return reached

    def rewind(self, step: int) -> None:
        """Deletes every segment that ends after `step`. Reports damaged ones."""
        for start, stop, path in self._files():
            if _read(path) is None:
                outcome = "computed again" if stop > step else "lost"
                self._say(f"the metrics of steps {start + 1} to {stop} are damaged and {outcome}")
            if stop > step:
                path.unlink()

    def write(self, start: int, stop: int, records: list[Record]) -> None:
        """Writes the segment of the steps `start` + 1 to `stop`.

        Raises:
          OSError: the file cannot be written.
        """
        lines = "".join(json.dumps(_plain(record)) + "\n" for record in records)
        end = json.dumps({"records": len(records), "crc32": zlib.crc32(lines.encode())})
        write_atomically(self._directory / f"{start:09d}-{stop:09d}.jsonl", f"{lines}{end}\n")

    def records(self) -> Iterator[Record]:
        """Returns all records of undamaged segments, in order of steps."""
        for _, _, path in self._files():
            yield from _read(path) or []

    def _files(self) -> list[tuple[int, int, epath.Path]]:
        files = []
        for path in matching(self._directory, "*-*.jsonl"):
            start, stop = path.stem.split("-")
            files.append((int(start), int(stop), path))
        return sorted(files, key=lambda file: file[:2])


def _read(path: epath.Path) -> list[Record] | None:
    """Returns the records of a segment; None if it is damaged."""
    try:
        *lines, end = read_bytes(path).splitlines(keepends=True)
        found = {"records": len(lines), "crc32": zlib.crc32(b"".join(lines))}
        return [parse_json(line) for line in lines] if parse_json(end) == found else None
    except ValueError:  # the file is empty, or no JSON
        return None


def write_run_metrics(directory: epath.Path, records: list[Record]) -> None:
    """Writes a run's `metrics.jsonl`, replacing an older one."""
    records = [{k: v for k, v in record.items() if k != "run"} for record in records]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    write_atomically(directory / "metrics.jsonl", lines)


class RunningMeans:
    """Means of training metrics over windows of `every` steps.

    Sums are float64 and grow step by step, so that the means do not depend on where a call or a
    resumed run began.
    """

    def __init__(self, every: int, members: int, names: tuple[str, ...]):
        self._every = every
        self._sums = {name: np.zeros(members) for name in names}

    def add(
        self, step: int, values: dict[str, np.ndarray]
    ) -> list[tuple[int, dict[str, np.ndarray]]]:
        """Adds values (members, steps) of the steps after `step`.

        Returns:
          For each window that ends in these steps: last step, and means (members,) by name.
        """
        ended = []
        count = next(iter(values.values())).shape[1]
        for i in range(count):
            for name, total in self._sums.items():
                total += values[name][:, i]
            if (step + i + 1) % self._every == 0:
                means = {name: total / self._every for name, total in self._sums.items()}
                ended.append((step + i + 1, means))
                for total in self._sums.values():
                    total[:] = 0
        return ended

    def state(self) -> dict[str, list[float]]:
        """Returns the unfinished window, for a checkpoint."""
        return {name: total.tolist() for name, total in self._sums.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Continues the window of a checkpoint."""
        self._sums = {name: np.array(state[name], np.float64) for name in self._sums}


def _plain(record: Record) -> Record:
    """Replaces NaN and infinity, which JSON does not have, by None."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }


class Heartbeat:
    """Writes `status.json`: state of a group, progress, time, and the process."""

    def __init__(self, file: epath.Path):
        self._file, self._written_at = file, -_HEARTBEAT_SECONDS
        self._status: dict[str, Any] = {
            "state": None,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": _now(),
        }

    def beat(self, state: str, **news: Any) -> None:
        """Updates the state and `news`. Writes the same state at most once in a few seconds.

        Only observers read the file, so errors are ignored.
        """
        changed = state != self._status["state"]
        self._status |= {"state": state, "heartbeat": _now()} | news
        if changed or time.monotonic() - self._written_at >= _HEARTBEAT_SECONDS:
            self._written_at = time.monotonic()
            with contextlib.suppress(Exception):  # each object store has its own kinds of error
                write_atomically(self._file, json.dumps(self._status, indent=1))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class TrainProgress:
    """Progress of one group, as a context manager: a live line on a terminal, else plain lines."""

    def __init__(self, title: str, silent: bool = False):
        """`silent`: whether to print nothing, because another process prints."""
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
        """Training starts or resumes at `step` of `total`."""
        self._total = total
        self._bar.update(self._task, completed=step, total=total, text="compiling")
        if step:
            self.say(f"{self._title}: resumes at step {step}")

    def step(self, step: int, steps_per_second: float, text: str) -> None:
        """Shows the current step and the latest metrics, `text`."""
        text = f"{steps_per_second:.1f} steps/s  {text}"
        self._bar.update(self._task, completed=step, text=text)
        now = time.monotonic()
        if not self._live and (now - self._last_line > _LINE_SECONDS or step >= self._total):
            self._last_line = now
            self.say(f"{self._title}: step {step}/{self._total}  {text}")

    def say(self, message: str) -> None:
        """Prints a line."""
        if self._live:
            self._bar.console.print(message, highlight=False, markup=False)
        elif not self._silent:
            print(message, file=sys.stderr, flush=True)
