"""The recurrences of a group's training program, measured before it is compiled.

"auto" then takes the fastest candidate whose results are right. The choices are in the group's
checkpoints, so that a resumed group has the same program. A cache in the directory of JAX's
compilation cache keeps measurements for other groups. On a CPU nothing is measured.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax
from etils import epath

import gru_audio
from gru_audio.files import write_atomically
from gru_audio.nn.cells import CELLS
from gru_audio.nn.kernels.choice import LOOP, Choice, Problem, candidates, choosing
from gru_audio.nn.kernels.measuring import Row, measure
from gru_audio.platforms import platform
from gru_audio.training import compilation, distributed

_MEASURED = ("gpu", "tpu")
_FOLDER = "recurrences"  # of the cache

Record = dict[str, Any]  # of JSON types
Say = Callable[[str], None]  # prints a line for the user


class Tuning:
    """The choices of a group.

    A choice does not depend on the number of members in a program, although it is measured with
    that of the first one. So it stays when members leave the devices.
    """

    def __init__(
        self,
        say: Say,
        tried: Callable[[Problem, int, str], list[Choice]] = candidates,
        platforms: Sequence[str] = _MEASURED,
    ):
        """Makes the tuning of a new group.

        Args:
          say: gets a line for each measurement, and for each candidate that is left out.
          tried: returns the candidates, see `candidates`.
          platforms: where to measure.
        """
        self._say, self._tried, self._platforms = say, tried, platforms
        self._records: dict[Problem, Record] = {}

    def records(self) -> list[Record]:
        """Returns the choices and measurements so far: "problem", "device", "choice" and "rows"."""
        return list(self._records.values())

    def restore(self, records: list[Record]) -> None:
        """Takes over `records()` of an earlier process, unless it ran on another kind of device."""
        for record in records:
            if record["device"] == _device():
                self._records[Problem(**record["problem"])] = record

    def measure(
        self, trace: Callable[[], Any], members: int, compiler_options: Mapping[str, Any]
    ) -> None:
        """Measures the recurrences of a program that have no choice yet.

        Process 0 measures, and all processes get its choices.

        Args:
          trace: traces the program.
          members: number of members in one `vmap`.
          compiler_options: those of the program.
        """
        if platform() not in self._platforms:
            return
        found: dict[Problem, int] = {}

        def note(problem: Problem, time: int) -> Choice:
            found[problem] = max(time, found.get(problem, 0))
            return LOOP

        with choosing(note):
            trace()
        for problem, time in found.items():
            if problem in self._records:
                continue
            record = functools.partial(self._record, problem, time, members, dict(compiler_options))
            with jax.transfer_guard("allow"):
                self._records[problem] = distributed.broadcast(record)

    def choice(self, problem: Problem, time: int) -> Choice | None:
        """Returns the choice for a problem; None if it was not measured. See `choosing`."""
        record = self._records.get(problem)
        return Choice(**record["choice"]) if record and record["choice"] else None

    @property
    def compiler_options(self) -> dict[str, str]:
        """Options of XLA for programs with the choices."""
        options: dict[str, str] = {}
        for record in self._records.values():
            options |= (record["choice"] or {}).get("compiler_options", {})
        return options

    def _record(self, problem: Problem, time: int, members: int, options: dict[str, Any]) -> Record:
        tried = self._tried(problem, members, platform())
        file = _entry(problem, time, members, tried, options)
        rows = _read(file)
        if not rows:
            self._say(f"{problem}: measuring {len(tried)} ways to run it over time")
            rows = self._measured(problem, time, members, tried, options)
            _write(file, rows)
            for row in rows:
                if "failed" in row:
                    self._say(f"{problem}: without {Choice(**row['choice'])}: {row['failed']}")
        record = {"problem": asdict(problem), "device": _device(), "choice": None, "rows": rows}
        if rows and "us" in rows[0]:
            record["choice"] = rows[0]["choice"]
            loop = next(row["us"] for row in rows if row["choice"] == LOOP.to_json())
            best = f"{Choice(**rows[0]['choice'])} is the fastest, {rows[0]['us'] / 1e3:.3g} ms"
            self._say(f"{problem}: {best} (the loop: {loop / 1e3:.3g} ms)")
        return record

    def _measured(
        self, problem: Problem, time: int, members: int, tried: list[Choice], options: dict
    ) -> list[Row]:
        """Measures with as many members as the loop has memory for; [] if it fails with one."""
        while members:
            try:
                if rows := measure(problem, time, members, tried, options):
                    return rows
            except Exception as error:  # of the driver, or out of memory: training may still work
                reason = f"{error}".partition("\n")[0][:200]
                self._say(f"{problem}: {members} members could not be measured: {reason}")
            members //= 2
        return []


def _device() -> str:
    return jax.local_devices()[0].device_kind


def _entry(
    problem: Problem, time: int, members: int, tried: list[Choice], options: dict[str, Any]
) -> epath.Path | None:
    """Returns the file of a measurement in the cache; None without a cache."""
    folder = compilation.folder()
    if folder is None:
        return None
    cell = CELLS[problem.cell]  # a user's cell may change under its name
    key = {
        "device": _device(),
        "versions": [gru_audio.__version__, jax.__version__, jax.lib.__version__],
        "problem": asdict(problem),
        "cell": [cell.gates, cell.carry, cell.kernels, cell.vectors, cell.slots],
        "time": time,
        "members": members,
        "precision": jax.config.values["jax_default_matmul_precision"],
        "candidates": [choice.to_json() for choice in tried],
        "options": options,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return epath.Path(folder) / _FOLDER / f"{name}.json"


def _read(file: epath.Path | None) -> list[Row]:
    """Returns the rows of an entry; [] if it is missing or damaged."""
    if file is None:
        return []
    try:
        rows = json.loads(file.read_text())
        for row in rows:
            Choice(**row["choice"])
        return rows if "us" in rows[0] else []
    except (OSError, ValueError, TypeError, LookupError):
        return []


def _write(file: epath.Path | None, rows: list[Row]) -> None:
    if file is None or not rows:
        return
    try:
        write_atomically(file, json.dumps(rows, indent=1), shared=True)
    except OSError:  # the cache never stops a command
        return
