"""One frame of a padded batch, forward and backward: past its end an example stands still."""

import jax
import jax.numpy as jnp

from gru_audio.rnn.equations import Carry, Cell, Projections, Values, Weights


def forward(
    cell: Cell,
    weights: Weights,
    carry: Carry,
    projections: Projections,
    valid: jax.Array | None,
    *,
    derivatives: bool,
) -> tuple[jax.Array, Carry, Values, Values]:
    """Output, new carry, slots and operands; see `Cell.forward`.

    Args:
      cell: the cell.
      weights: its parameters.
      carry: before the frame.
      projections: the frame's.
      valid: bool, broadcast to (batch, hidden): whether the frame is within an example's length.
        None: all are.
      derivatives: whether slots and operands are wanted.
    """
    new, slots, operands = cell.forward(weights, carry, projections, derivatives=derivatives)
    if valid is None:
        return new[0], new, slots, operands
    return jnp.where(valid, new[0], 0), _where(valid, new, carry), slots, operands


def backward(
    cell: Cell,
    weights: Weights,
    slots: Values,
    d_output: jax.Array,
    d_after: Carry,
    valid: jax.Array | None,
) -> tuple[Values, Carry]:
    """The gates' gradients and that of the carry before the frame; see `Cell.backward`."""
    gradients = (d_after[0] + d_output, *d_after[1:])
    if valid is None:
        return cell.backward(weights, slots, gradients)
    nothing = tuple(jnp.zeros_like(d) for d in d_after)
    gates, d_before = cell.backward(weights, slots, _where(valid, gradients, nothing))
    return gates, _where(valid, d_before, d_after)


def _where(valid: jax.Array, some: Carry, others: Carry) -> Carry:
    return tuple(jnp.where(valid, a, b) for a, b in zip(some, others, strict=True))
