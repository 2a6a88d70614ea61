"""The reference: linen's scan over the cell's step, differentiated by JAX, any number of times."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.rnn.equations import Carry, Cell, Params, Projections


class _Step(nn.Module):
    """The body of the scan: one step of a cell, undone where the frame is padding."""

    cell: Cell

    @nn.compact
    def __call__(
        self, carry: Carry, inputs: tuple[Projections, jax.Array | None]
    ) -> tuple[Carry, jax.Array]:
        projections, valid = inputs
        dtype = projections[0].dtype
        # Cast here, in the step, so that their gradients add up over time in their own type.
        params = jax.tree.map(lambda param: param.astype(dtype), self.variables.get("params", {}))
        # Backward, the gates are cheaper to compute again than to fetch from memory.
        step = jax.checkpoint(
            self.cell.step, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False
        )
        new = step(params, carry, projections)
        if valid is None:
            return new, new[0].astype(dtype)
        output = jnp.where(valid, new[0], 0).astype(dtype)
        return tuple(jnp.where(valid, n, o) for n, o in zip(new, carry, strict=True)), output


def scan(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """See `gru_audio.rnn.recurrence`."""
    valid = None
    if lengths is not None:
        valid = (jnp.arange(len(projections[0]))[:, None] < lengths)[..., None]
    steps: Any = nn.scan(
        _Step, variable_broadcast="params", split_rngs={"params": False}, reverse=reverse
    )(cell, parent=None)
    final, outputs = steps.apply({"params": params}, carry, (projections, valid))
    return outputs, final
