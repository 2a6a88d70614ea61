"""The settings of a Pallas kernel against one another, to choose its defaults by.

Forward and backward of the recurrence alone, by all its arguments. A setting that does not compile
is told so. "ratio" is the speed against the loop in plain XLA, round by round.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks.recurrence import SHAPES, made
from benchmarks.recurrence_case import Case, make_problem
from benchmarks.setting import Row, say
from benchmarks.timing import host, interleave, show_host, shown, speed, spread, turn
from gru_audio.config import UserError
from gru_audio.rnn import CELLS
from gru_audio.rnn.kernels.gpu import PallasGpu
from gru_audio.rnn.kernels.gradient import Loops, differentiable
from gru_audio.rnn.kernels.loop import Loop
from gru_audio.rnn.kernels.tpu import PallasTpu

BASELINE = "loop"


def settings(platform: str) -> dict[str, Loops]:
    """What is worth a try on a platform, by a description of it.

    Raises:
      UserError: no kernel runs there.
    """
    if platform == "gpu":
        choices = itertools.product((8, 16, 64), (4, 8), (True, False))
        return {
            f"rows {rows}, {warps} warps, {'resident' if resident else 'streamed'}": PallasGpu(
                rows, warps, resident=resident
            )
            for rows, warps, resident in choices
        }
    if platform == "tpu":
        sizes = itertools.product((8, 32, 128), (32, 128, 256))
        return {f"{frames} frames, rows {rows}": PallasTpu(frames, rows) for frames, rows in sizes}
    raise UserError("The kernels are for GPUs and TPUs: there is nothing to set on a CPU.")


def cases() -> list[Case]:
    """GRU and LSTM in float32 and bfloat16, at the sizes of the benchmark of the recurrence."""
    precisions = ("float32", "bfloat16")
    every = itertools.product(("gru", "lstm"), precisions, SHAPES)
    return [Case(cell, *shape, precision=precision) for cell, precision, shape in every]


def measure(seconds: float, timed: Sequence[Case], tried: Mapping[str, Loops]) -> dict[str, Any]:
    """Runs the benchmark. Numbers are in the unit that their names tell.

    Args:
      seconds: to spend on each case, beside compilation.
      timed: what to time.
      tried: the kernels, by a description of their settings.
    """
    rows: list[Row] = []
    for case in timed:
        say(f"{case.cell}, {case.size}, {case.precision}")
        about = {"cell": case.cell, "size": case.size, "precision": case.precision}
        runs, failed = made(_runs(case, {BASELINE: Loop()} | dict(tried)))
        turns = {name: turn(run) for name, run in runs.items()}
        times = interleave(turns, seconds)
        rows += [
            {
                **about,
                "setting": name,
                "ms": spread(taken * 1e3),
                "us_a_step": spread(taken * 1e6 / case.time),
                "ratio": speed(taken, times[BASELINE]),
            }
            for name, taken in times.items()
        ]
        rows += [{**about, "setting": name, "failed": why} for name, why in failed.items()]
    return {"benchmark": "kernels", "host": host(), "rows": rows}


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a table of what `measure` returns, the fastest first."""
    show_host(result["host"], console)
    table = Table(title="Forward and backward of the recurrence")
    for column in ("cell", "size", "precision", "setting", "ms", "us a step", f"/ {BASELINE}"):
        left = column in ("cell", "size", "precision", "setting")
        table.add_column(column, justify="left" if left else "right")
    same = ("cell", "size", "precision")
    for about, group in itertools.groupby(result["rows"], lambda row: [row[k] for k in same]):
        for row in sorted(group, key=lambda row: row["ms"]["median"] if "ms" in row else 1e9):
            if "failed" in row:
                table.add_row(*about, row["setting"], row["failed"])
                continue
            numbers = (shown(row[k]) for k in ("ms", "us_a_step", "ratio"))
            table.add_row(*about, row["setting"], *numbers)
        table.add_section()
    console.print(table)


def _runs(case: Case, tried: Mapping[str, Loops]) -> dict[str, Callable[[], Callable[[], Any]]]:
    cell, problem = CELLS[case.cell], make_problem(case)
    layer = problem.params["forward_0"]
    params = {name: jnp.asarray(layer[name]) for name in (*cell.kernels, *cell.vectors)}
    shape = (len(cell.gates), case.time, case.batch, case.hidden)
    projections = tuple(jax.random.normal(jax.random.key(0), shape, case.dtype))
    carry = cell.initial_carry(case.batch, case.hidden, case.dtype)

    def ready(loops: Loops) -> Callable[[], Any]:
        def loss(*arguments):
            outputs, _ = differentiable(loops, cell, *arguments, None, False)
            return outputs.astype(jnp.float32).sum(), outputs

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
        call = gradient.lower(params, projections, carry).compile()
        return lambda: jax.block_until_ready(call(params, projections, carry))

    return {name: functools.partial(ready, loops) for name, loops in tried.items()}
