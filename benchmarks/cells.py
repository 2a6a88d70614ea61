"""What a step of each cell costs at one width: time and memory of a layer beside the LSTM's."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.recurrence_case import Case, make_problem
from benchmarks.recurrence_jax import ours
from benchmarks.setting import say
from benchmarks.timing import host, interleave, show_host, shown, speed, spread, turn
from gru_audio.rnn import CELLS

PEER = "lstm"
SIZES = ((32, 100, 40, 128), (64, 100, 64, 256), (16, 500, 64, 512), (8, 160, 88, 64))


def measure(
    config_file: str,
    seconds: float,
    sizes: Sequence[tuple[int, int, int, int]] = SIZES,
    cells: Sequence[str] = tuple(CELLS),
) -> dict[str, Any]:
    """Times forward and backward of one layer of each cell, in turns.

    Args:
      config_file: has no effect.
      seconds: to spend on each size, beside compilation.
      sizes: batch, time, features and units.
      cells: keys of `CELLS`, the LSTM among them.
    """
    rows = [row for size in sizes for row in _measure_size(size, seconds, cells)]
    about = {"benchmark": "cells", "host": host(), "platform": jax.default_backend()}
    return about | {"peer": PEER, "rows": rows}


def _measure_size(
    size: tuple[int, int, int, int], seconds: float, cells: Sequence[str]
) -> Iterator[dict[str, Any]]:
    cases = {cell: Case(cell, *size) for cell in cells}
    say(f"{cases[PEER].size}: {', '.join(cases)}")
    ready = {cell: ours(make_problem(case), "auto") for cell, case in cases.items()}
    times = interleave({cell: turn(one.both) for cell, one in ready.items()}, seconds)
    for cell, one in ready.items():
        yield {
            "size": cases[cell].size,
            "cell": cell,
            "both_ms": spread(times[cell] * 1e3),
            "speed": speed(times[cell], times[PEER]),
            "temporary_bytes": one.temporary_bytes,
        }


def show(result: dict[str, Any], console: Console) -> None:
    """Prints what `measure` returned."""
    show_host(result["host"], console)
    table = Table(title=f"One layer, forward and backward; times as fast as {result['peer']}")
    for column in ("size", "cell", "ms", "as fast", "temporary MB"):
        table.add_column(column)
    for row in result["rows"]:
        memory = row["temporary_bytes"]
        table.add_row(
            row["size"],
            row["cell"],
            shown(row["both_ms"]),
            shown(row["speed"]),
            "" if memory is None else f"{memory / 1e6:.2f}",
        )
    console.print(table)
