"""Training steps: what their input costs, and how they compare with PyTorch.

Three questions, each asked at the size of the config and at a larger one:

  resident  steps/s from data in device memory, many steps a call, against the same steps given one
            batch of each length that already lies on the device
  streamed  the same for data read by Grain, one step a call
  PyTorch   time of a step of the classifier (GRU and LSTM), from features and from sound, against
            the same model in eager PyTorch with the same weights, batch, optimizer and threads

In the last, all that draws random numbers is off, and both losses must agree.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks.setting import Row, make_setting, plain
from benchmarks.step_input import measure_input
from benchmarks.timing import Spread, host, show_host, shown
from gru_audio.config import check, override
from gru_audio.data.source import open_source

LARGER = {"model.hidden": 256, "train.batch_size": 64}
CELLS = ("gru", "lstm")
RESIDENT_BAR, STREAMED_BAR, STREAMED_FROM_MS, PYTORCH_BAR = 0.95, 0.85, 20.0, 1.0


def measure(
    config: ConfigDict, seconds: float, larger: Mapping[str, Any] = LARGER
) -> dict[str, Any]:
    """Runs the benchmark. Numbers are in the unit that their names tell.

    Args:
      config: an experiment's.
      seconds: to spend on each comparison, beside compilation.
      larger: what makes of the config the larger size.

    Raises:
      UserError: the config is impossible or its data set is not prepared.
    """
    check(config)
    source = open_source(config.data.name, config.data.dir)
    sizes = {
        f"hidden {sized.model.hidden}, batch {sized.train.batch_size}": sized
        for sized in (config, override(config, dict(larger)))
    }
    result: dict[str, Any] = {"benchmark": "step", "data": source.name, "host": host()}
    result["input"] = [
        {"size": name} | measure_input(make_setting(sized, source), seconds, name)
        for name, sized in sizes.items()
    ]
    result["pytorch"] = []
    if importlib.util.find_spec("torch"):
        # PyTorch comes after the input's peak of host memory has been read.
        from benchmarks.step_pytorch import measure_against_pytorch

        for name, sized in sizes.items():
            for cell in CELLS:
                setting = make_setting(override(plain(sized), {"model.cell": cell}), source)
                rows = measure_against_pytorch(setting, seconds, name)
                result["pytorch"] += [{"size": name, "cell": cell} | row for row in rows]
    return result


def show(result: dict[str, Any], console: Console) -> None:
    """Prints tables of what `measure` returns: medians, with quartiles in brackets."""
    show_host(result["host"], console)
    for row in result["input"]:
        console.print(_input_table(row))
    if result["pytorch"]:
        console.print(_pytorch_table(result["pytorch"]))
    else:
        console.print("PyTorch is not installed, so nothing is compared with it: install [bench].")


def _input_table(row: Row) -> Table:
    table = Table(title=f"Input, {row['size']}, padded to {row['padded_lengths']} samples")
    for column in ("steps fed by", "ms a step", "steps/s", "ratio to constant", "bar", "compile s"):
        table.add_column(column, justify="left" if column == "steps fed by" else "right")
    step_ms = row["step_ms"]
    slow = step_ms["constant, one a call"]["median"] >= STREAMED_FROM_MS
    bars = {"resident": _verdict(row["resident_ratio"], RESIDENT_BAR)}
    bars["streamed"] = (
        _verdict(row["streamed_ratio"], STREAMED_BAR) if slow else f"(from {STREAMED_FROM_MS:g} ms)"
    )
    for kind, ms in step_ms.items():
        compared = kind in bars
        table.add_row(
            kind,
            shown(ms),
            f"{1e3 / ms['median']:.1f}",
            shown(row[f"{kind}_ratio"]) if compared else "",
            bars.get(kind, ""),
            f"{row[f'{kind}_compile_seconds']:.1f}" if compared else "",
        )
    table.caption = (
        f"host: {row['read_us_per_clip']['median']:.0f} us to read a clip, "
        f"{row['read_and_assemble_us_per_clip']['median']:.0f} us with putting it into a batch; "
        f"peak {_megabytes(row['peak_host_bytes'])}, "
        f"{_megabytes(row['host_bytes_before'])} before; "
        f"device, by the compiler's count: {_megabytes(row['resident_device_bytes'])} resident, "
        f"{_megabytes(row['streamed_device_bytes'])} streamed"
    )
    return table


def _pytorch_table(rows: list[Row]) -> Table:
    table = Table(title=f"Training step against PyTorch, {rows[0]['threads']} threads, ms")
    contestants = list(rows[0]["step_ms"])
    for column in ("size", "cell", "from", "frames", *contestants, "PyTorch / gru_audio", "bar"):
        left = column in ("size", "cell", "from")
        table.add_column(column, justify="left" if left else "right")
    for row in rows:
        table.add_row(
            row["size"],
            row["cell"],
            row["from"],
            str(row["frames"]),
            *(shown(row["step_ms"][contestant]) for contestant in contestants),
            shown(row["ratio"]),
            _verdict(row["ratio"], PYTORCH_BAR),
        )
    worst = max(row["loss_difference"] for row in rows)
    table.caption = (
        "The ratio is to the faster of PyTorch's two forms. Losses with the same weights differ "
        f"by {worst:.0e} at most."
    )
    return table


def _verdict(ratio: Spread, bar: float) -> str:
    return f"{'met' if ratio['median'] >= bar else 'MISSED'} ({bar:g})"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
