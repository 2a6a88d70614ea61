"""A cell applied along time, by one of several implementations that give the same numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.rnn.cells import Carry, Cell, Params, Projections
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
        projections, while their gradients add up over time in their own.
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


class _Step(nn.Module):
    """The body of the scan: one step of a cell, undone where the frame is padding."""

    cell: Cell

    @nn.compact
    def __call__(
        self, carry: Carry, inputs: tuple[Projections, jax.Array | None]
    ) -> tuple[Carry, jax.Array]:
        projections, valid = inputs
        params = jax.tree.map(
            lambda param: param.astype(projections[0].dtype), self.variables["params"]
        )
        # Backward, the gates are cheaper to compute again than to fetch from memory.
        step = jax.checkpoint(
            self.cell.step, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False
        )
        new = step(params, carry, projections)
        if valid is None:
            return new, new[0]
        output = jnp.where(valid, new[0], 0)
        return tuple(jnp.where(valid, n, o) for n, o in zip(new, carry, strict=True)), output


def _scan(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """The reference: linen's scan, differentiated by JAX."""
    valid = None
    if lengths is not None:
        valid = (jnp.arange(len(projections[0]))[:, None] < lengths)[..., None]
    steps: Any = nn.scan(
        _Step, variable_broadcast="params", split_rngs={"params": False}, reverse=reverse
    )(cell, parent=None)
    final, outputs = steps.apply({"params": params}, carry, (projections, valid))
    return outputs, final


IMPLEMENTATIONS: Mapping[str, Implementation] = {"auto": _scan, "scan": _scan}
