"""One recurrent layer: our implementations against linen, PyTorch and, on a GPU, cuDNN through JAX.

All contestants have the same weights and inputs and take turns. "both" is forward and backward with
the gradients by the inputs and by every weight. Ratios are taken round by round; "error" is the
greatest difference from linen's scan in float64, relative to the greatest value, over outputs and
gradients.
"""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.recurrence_case import (
    PRECISIONS,
    Case,
    Problem,
    error,
    make_problem,
)
from benchmarks.recurrence_jax import LINEN, Contestant, cudnn, linen, ours, shared
from benchmarks.recurrence_tables import PEERS, plot, show
from benchmarks.setting import Row, say
from benchmarks.timing import host, interleave, speed, spread, turn
from gru_audio.rnn import CELLS
from gru_audio.rnn.recurrence import usable

__all__ = ["cases", "measure", "passed", "plot", "show"]

Ready = TypeVar("Ready")

# (batch, time, features, hidden)
SHAPES = ((32, 100, 40, 128), (64, 100, 64, 256), (16, 500, 64, 512), (128, 101, 40, 64))
GRID = tuple(
    (batch, time, 64, hidden)
    for hidden in (64, 128, 256, 512, 1024)
    for batch in (1, 16, 64, 256)
    for time in (100, 500, 1600)
)
TOLERANCES = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 5e-2}
# What a cell may have more: one whose candidate has no bound makes much of small differences.
UNBOUNDED = {"li_gru": 6.0}

_PEAK_SIZE = {"cpu": 2048}  # of the square matrices whose product is the measure of the machine
_PEAK_ROUNDS = 10


def cases(grid: bool = False) -> list[Case]:
    """What is timed: GRU and LSTM at every one of `SHAPES`, and the first shape in other ways.

    Args:
      grid: GRU and LSTM at every one of `GRID` instead.
    """
    plain = [Case(cell, *shape) for cell in LINEN for shape in (GRID if grid else SHAPES)]
    if grid:
        return plain
    small = Case("gru", *SHAPES[0])
    ways: list[dict[str, Any]] = [{"ragged": True}, {"bidirectional": True}]
    ways += [{"precision": precision} for precision in precisions()[1:]]
    others = [Case(cell, *SHAPES[0]) for cell in CELLS if cell not in LINEN]
    linear = [Case("min_gru", *shape) for shape in SHAPES[1:]]
    return plain + [dataclasses.replace(small, **way) for way in ways] + others + linear


def precisions() -> tuple[str, ...]:
    """Those that are worth a row here: a CPU has no TF32."""
    return tuple(p for p in PRECISIONS if p != "tf32" or jax.default_backend() == "gpu")


def measure(seconds: float, timed: Sequence[Case], *, check: bool = False) -> dict[str, Any]:
    """Runs the benchmark. Numbers are in the unit that their names tell.

    Args:
      seconds: to spend on each case, beside compilation.
      timed: what to time.
      check: whether to hold every implementation and cell to float64 first, at small sizes.
    """
    result: dict[str, Any] = {"benchmark": "recurrence", "host": host()}
    result["platform"] = jax.default_backend()
    result["checks"] = list(_checks()) if check else []
    result["peak_gflops"] = {precision: _peak(precision) for precision in precisions()}
    result["rows"] = []
    for case in timed:
        say(f"{case.cell}, {case.size}, {case.precision}")
        result["rows"] += _measure_case(case, seconds, result["peak_gflops"][case.precision])
    result["means"] = list(_means(result["rows"]))
    return result


def passed(result: dict[str, Any]) -> bool:
    """Whether every check was within its tolerance."""
    return all(row["passed"] for row in result["checks"])


def _measure_case(case: Case, seconds: float, peak_gflops: float) -> Iterator[Row]:
    problem = make_problem(case)
    truth = problem.truth()
    about = {**dataclasses.asdict(case), "size": case.size}
    ready, failed = made(_contestants(problem))
    turns = {f"{name}, forward": turn(contestant.forward) for name, contestant in ready.items()}
    turns |= {f"{name}, both": turn(contestant.both) for name, contestant in ready.items()}
    times = interleave(turns, seconds)
    for name, contestant in ready.items():
        both = times[f"{name}, both"]
        median = float(np.median(both))
        row = {
            **about,
            "contestant": name,
            "forward_ms": spread(times[f"{name}, forward"] * 1e3),
            "both_ms": spread(both * 1e3),
            "us_a_step": median * 1e6 / case.time,
            "percent_of_peak": 100 * case.matmul_flops / median / (peak_gflops * 1e9),
            "compile_seconds": contestant.compile_seconds,
            "temporary_bytes": contestant.temporary_bytes,
            "error": _error(contestant, truth),
            "speed": {peer: speed(both, times[f"{peer}, both"]) for peer in PEERS if peer in ready},
        }
        yield row
    for name, reason in failed.items():
        yield {**about, "contestant": name, "failed": reason}


def made(
    contestants: Mapping[str, Callable[[], Ready]],
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Those that could be made ready, and why the others could not: the rest goes on without."""
    ready, failed = {}, {}
    for name, make in contestants.items():
        try:
            ready[name] = make()
        except Exception as exception:
            lines = str(exception).splitlines() or [type(exception).__name__]
            failed[name] = lines[0][:200]
    return ready, failed


def _contestants(problem: Problem) -> dict[str, Callable[[], Contestant]]:
    case = problem.case
    found: dict[str, Callable[[], Contestant]] = {}
    if case.cell in LINEN:
        found["linen"] = lambda: linen(problem)
    for name in usable(CELLS[case.cell], case.hidden, case.dtype):
        found[name] = functools.partial(ours, problem, name)
    devices = len(jax.devices())
    if devices > 1 and case.batch % devices == 0 and case.cell in LINEN:
        found[f"auto, {devices} devices"] = lambda: shared(problem, "auto")
    if case.cell in LINEN and importlib.util.find_spec("torch"):
        from benchmarks.recurrence_pytorch import pytorch

        found["PyTorch"] = lambda: pytorch(problem)
        found["PyTorch, compiled"] = lambda: pytorch(problem, compiled=True)
    if case.cell == "lstm" and jax.default_backend() == "gpu" and case.precision == "float32":
        found["jax.experimental.rnn"] = lambda: cudnn(problem)
    return found


def _error(contestant: Contestant, truth: tuple[Any, Any, Any]) -> float:
    pairs = zip(contestant.result(), truth, strict=True)
    return float(np.max([error(found, true) for found, true in pairs if found is not None]))


def _checks() -> Iterator[Row]:
    """Every implementation that runs here, every cell, both directions, ragged, all precisions."""
    for cell in CELLS:
        for precision in precisions():
            case = Case(cell, 24, 37, 20, 96, precision, ragged=True, bidirectional=True)
            problem = make_problem(case)
            names = usable(CELLS[cell], case.hidden, case.dtype)
            yield from checked(
                problem, {name: functools.partial(ours, problem, name) for name in names}
            )


def checked(problem: Problem, contestants: Mapping[str, Callable[[], Contestant]]) -> Iterator[Row]:
    """Whether each is near enough to float64: one tolerance for all, linen's scan among them.

    Args:
      problem: what they were made for.
      contestants: what makes them, by name; one that cannot be made has not passed.
    """
    case, truth = problem.case, problem.truth()
    most = TOLERANCES[case.precision] * UNBOUNDED.get(case.cell, 1.0)
    for name, make in contestants.items():
        say(f"check: {case.cell}, {case.precision}, {name}")
        row = {"cell": case.cell, "precision": case.precision, "contestant": name}
        try:
            found = _error(make(), truth)
        except Exception as exception:
            yield row | {"failed": str(exception)[:200], "passed": False}
            continue
        yield row | {"error": found, "passed": found <= most}


def _peak(precision: str) -> float:
    """GFLOP/s of a large square matrix product in a precision."""
    size = _PEAK_SIZE.get(jax.default_backend(), 8192)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    with jax.default_matmul_precision(PRECISIONS[precision]):
        square = jnp.ones((size, size), dtype)
        product = jax.jit(lambda a: a @ a).lower(square).compile()
    turns = interleave({"product": lambda _: jax.block_until_ready(product(square))}, 0.5)
    return 2 * size**3 / float(np.median(turns["product"])) / 1e9


def _means(rows: list[Row]) -> Iterator[Row]:
    """Geometric means over the plain cases in float32, of contestants that ran all of them."""
    plain = [
        row
        for row in rows
        if row["precision"] == "float32" and not (row["ragged"] or row["bidirectional"])
    ]
    for cell in LINEN:
        of_cell = [row for row in plain if row["cell"] == cell]
        for name in dict.fromkeys(row["contestant"] for row in of_cell):
            group = [row for row in of_cell if row["contestant"] == name]
            if any("failed" in row for row in group):
                continue
            yield {
                "cell": cell,
                "contestant": name,
                "speed": {
                    peer: _geometric([row["speed"][peer]["median"] for row in group])
                    for peer in PEERS
                    if all(peer in row["speed"] for row in group)
                },
                "memory_of_linen": _memory_ratio(group, of_cell),
            }


def _memory_ratio(group: list[Row], of_cell: list[Row]) -> float | None:
    theirs = {r["size"]: r["temporary_bytes"] for r in of_cell if r["contestant"] == "linen"}
    if not all(row["temporary_bytes"] for row in group):
        return None
    return _geometric([row["temporary_bytes"] / theirs[row["size"]] for row in group])


def _geometric(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))
