"""One recurrent layer: our implementations against linen, PyTorch and, on a GPU, JAX's cuDNN.

All contestants have the same weights and inputs. "both" is the forward and backward pass, with the
gradients of inputs and weights; speeds refer to it. "error" is the largest difference from a scan
in float64, over outputs and gradients, relative to the largest value.
"""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Contestant, Options, Row, compete, interleave, judged, made, say
from benchmarks.layers import (
    LINEN,
    PRECISIONS,
    Case,
    Layer,
    LayerData,
    cudnn,
    linen,
    make_data,
    ours,
    shared,
)
from gru_audio.nn.cells import CELLS
from gru_audio.nn.recurrence import usable

PEERS = ("linen", "PyTorch")
# (batch, time, features, hidden)
SHAPES = ((32, 100, 40, 128), (64, 100, 64, 256), (16, 500, 64, 512), (128, 101, 40, 64))
GRID = tuple(
    (batch, time, 64, hidden)
    for hidden in (64, 128, 256, 512, 1024)
    for batch in (1, 16, 64, 256)
    for time in (100, 500, 1600)
)
TOLERANCES = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 5e-2}
# Factors of the tolerance. A cell with an unbounded candidate amplifies small differences.
UNBOUNDED = {"li_gru": 6.0}
# Smallest speed relative to a peer, as geometric mean over `SHAPES`.
BARS = {
    ("cpu", "gru", "loop"): {"linen": 1.3, "PyTorch": 1.8},
    ("cpu", "gru", "auto, 2 devices"): {"linen": 1.7},
    ("cpu", "lstm", "loop"): {"linen": 1.2},
    ("gpu", "gru", "pallas_gpu"): {"linen": 3.0, "PyTorch": 0.9},
}
_PEAK_SIZE = {"cpu": 2048}  # size of the square matrices whose product measures the peak


def cases(grid: bool = False) -> list[Case]:
    """Returns GRU and LSTM at all `SHAPES`, and variations of the first one; or all of `GRID`."""
    usual, *other = precisions()
    shapes = GRID if grid else SHAPES
    plain = [Case(cell, *shape, precision=usual) for cell in LINEN for shape in shapes]
    if grid:
        return plain
    small = plain[0]
    ways: list[dict[str, Any]] = [{"ragged": True}, {"bidirectional": True}]
    ways += [{"precision": precision} for precision in other]
    ways += [{"cell": cell} for cell in CELLS if cell not in LINEN]
    linear = [Case("min_gru", *shape, precision=usual) for shape in SHAPES[1:]]
    return plain + [dataclasses.replace(small, **way) for way in ways] + linear


def precisions() -> tuple[str, ...]:
    """Returns the precisions of this platform, with JAX's and PyTorch's default first.

    On a GPU that is TF32, which a CPU lacks.
    """
    if jax.default_backend() == "gpu":
        return ("tf32", "float32", "bfloat16")
    return tuple(p for p in PRECISIONS if p != "tf32")


def measure(options: Options, timed: Sequence[Case] | None = None) -> Iterator[Row]:
    """Times every case, then takes means over cases.

    Args:
      options: options of the command line. With `check`, it first compares with float64.
      timed: the cases; None: `cases`.
    """
    peaks = {precision: _peak(precision) for precision in precisions()}
    for precision, gflops in peaks.items():
        yield {"table": "A large matrix product", "precision": precision, "gflops": gflops}
    if options.check:
        yield from checks()
    rows = []
    for case in cases(options.grid) if timed is None else timed:
        for row in measure_case(case, options.seconds, peaks[case.precision]):
            rows.append((case, row))
            yield row
    yield from _means(rows)


def measure_case(
    case: Case,
    seconds: float,
    peak_gflops: float | None = None,
    compete: Callable[..., Iterable[Row]] = compete,
) -> Iterator[Row]:
    """Times all contestants on a case with `compete`."""
    name = f"{case.size}, {case.precision}"
    say(f"{case.cell}, {name}")
    data = make_data(case)
    with ThreadPoolExecutor(1) as pool:  # computes the truth while the layers are compiled
        truth = pool.submit(data.truth)

        def contestant(make: Callable[[], Layer]) -> Contestant:
            layer = make()
            return layer.contestant(error=layer.error(truth.result()))

        makers = {n: functools.partial(contestant, make) for n, make in _layers(data).items()}
        for row in compete(makers, seconds, PEERS):
            if "failed" not in row:
                median = row["both_ms"]["median"] / 1e3
                row["us_a_step"] = median * 1e6 / case.time
                if peak_gflops:
                    row["percent_of_peak"] = 100 * case.matmul_flops / median / (peak_gflops * 1e9)
            yield {"table": case.cell, "case": name, **row}


def _layers(data: LayerData) -> dict[str, Callable[[], Layer]]:
    case = data.case
    found: dict[str, Callable[[], Layer]] = {}
    if case.cell in LINEN:
        found["linen"] = lambda: linen(data)
    for name in usable(CELLS[case.cell], case.hidden, case.dtype):
        found[name] = functools.partial(ours, data, name)
    devices = len(jax.devices())
    if devices > 1 and case.batch % devices == 0 and case.cell in LINEN:
        found[f"auto, {devices} devices"] = lambda: shared(data, "auto")
    if case.cell in LINEN and importlib.util.find_spec("torch"):
        from benchmarks.pytorch import layer

        found["PyTorch"] = lambda: layer(data)
        if jax.default_backend() == "cpu":  # a GPU runs cuDNN either way
            found["PyTorch, compiled"] = lambda: layer(data, compiled=True)
    if case.cell == "lstm" and jax.default_backend() == "gpu" and case.precision == "float32":
        found["jax.experimental.rnn"] = lambda: cudnn(data)
    return found


def checks(cells: Sequence[str] = tuple(CELLS)) -> Iterator[Row]:
    """Checks all implementations and precisions, in both directions, with ragged lengths."""
    for cell in cells:
        for precision in precisions():
            case = Case(cell, 24, 37, 20, 96, precision, ragged=True, bidirectional=True)
            data = make_data(case)
            names = usable(CELLS[cell], case.hidden, case.dtype)
            yield from checked(data, {n: functools.partial(ours, data, n) for n in names})


def checked(data: LayerData, layers: Mapping[str, Callable[[], Layer]]) -> Iterator[Row]:
    """Yields for each layer whether its error is within the tolerance.

    Args:
      data: weights and inputs of the layers.
      layers: functions that compile a layer, by name. A layer that fails has not passed.
    """
    case, truth = data.case, data.truth()
    tolerance = TOLERANCES[case.precision] * UNBOUNDED.get(case.cell, 1.0)
    table = "Compared with float64: both directions, ragged lengths"
    say(f"check: {case.cell}, {case.precision}")

    def error(make: Callable[[], Layer]) -> float:
        return make().error(truth)

    errors, failed = made({n: functools.partial(error, make) for n, make in layers.items()})
    for name in layers:
        row = {"table": table, "cell": case.cell, "precision": case.precision, "contestant": name}
        if name in failed:
            yield row | {"failed": failed[name], "passed": False}
        else:
            yield row | {"error": errors[name], "passed": errors[name] <= tolerance}


def _peak(precision: str) -> float:
    """Returns GFLOP/s of a large square matrix product."""
    size = _PEAK_SIZE.get(jax.default_backend(), 8192)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    with jax.default_matmul_precision(PRECISIONS[precision]):
        square = jnp.ones((size, size), dtype)
        product = jax.jit(lambda a: a @ a).lower(square).compile()
    turns = interleave({"product": lambda _: jax.block_until_ready(product(square))}, 0.5)
    return 2 * size**3 / float(np.median(turns["product"])) / 1e9


def _means(measured: Sequence[tuple[Case, Row]]) -> Iterator[Row]:
    """Yields geometric means over the cases in the usual precision and in one direction."""
    table = "Speed against the peers, geometric mean over the shapes"
    for cell in LINEN:
        rows = [
            row
            for case, row in measured
            if case.cell == cell
            and case.precision == precisions()[0]
            and not (case.ragged or case.bidirectional)
        ]
        linens = {r["case"]: r.get("temporary_bytes") for r in rows if r["contestant"] == "linen"}
        for name in dict.fromkeys(row["contestant"] for row in rows):
            group = [row for row in rows if row["contestant"] == name]
            if any("failed" in row for row in group):
                continue
            speeds = {
                peer: _geometric([row["speed"][peer]["median"] for row in group])
                for peer in PEERS
                if all(peer in row["speed"] for row in group)
            }
            memory = None
            if all(row["temporary_bytes"] and linens.get(row["case"]) for row in group):
                memory = _geometric([r["temporary_bytes"] / linens[r["case"]] for r in group])
            row = {"table": table, "cell": cell, "contestant": name, "speed": speeds}
            row["memory_of_linen"] = memory
            yield judged(row, BARS.get((jax.default_backend(), cell, name), {}))


def _geometric(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))
