"""A cell applied along time, by one of several implementations that give the same numbers."""

import functools
from collections.abc import Callable, Mapping

import jax

from gru_audio.rnn.equations import Carry, Cell, Params, Projections
from gru_audio.rnn.kernels.gradient import differentiable
from gru_audio.rnn.kernels.linear import associative
from gru_audio.rnn.kernels.loop import Loop
from gru_audio.rnn.kernels.scan import scan
from gru_audio.rnn.names import choose

Implementation = Callable[..., tuple[jax.Array, Carry]]


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
      carry: one array (batch, hidden) for each of the cell's carried values.
      lengths: int (batch,), the valid frames of each example; None: all are.
      reverse: from the last valid frame to the first.
      implementation: a key of `IMPLEMENTATIONS`; "auto" is the fastest for the case.

    Returns:
      The outputs (time, batch, hidden), in the order of the frames, and the final carry.
    """
    run = choose("implementation", implementation, IMPLEMENTATIONS)
    return run(cell, params, projections, carry, lengths, reverse)


_loop = functools.partial(differentiable, Loop())


def _auto(
    cell: Cell, params: Params, projections: Projections, carry: Carry, lengths, reverse: bool
) -> tuple[jax.Array, Carry]:
    side_by_side = cell.linear and jax.default_backend() != "cpu"
    run = associative if side_by_side else _loop
    return run(cell, params, projections, carry, lengths, reverse)


IMPLEMENTATIONS: Mapping[str, Implementation] = {
    "auto": _auto,
    "scan": scan,
    "loop": _loop,
    "associative": associative,
}


def usable(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike) -> list[str]:
    """Names of the implementations that can run a cell of a size here, "auto" aside."""
    names = ["scan", "loop"]
    return names + ["associative"] * cell.linear
