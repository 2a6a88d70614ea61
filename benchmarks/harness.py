"""Timing: contestants take turns in one process, and results are medians with quartiles.

A benchmark is a function `measure` that yields rows. A row is a dict of JSON values. Its key
"table" is the title of its table. A value that is a dict of "q1", "median" and "q3" summarises the
rounds.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

_PAUSE = 0.005  # seconds between turns, because idle thread pools spin for a while
_MAX_THREADS = 12
LEAST_ROUNDS = 8
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "torch")

Row = dict[str, Any]  # JSON
Spread = dict[str, float]  # "q1", "median", "q3"
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes:
      seconds: duration of each comparison, without compilation.
      config: config of an experiment; not used by all benchmarks.
      check: whether to compare results with float64 first.
      grid: whether to measure many more sizes.
    """

    seconds: float
    config: ConfigDict | None = None
    check: bool = False
    grid: bool = False


@dataclass(frozen=True)
class Contestant:
    """Compiled code that can be timed.

    Attributes:
      turn: a function of the number of the round, which returns when its work is done; or several
        such functions by name. The speed of the last one is compared.
      steps: steps in one turn. Times are per step.
      work: work of one step. Speed is work per time.
      about: other values for the row.
    """

    turn: Callable[[int], Any] | Mapping[str, Callable[[int], Any]]
    steps: int = 1
    work: float = 1.0
    about: Mapping[str, Any] = field(default_factory=dict)


def compete(
    makers: Mapping[str, Callable[[], Contestant]], seconds: float, peers: Sequence[str] = ()
) -> list[Row]:
    """Times contestants that take turns.

    Args:
      makers: functions that compile a contestant, by name. If one fails, its row has the error.
      seconds: duration of all rounds together.
      peers: names of contestants to compare with. A row's "speed" is, for each peer, the ratio of
        the speeds in each round. "PyTorch" is the fastest of "PyTorch, packed" and "PyTorch,
        padded" if no contestant has exactly this name.

    Returns:
      A row for each contestant: "contestant", "ms" for a step (or "forward_ms" for the turn
      "forward"), "speed", and the values of `Contestant.about`.
    """
    ready, failed = made(makers)
    rows = _timed(ready, seconds, peers)
    return rows + [{"contestant": name, "failed": why} for name, why in failed.items()]


def compete_in_turn(
    makers: Mapping[str, Callable[[], Contestant]],
    seconds: float,
    peers: Sequence[str] = (),
    patience: float = 60.0,
    threads: int = _MAX_THREADS,
) -> Iterator[Row]:
    """Like `compete`, but yields each row as soon as it is measured.

    A contestant takes turns with the peers only. One that is not compiled after `patience` seconds
    is left out; its compiler goes on in the background, so end the process with `os._exit`.
    Makers that measure something themselves need `threads` 1.
    """
    pool = ThreadPoolExecutor(min(cores(), threads))
    futures = {pool.submit(make): name for name, make in makers.items()}
    finished, late = wait(futures, patience)
    found = {futures[future]: future for future in finished}
    ready = {name: found[name].result() for name in makers if _succeeded(found.get(name))}
    with_peers = {name: one for name, one in ready.items() if name.startswith(tuple(peers))}
    share = seconds / max(1, len(ready))
    for name, one in ready.items():
        rows = _timed({**with_peers, name: one}, share, peers)
        yield next(row for row in rows if row["contestant"] == name)
    for future in finished:
        if error := future.exception():
            yield {"contestant": futures[future], "failed": _first_line(error)}
    for future in late:
        yield {"contestant": futures[future], "failed": f"not compiled in {patience:g} s"}
    pool.shutdown(wait=False, cancel_futures=True)


def _succeeded(future: Future | None) -> bool:
    return future is not None and future.exception() is None


def _timed(ready: Mapping[str, Contestant], seconds: float, peers: Sequence[str]) -> list[Row]:
    """Returns the rows of contestants that take turns."""
    turns: dict[tuple[str, str], Callable[[int], Any]] = {}
    for name, one in ready.items():
        kinds = one.turn if isinstance(one.turn, Mapping) else {"": one.turn}
        turns |= {(name, kind): turn for kind, turn in kinds.items()}
    times = interleave(turns, seconds)
    step = {key: taken / ready[key[0]].steps for key, taken in times.items()}
    compared = {name: taken / ready[name].work for (name, _), taken in step.items()}
    rows: list[Row] = []
    for name, one in ready.items():
        row: Row = {"contestant": name}
        for (other, kind), taken in step.items():
            if other == name:
                row[f"{kind}_ms" if kind else "ms"] = spread(taken * 1e3)
        found = {peer: _fastest(compared, peer) for peer in peers}
        row["speed"] = {p: speed(compared[name], compared[n]) for p, n in found.items() if n}
        rows.append(row | dict(one.about))
    return rows


def _fastest(times: Mapping[str, np.ndarray], peer: str) -> str | None:
    forms = [peer] if peer in times else [n for n in times if n.startswith(f"{peer}, ")]
    return min(forms, key=lambda name: float(np.median(times[name])), default=None)


def made(makers: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    """Returns the results of the makers that succeed, and the first line of other errors.

    The makers run at the same time, on as many threads as there are cores, since most of them only
    wait for a compiler.
    """
    ready, failed = {}, {}
    with ThreadPoolExecutor(min(cores(), _MAX_THREADS)) as pool:
        futures = {name: pool.submit(make) for name, make in makers.items()}
        for name, future in futures.items():
            say(f"  {name}")
            try:
                ready[name] = future.result()
            except Exception as exception:
                failed[name] = _first_line(exception)
    return ready, failed


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def interleave(
    contestants: Mapping[Any, Callable[[int], Any]], seconds: float
) -> dict[Any, np.ndarray]:
    """Measures contestants that take turns, so that other load on the machine slows all equally.

    Args:
      contestants: functions by name. Each is called with the number of the round and returns when
        its work is done. The order is rotated by one each round.
      seconds: duration of all rounds together. There are at least `LEAST_ROUNDS` rounds, after one
        round that is not counted.

    Returns:
      Wall time in seconds, (rounds,) for each contestant.
    """
    names = list(contestants)
    times: list[list[float]] = []
    began, round_ = time.perf_counter(), 0
    while names and (round_ <= LEAST_ROUNDS or time.perf_counter() - began < seconds):
        first = round_ % len(names)
        taken = {}
        for name in names[first:] + names[:first]:
            time.sleep(_PAUSE)
            start = time.perf_counter()
            contestants[name](round_)
            taken[name] = time.perf_counter() - start
        if round_:
            times.append([taken[name] for name in names])
        round_ += 1
    return dict(zip(names, np.array(times).T, strict=True))


def turn(run: Callable[[], Any], steps: int = 1) -> Callable[[int], None]:
    """Returns a turn that calls a function without arguments `steps` times."""

    def contestant(_: int) -> None:
        for _ in range(steps):
            run()

    return contestant


def stepping(step: Callable[[], Any], steps: int) -> Callable[[], Contestant]:
    """Returns a maker of a contestant with `steps` steps per turn."""
    return lambda: Contestant(turn(step, steps), steps)


def spread(values: np.ndarray) -> Spread:
    """Returns median and quartiles."""
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"q1": q1, "median": median, "q3": q3}


def speed(ours: np.ndarray, peer: np.ndarray) -> Spread:
    """Returns the speed relative to the peer: the ratio of the times in each round."""
    return spread(peer / ours)


def judged(row: Row, bars: Mapping[str, float]) -> Row:
    """Returns the row, with whether its speed reaches the minimum for each peer."""
    verdicts = []
    for peer, minimum in bars.items():
        if found := row.get("speed", {}).get(peer):
            value = found["median"] if isinstance(found, dict) else found
            verdicts.append(f"{'met' if value >= minimum else 'MISSED'} ({minimum:g} / {peer})")
    return row | {"bar": ", ".join(verdicts)} if verdicts else row


def host() -> Row:
    """Returns machine, cores and versions."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "processor": _processor(),
        "cores": cores(),
        "load_before": os.getloadavg()[0],
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        "python": platform.python_version(),
        "versions": versions,
    }


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def say(text: str) -> None:
    """Prints a progress message to standard error."""
    print(text, file=sys.stderr, flush=True)


def record(name: str, command: str, rows: Iterable[Row], path: str | None) -> Row:
    """Runs a benchmark, and writes all rows so far to `path` after each row."""
    result: Row = {"benchmark": name, "command": command, "host": host(), "rows": []}
    for row in rows:
        result["rows"].append(row)
        if path:
            epath.Path(path).write_text(json.dumps(result, indent=1))
    return result


def show(result: Row, console: Console) -> None:
    """Prints the tables of a result: medians with quartiles in brackets."""
    about = result["host"]
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    console.print(
        f"{about['processor']}, {about['cores']} cores, load {about['load_before']:.1f} before; "
        f"{about['devices']} {about['device']} device; Python {about['python']}, {versions}"
    )
    for title in dict.fromkeys(row["table"] for row in result["rows"]):
        rows = [_flat(row) for row in result["rows"] if row["table"] == title]
        table = Table(title=title)
        columns = dict.fromkeys(name for row in rows for name in row)
        for name in columns:
            text = all(isinstance(row.get(name), str | None) for row in rows)
            table.add_column(name.replace("_", " "), justify="left" if text else "right")
        for row in rows:
            table.add_row(*(_cell(name, row.get(name)) for name in columns))
        console.print(table)


def _flat(row: Row) -> Row:
    """Returns the row without its table, and with a column for each speed."""
    flat: Row = {}
    for name, value in row.items():
        if name == "speed":
            flat |= {f"/ {peer}": found for peer, found in value.items()}
        elif name != "table":
            flat[name] = value
    return flat


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        digits = 2 if value["median"] < 10 else 1
        low, middle, high = (f"{value[k]:.{digits}f}" for k in ("q1", "median", "q3"))
        return f"{middle} [{low}, {high}]"
    if name.endswith("_bytes"):
        return f"{value / 1e6:,.2f} MB"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plot(result: Row, path: str) -> None:
    """Draws the speeds of all contestants relative to the first peer, with a panel per table.

    Args:
      result: result of `record`.
      path: file of the figure. Its suffix determines the format.
    """
    rows = [row for row in result["rows"] if row.get("speed") and "case" in row]
    titles = list(dict.fromkeys(row["table"] for row in rows))
    figure = Figure(figsize=(10, 1 + 3 * len(titles)), layout="constrained")
    panels = figure.subplots(len(titles), 1, squeeze=False)[:, 0]
    for axes, title in zip(panels, titles, strict=True):
        shown = [row for row in rows if row["table"] == title]
        peer = next(iter(shown[0]["speed"]))
        shown = [row for row in shown if peer in row["speed"] and row["contestant"] != peer]
        cases = list(dict.fromkeys(row["case"] for row in shown))
        names = list(dict.fromkeys(row["contestant"] for row in shown))
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            mine = [row for row in shown if row["contestant"] == name]
            at = np.array([cases.index(row["case"]) for row in mine]) + (i + 0.5) * width - 0.4
            speeds = [row["speed"][peer] for row in mine]
            middle = np.array([one["median"] for one in speeds])
            ends = np.abs([[one["q1"], one["q3"]] for one in speeds] - middle[:, None])
            axes.bar(at, middle, width, yerr=ends.T, label=name)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(len(cases)), [c.replace(", ", "\n") for c in cases], fontsize=7)
        axes.set_ylabel(f"times as fast as {peer}")
        axes.set_title(title)
        axes.legend(fontsize=7, ncols=3)
    figure.savefig(path)
