"""Times the candidates for a recurrence, and compares their results with the loop's.

A candidate must agree in values and gradients with the loop in float32 with full products. The
relative difference of each array (in the Euclidean norm) may be `TOLERANCES`, which allows the
rounding of TF32 and bfloat16, or twice that of the loop with the program's own types.
"""

import os
import time as clock
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.nn.cells import CELLS
from gru_audio.nn.kernels.choice import LOOP, Choice, Problem, Run

TOLERANCES = {"float32": 1e-2, "bfloat16": 5e-2, "float16": 5e-2}
_TINY = 1e-20  # instead of the norm of an array of zeros
_CALLS = 4  # in one turn of a candidate
_LEAST_TURNS = 5
_MOST_THREADS = 8  # that compile

Arguments = tuple[Any, ...]
Row = dict[str, Any]  # of JSON types


def measure(
    problem: Problem,
    time: int,
    members: int,
    tried: Sequence[Choice],
    compiler_options: Mapping[str, Any],
    seconds: float = 1.0,
) -> list[Row]:
    """Measures forward and backward pass of each candidate on the first device.

    The weights and inputs are drawn, so that all programs with this problem share the result.

    Args:
      problem: the recurrence.
      time: number of frames.
      members: number of members in one `vmap`.
      tried: the candidates; the loop is among them.
      compiler_options: those of the program.
      seconds: duration of all turns, without compilation.

    Returns:
      A row for each candidate, the fastest first: "choice", "us" (of a call, median), "error" and
      "compile_seconds"; or "choice" and "failed", the reason. Empty if the loop itself fails.
    """
    arguments = _drawn(problem, time, members)
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    precision = jax.config.values["jax_default_matmul_precision"]

    def compiled(choice: Choice, precision: str | None = precision) -> tuple[Callable, float]:
        began = clock.perf_counter()
        options = dict(compiler_options) | dict(choice.compiler_options)
        with jax.default_matmul_precision(precision):
            function = jax.jit(_gradients(choice.run, problem, members), compiler_options=options)
            call = function.lower(*arguments).compile()
        return call, clock.perf_counter() - began

    wide = jax.tree.map(_wide, arguments)
    with jax.default_matmul_precision("highest"):
        truth = jax.jit(_gradients(LOOP.run, problem, members))(*wide)
    rows: list[Row] = []
    calls: list[tuple[Row, Callable]] = []
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(compiled, choice) for choice in tried]
    for choice, future in zip(tried, futures, strict=True):
        row: Row = {"choice": choice.to_json()}
        rows.append(row)
        try:
            call, row["compile_seconds"] = future.result()
            row["error"] = float(_difference(call(*arguments), truth))
        except Exception as error:  # compilers and drivers raise many kinds of errors
            row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            continue
        calls.append((row, call))
    own = next((row["error"] for row, _ in calls if row["choice"] == LOOP.to_json()), None)
    if own is None:
        return []
    allowed = max(TOLERANCES[problem.dtype], 2 * own)
    for row, _ in calls:
        if not row["error"] <= allowed:
            row["failed"] = f"differs by {row['error']:.2g} from the loop; {allowed:.2g} is allowed"
    _time([(row, call) for row, call in calls if "failed" not in row], arguments, seconds)
    return sorted(rows, key=lambda row: row.get("us", np.inf))


def _time(calls: list[tuple[Row, Callable]], arguments: Arguments, seconds: float) -> None:
    """Enters the median microseconds of each call. The calls take turns."""
    taken: list[list[float]] = [[] for _ in calls]
    began = clock.perf_counter()
    while len(taken[0]) < _LEAST_TURNS or clock.perf_counter() - began < seconds:
        for (_, call), times in zip(calls, taken, strict=True):
            start = clock.perf_counter()
            for _ in range(_CALLS):
                result = call(*arguments)
            jax.block_until_ready(result)
            times.append((clock.perf_counter() - start) / _CALLS)
    for (row, _), times in zip(calls, taken, strict=True):
        row["us"] = 1e6 * float(np.median(times))


def _drawn(problem: Problem, time: int, members: int) -> Arguments:
    """Returns random arguments of `_gradients`, on the device."""
    cell, hidden, batch = CELLS[problem.cell], problem.hidden, problem.batch
    rng = np.random.default_rng(0)

    def normal(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
        return jnp.asarray(rng.normal(size=(members, *shape)), dtype)

    def uniform(*shape: int) -> jax.Array:
        return jnp.asarray(rng.uniform(-1, 1, (members, *shape)) / np.sqrt(hidden), jnp.float32)

    params = {name: uniform(hidden, len(g) * hidden) for name, g in cell.kernels.items()}
    params |= {name: uniform(len(g) * hidden) for name, g in cell.vectors.items()}
    projections = tuple(normal(time, batch, hidden, dtype=problem.dtype) for _ in cell.gates)
    carry, d_carry = (tuple(normal(batch, hidden) for _ in cell.carry) for _ in range(2))
    lengths = None
    if problem.ragged:
        lengths = jnp.asarray(rng.integers((time + 1) // 2, time + 1, (members, batch)), jnp.int32)
        lengths = lengths.at[:, 0].set(time)
    d_outputs = normal(time, batch, hidden, dtype=problem.dtype)
    return params, projections, carry, lengths, d_outputs, d_carry


def _gradients(run: Run, problem: Problem, members: int) -> Callable[..., Any]:
    """Returns a function from arrays with a leading axis of members to results and gradients."""

    def of_member(params, projections, carry, lengths, *gradients):
        def forward(*arguments):
            return run(CELLS[problem.cell], *arguments, lengths, problem.reverse)

        results, pullback = jax.vjp(forward, params, projections, carry)
        return results, pullback(gradients)

    if members == 1:  # a program with one member has no `vmap`
        return lambda *arguments: of_member(*jax.tree.map(lambda a: a[0], arguments))
    return jax.vmap(of_member)


def _wide(array: jax.Array) -> jax.Array:
    return array if jnp.issubdtype(array.dtype, jnp.integer) else array.astype(jnp.float32)


@jax.jit
def _difference(found: Any, truth: Any) -> jax.Array:
    """Returns the largest relative difference of an array in a tree; NaN if any value is."""

    def of(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = a.astype(jnp.float32).ravel(), b.astype(jnp.float32).ravel()
        return jnp.linalg.norm(a - b) / jnp.maximum(jnp.linalg.norm(b), _TINY)

    return jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(of, found, truth))))
