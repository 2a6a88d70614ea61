"""What the benchmark of the recurrence found, as tables and as a picture."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.setting import Row
from benchmarks.timing import show_host, shown

PEERS = ("linen", "PyTorch")
# Least speed against a peer, by platform, cell and contestant: geometric mean over `SHAPES`.
BARS = {
    ("cpu", "gru", "loop", "linen"): 1.3,
    ("cpu", "gru", "loop", "PyTorch"): 1.8,
    ("cpu", "gru", "auto, 2 devices", "linen"): 1.7,
    ("cpu", "lstm", "loop", "linen"): 1.2,
    ("gpu", "gru", "pallas_gpu", "linen"): 3.0,
    ("gpu", "gru", "pallas_gpu", "PyTorch"): 0.9,
}


def show(result: dict[str, Any], console: Console) -> None:
    """Prints tables of what `measure` returns: medians, with quartiles in brackets."""
    show_host(result["host"], console)
    peaks = ", ".join(f"{v:.0f} in {k}" for k, v in result["peak_gflops"].items())
    console.print(f"A large matrix product makes {peaks} GFLOP/s.")
    if result["checks"]:
        console.print(_check_table(result["checks"]))
    for cell in dict.fromkeys(row["cell"] for row in result["rows"]):
        console.print(_case_table([row for row in result["rows"] if row["cell"] == cell]))
    if result["means"]:
        console.print(_mean_table(result["means"], result["platform"]))


def _check_table(rows: list[Row]) -> Table:
    table = Table(title="Held to float64: both directions, ragged lengths")
    for column in ("cell", "precision", "implementation", "error", ""):
        table.add_column(column, justify="right" if column == "error" else "left")
    for row in rows:
        verdict = "passed" if row["passed"] else f"FAILED {row.get('failed', '')}"
        found = f"{row['error']:.1e}" if "error" in row else ""
        table.add_row(row["cell"], row["precision"], row["contestant"], found, verdict)
    return table


def _case_table(rows: list[Row]) -> Table:
    table = Table(title=rows[0]["cell"])
    columns = ("size", "contestant", "forward ms", "both ms", *(f"/ {peer}" for peer in PEERS))
    for column in (*columns, "us a step", "% of peak", "MB", "error", "compile s"):
        left = column in ("size", "contestant")
        table.add_column(column, justify="left" if left else "right")
    size = ""
    for row in rows:
        named = f"{row['size']}, {row['precision']}"
        if "failed" in row:
            table.add_row(named if named != size else "", row["contestant"], row["failed"])
            continue
        table.add_row(
            named if named != size else "",
            row["contestant"],
            shown(row["forward_ms"]),
            shown(row["both_ms"]),
            *(shown(row["speed"][p]) if p in row["speed"] else "" for p in PEERS),
            f"{row['us_a_step']:.1f}",
            f"{row['percent_of_peak']:.0f}",
            f"{row['temporary_bytes'] / 1e6:.0f}" if row["temporary_bytes"] else "",
            f"{row['error']:.0e}",
            f"{row['compile_seconds']:.1f}" if row["compile_seconds"] else "",
        )
        size = named
    return table


def _mean_table(rows: list[Row], platform: str) -> Table:
    table = Table(title="Speed against the peers, geometric mean over the shapes")
    for column in ("cell", "contestant", *PEERS, "bars", "memory / linen's"):
        left = column in ("cell", "contestant", "bars")
        table.add_column(column, justify="left" if left else "right")
    for row in rows:
        bars = [
            f"{peer} {bar:g} {'met' if value >= bar else 'MISSED'}"
            for peer, value in row["speed"].items()
            if (bar := _bar(platform, row["cell"], row["contestant"], peer))
        ]
        memory = row["memory_of_linen"]
        table.add_row(
            row["cell"],
            row["contestant"],
            *(f"{row['speed'][peer]:.2f}" if peer in row["speed"] else "" for peer in PEERS),
            ", ".join(bars),
            f"{memory:.2f}" if memory else "",
        )
    return table


def _bar(platform: str, cell: str, contestant: str, peer: str) -> float | None:
    return BARS.get((platform, cell, contestant, peer))


def plot(result: dict[str, Any], path: str) -> None:
    """Draws the speed of all contestants against linen's, a panel for each cell.

    Args:
      result: of `measure`.
      path: of the picture, whose suffix says in what format.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    cells = list(dict.fromkeys(r["cell"] for r in result["rows"] if r.get("speed")))
    panels = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for axes, cell in zip(panels, cells, strict=True):
        rows = [r for r in result["rows"] if r["cell"] == cell and "linen" in r.get("speed", {})]
        sizes = list(dict.fromkeys(f"{r['size']}, {r['precision']}" for r in rows))
        names = list(dict.fromkeys(r["contestant"] for r in rows if r["contestant"] != "linen"))
        for i, name in enumerate(names):
            mine = [r for r in rows if r["contestant"] == name]
            at = [sizes.index(f"{r['size']}, {r['precision']}") for r in mine]
            middle = np.array([r["speed"]["linen"]["median"] for r in mine])
            ends = np.array([[r["speed"]["linen"][q] for q in ("q1", "q3")] for r in mine])
            places = np.array(at) + (i + 0.5) / len(names) * 0.8 - 0.4
            errors = np.abs(ends.T - middle) if len(mine) else None
            axes.bar(places, middle, 0.8 / len(names), yerr=errors, label=name)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(len(sizes)), [size.replace(", ", "\n") for size in sizes], fontsize=7)
        axes.set_ylabel("times as fast as linen")
        axes.set_title(f"{cell}, forward and backward")
        axes.legend(fontsize=7, ncols=3)
    figure.savefig(path)
