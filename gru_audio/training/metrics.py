"""Metrics on disk: immutable numbered segments, and the files people read, derived from them.

A segment holds the records of all members from one checkpoint to the next. On resume the segments
past the checkpoint are dropped and written again, with the same numbers. Object stores can neither
append nor lock; whole files they can.
"""

import json
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from gru_audio.files import matching, parse_json, read_bytes, write_atomically

Record = dict[str, Any]  # {"run", "step", "train/loss", ...}; "seconds" is wall time


class Segments:
    """The metrics of one group, as files `START-STOP.jsonl` of the steps they cover.

    The last line of each tells how many records precede it, and their CRC-32. `say` gets a line
    about what is damaged: metrics are read past it.
    """

    def __init__(self, directory: epath.Path, say: Callable[[str], None]):
        self._directory, self._say = directory, say

    def whole_until(self) -> int:
        """The step up to which no metrics are missing or damaged."""
        reached = 0
        for start, stop, path in self._files():
            if start > reached or _read(path) is None:
                break
            reached = max(reached, stop)
        return reached

    def rewind(self, step: int) -> None:
        """Drops every segment that goes past `step`, to be made again; says which are damaged."""
        for start, stop, path in self._files():
            if _read(path) is None:
                fate = "made again" if stop > step else "lost"
                self._say(
                    f"the metrics of steps {start + 1} to {stop} are damaged: they are {fate}"
                )
            if stop > step:
                path.unlink()

    def write(self, start: int, stop: int, records: list[Record]) -> None:
        """Adds the segment of the steps after `start` up to `stop`.

        Raises:
          OSError: it cannot be written.
        """
        lines = "".join(json.dumps(_plain(record)) + "\n" for record in records)
        end = json.dumps({"records": len(records), "crc32": zlib.crc32(lines.encode())})
        write_atomically(self._directory / f"{start:09d}-{stop:09d}.jsonl", f"{lines}{end}\n")

    def records(self) -> Iterator[Record]:
        """All records in order of steps, but for damaged segments."""
        for _, _, path in self._files():
            yield from _read(path) or []

    def _files(self) -> list[tuple[int, int, epath.Path]]:
        files = []
        for path in matching(self._directory, "*-*.jsonl"):
            start, stop = path.stem.split("-")
            files.append((int(start), int(stop), path))
        return sorted(files, key=lambda file: file[:2])


def _read(path: epath.Path) -> list[Record] | None:
    """The records of a segment; `None` if it is damaged."""
    try:
        *lines, end = read_bytes(path).splitlines(keepends=True)
        told = {"records": len(lines), "crc32": zlib.crc32(b"".join(lines))}
        return [parse_json(line) for line in lines] if parse_json(end) == told else None
    except ValueError:  # no line at all, or no JSON
        return None


def write_run_metrics(directory: epath.Path, records: list[Record]) -> None:
    """Writes a run's `metrics.jsonl`, replacing an older one."""
    records = [{k: v for k, v in record.items() if k != "run"} for record in records]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    write_atomically(directory / "metrics.jsonl", lines)


class Windows:
    """Means over windows of `every` steps, whatever the calls they arrive in.

    Sums are kept in float64 and added step by step, so that the numbers do not depend on where a
    call or a resumed run began.
    """

    def __init__(self, every: int, members: int, names: tuple[str, ...]):
        self._every = every
        self._sums = {name: np.zeros(members) for name in names}

    def add(
        self, step: int, values: dict[str, np.ndarray]
    ) -> list[tuple[int, dict[str, np.ndarray]]]:
        """Takes values (members, steps) of the steps after `step`; returns the windows they end."""
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

    def memory(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps."""
        return self._sums

    def recall(self, memory: dict[str, list[float]]) -> None:
        """Takes up where a checkpoint left off."""
        self._sums = {name: np.array(memory[name], np.float64) for name in self._sums}


def _plain(record: Record) -> Record:
    """JSON has no NaN or infinity: they become null."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }
