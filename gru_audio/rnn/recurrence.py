"""A cell applied along time, by one of several implementations that give the same numbers."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

from gru_audio.rnn.equations import Carry, Cell, Params, Projections, wide_dtype
from gru_audio.rnn.kernels import gpu, tpu
from gru_audio.rnn.kernels.gradient import differentiable
from gru_audio.rnn.kernels.linear import associative
from gru_audio.rnn.kernels.loop import Loop
from gru_audio.rnn.kernels.scan import scan
from gru_audio.settings import UserError, choose


@dataclass(frozen=True)
class Implementation:
    """One way to run a cell along time.

    Attributes:
      run: as `recurrence`, whose arguments it takes by position, up to `reverse`.
      serves: ``(cell, hidden, dtype)`` -> whether it can run a cell of so many units.
      platform: "gpu" or "tpu" where it runs there alone.
    """

    run: Callable[..., tuple[jax.Array, Carry]]
    serves: Callable[[Cell, int, jax.typing.DTypeLike], bool] = lambda cell, hidden, dtype: True
    platform: str | None = None


def recurrence(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None = None,
    *,
    reverse: bool = False,
    implementation: str = "auto",
) -> tuple[jax.Array, Carry]:
    """Runs ``cell`` over the valid frames of each example.

    Past an example's length the carry stands still and the outputs are zero, so an example gives in
    a padded batch what it gives alone. In reverse the run starts at the last valid frame.

    Args:
      cell: an entry of `gru_audio.rnn.cells.CELLS`.
      params: the cell's recurrent parameters, by the names of its entry; used in the type of the
        projections, while their gradients add up over time in float32 or wider.
      projections: one array (time, batch, hidden) for each of the cell's gates.
      carry: one array (batch, hidden) for each of the cell's carried values. It goes on in float32
        or wider whatever the type of the projections, lest small steps be rounded away.
      lengths: int (batch,), the valid frames of each example; None: all are.
      reverse: from the last valid frame to the first.
      implementation: a key of `IMPLEMENTATIONS`.

    Returns:
      The outputs (time, batch, hidden), in the order of the frames and the type of the projections,
      and the final carry, float32 or wider.

    Raises:
      UserError: the implementation is unknown, or cannot run this cell here.
    """
    chosen = choose("implementation", implementation, IMPLEMENTATIONS)
    here = jax.default_backend()
    if chosen.platform not in (None, here):
        raise UserError(
            f'model.implementation="{implementation}" needs a {chosen.platform.upper()}, and JAX '
            f'runs on the {here.upper()} here. "auto" takes one that runs anywhere.'
        )
    wide = wide_dtype(projections[0].dtype)
    carry = tuple(value.astype(wide) for value in carry)
    return chosen.run(cell, params, projections, carry, lengths, reverse)


_loop = functools.partial(differentiable, Loop())


def _auto(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """The fastest of those that have been measured where they run; the kernels have not been."""
    side_by_side = cell.linear and jax.default_backend() != "cpu"
    run = associative if side_by_side else _loop
    return run(cell, params, projections, carry, lengths, reverse)


IMPLEMENTATIONS: Mapping[str, Implementation] = {
    "auto": Implementation(_auto),
    "scan": Implementation(scan),
    "loop": Implementation(_loop),
    "associative": Implementation(associative, lambda cell, hidden, dtype: cell.linear),
    "pallas_tpu": Implementation(
        functools.partial(differentiable, tpu.PallasTpu()), tpu.fits, "tpu"
    ),
    "pallas_gpu": Implementation(
        functools.partial(differentiable, gpu.PallasGpu()), gpu.fits, "gpu"
    ),
}


def usable(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike) -> list[str]:
    """Names of the implementations that can run a cell of a size here, "auto" aside."""
    return [
        name
        for name, implementation in IMPLEMENTATIONS.items()
        if name != "auto"
        and implementation.platform in (None, jax.default_backend())
        and implementation.serves(cell, hidden, dtype)
    ]
