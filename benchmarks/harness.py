"""Fair timing: contestants take turns in one process, and medians come with quartiles.

A benchmark is a function `measure` that yields rows. A row is a dict of JSON values, and its key
"table" is the title of the table that it belongs to. Values that are dicts of "q1", "median" and
"q3" are spreads over the rounds.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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

_PAUSE = 0.005  # seconds between turns: thread pools spin for a while before they sleep
LEAST_ROUNDS = 8
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "torch")

Row = dict[str, Any]  # JSON
Spread = dict[str, float]  # "q1", "median", "q3"
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What the command line asks of a benchmark.

    Attributes:
      seconds: for each comparison, without compilation.
      config: an experiment's; benchmarks that need none ignore it.
      check: whether results are compared with float64 first.
      grid: whether many more sizes are measured.
    """

    seconds: float
    config: ConfigDict | None = None
    check: bool = False
    grid: bool = False


@dataclass(frozen=True)
class Contestant:
    """Something that is ready to be timed.

    Attributes:
      turn: does its work and returns when the work is done; or several such functions by what they
        do, of which the last is the one whose speed is compared. They take the round's number.
      steps: in one turn; times are given for one step.
      work: of one step; the speed is work per time.
      about: more about it, for its row.
    """

    turn: Callable[[int], Any] | Mapping[str, Callable[[int], Any]]
    steps: int = 1
    work: float = 1.0
    about: Mapping[str, Any] = field(default_factory=dict)


def compete(
    makers: Mapping[str, Callable[[], Contestant]], seconds: float, peers: Sequence[str] = ()
) -> list[Row]:
    """Times contestants in turns.

    Args:
      makers: compile a contestant, by its name. One that fails gets a row that says why.
      seconds: for all rounds together.
      peers: names of contestants whose speed is the unit: a row's "speed" says for each peer how
        many times as fast the contestant is, round by round. "PyTorch" means the fastest of
        "PyTorch, packed" and "PyTorch, padded" where there is no contestant of just this name.

    Returns:
      A row for each contestant: "contestant", "ms" for a step (or "forward_ms" for a turn that is
      called "forward"), "speed", and what the contestant tells about itself.
    """
    ready, failed = made(makers)
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
    return rows + [{"contestant": name, "failed": why} for name, why in failed.items()]


def _fastest(times: Mapping[str, np.ndarray], peer: str) -> str | None:
    forms = [peer] if peer in times else [n for n in times if n.startswith(f"{peer}, ")]
    return min(forms, key=lambda name: float(np.median(times[name])), default=None)


def made(makers: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    """The results of all makers that succeed, and the first line of the others' errors."""
    ready, failed = {}, {}
    for name, make in makers.items():
        say(f"  {name}")
        try:
            ready[name] = make()
        except Exception as exception:
            lines = str(exception).splitlines() or [type(exception).__name__]
            failed[name] = lines[0][:200]
    return ready, failed


def interleave(
    contestants: Mapping[Any, Callable[[int], Any]], seconds: float
) -> dict[Any, np.ndarray]:
    """Wall times of contestants that take turns, so that what slows the machine slows all.

    Args:
      contestants: by name; each is called with the number of the round and returns when its work is
        done. The order moves on by one each round.
      seconds: for all rounds together; there are at least `LEAST_ROUNDS`, and one before that
        which does not count.

    Returns:
      Seconds, (rounds,) for each contestant: row i of all of them is one round.
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
    """A turn out of a function without arguments, called so many times."""

    def contestant(_: int) -> None:
        for _ in range(steps):
            run()

    return contestant


def stepping(step: Callable[[], Any], steps: int) -> Callable[[], Contestant]:
    """Makes a contestant that takes so many steps in a turn."""
    return lambda: Contestant(turn(step, steps), steps)


def spread(values: np.ndarray) -> Spread:
    """Median and quartiles."""
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"q1": q1, "median": median, "q3": q3}


def speed(ours: np.ndarray, peer: np.ndarray) -> Spread:
    """How many times as fast as the peer: the ratio of times, taken round by round."""
    return spread(peer / ours)


def judged(row: Row, bars: Mapping[str, float]) -> Row:
    """The row, with whether its speed against each peer is at least what is demanded."""
    said = []
    for peer, least in bars.items():
        if found := row.get("speed", {}).get(peer):
            value = found["median"] if isinstance(found, dict) else found
            said.append(f"{'met' if value >= least else 'MISSED'} ({least:g} / {peer})")
    return row | {"bar": ", ".join(said)} if said else row


def host() -> Row:
    """Machine, threads and versions, for the record."""
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
    """Cores this process may run on."""
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
    """What a benchmark is about to do, to the user who waits."""
    print(text, file=sys.stderr, flush=True)


def record(name: str, command: str, rows: Iterable[Row], path: str | None) -> Row:
    """Runs a benchmark to its end; the file `path` holds all rows so far at any time."""
    result: Row = {"benchmark": name, "command": command, "host": host(), "rows": []}
    for row in rows:
        result["rows"].append(row)
        if path:
            epath.Path(path).write_text(json.dumps(result, indent=1))
    return result


def show(result: Row, console: Console) -> None:
    """Prints the tables of a result: medians, with quartiles in brackets."""
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
    """The row without its table; its speeds are columns of their own."""
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
    """Draws the speeds of all contestants against the first peer, a panel for each table.

    Args:
      result: of `record`.
      path: of the picture, whose suffix says in what format.
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
