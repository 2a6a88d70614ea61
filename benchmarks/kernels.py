"""Settings of the Pallas kernels, to choose their defaults.

Measures forward and backward pass of the recurrence alone, with the gradients of all arguments. A
setting that does not compile has a row with the error. Speeds are relative to the loop in XLA.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp

from benchmarks.harness import Contestant, Options, Row, compete, say, turn
from benchmarks.layers import Case, make_data
from benchmarks.recurrence import SHAPES
from gru_audio.nn.cells import CELLS
from gru_audio.nn.kernels.gpu import PallasGpu
from gru_audio.nn.kernels.gradient import Loops, differentiable
from gru_audio.nn.kernels.loop import Loop
from gru_audio.nn.kernels.tpu import PallasTpu
from gru_audio.settings import UserError

PEER = "loop"
CASES = tuple(
    Case(cell, *shape, precision=precision)
    for cell, precision, shape in itertools.product(
        ("gru", "lstm"), ("float32", "bfloat16"), SHAPES
    )
)


def settings(platform: str) -> dict[str, Loops]:
    """Returns the kernels to measure on a platform, by a description of their settings.

    Raises:
      UserError: no kernel runs on the platform.
    """
    if platform == "gpu":
        choices = itertools.product((8, 16, 32), (4, 8), (True, False))
        return {
            f"rows {rows}, {warps} warps, {'resident' if resident else 'streamed'}": PallasGpu(
                rows, warps, resident=resident
            )
            for rows, warps, resident in choices
        }
    if platform == "tpu":
        sizes = itertools.product((8, 32, 128), (32, 128, 256))
        return {f"{frames} frames, rows {rows}": PallasTpu(frames, rows) for frames, rows in sizes}
    raise UserError("The Pallas kernels run on GPUs and TPUs only.")


def measure(
    options: Options,
    cases: Sequence[Case] = CASES,
    tried: Mapping[str, Loops] | None = None,
    compete: Callable[..., Iterable[Row]] = compete,
) -> Iterator[Row]:
    """Times every setting on every case.

    Args:
      options: options of the command line.
      cases: the cases.
      tried: kernels by a description of their settings; None: those of the platform.
      compete: times the contestants.
    """
    tried = {PEER: Loop(), **(settings(jax.default_backend()) if tried is None else tried)}
    for case in cases:
        name = f"{case.cell}, {case.size}, {case.precision}"
        say(name)
        makers = {n: functools.partial(_contestant, case, loops) for n, loops in tried.items()}
        for row in compete(makers, options.seconds, [PEER]):
            if "ms" in row:
                row["us_a_step"] = row["ms"]["median"] * 1e3 / case.time
            yield {"table": "Forward and backward of the recurrence", "case": name, **row}


def _contestant(case: Case, loops: Loops) -> Contestant:
    cell, layer = CELLS[case.cell], make_data(case).params["forward_0"]
    params = {name: jnp.asarray(layer[name]) for name in (*cell.kernels, *cell.vectors)}
    shape = (len(cell.gates), case.time, case.batch, case.hidden)
    projections = tuple(jax.random.normal(jax.random.key(0), shape, case.dtype))
    carry = cell.initial_carry(case.batch, case.hidden, case.dtype)

    def loss(*arguments):
        outputs, _ = differentiable(loops, cell, *arguments, None, False)
        return outputs.astype(jnp.float32).sum(), outputs

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    call = gradient.lower(params, projections, carry).compile()
    return Contestant(turn(lambda: jax.block_until_ready(call(params, projections, carry))))
