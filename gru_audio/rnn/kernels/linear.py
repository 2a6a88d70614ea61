"""Cells whose steps are linear in the carry, worked out for all steps side by side."""

import jax
import jax.numpy as jnp
from jax import lax

from gru_audio.config import UserError
from gru_audio.rnn.equations import Carry, Cell, Params, Pointwise, Projections, wide_dtype


def associative(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """See `gru_audio.rnn.recurrence`; in O(log time) steps (Blelloch 1990).

    Raises:
      UserError: the cell is not linear.
    """
    if not cell.linear:
        raise UserError(
            'model.implementation="associative" serves cells that are linear in their carry, '
            '"min_gru" and "min_lstm". Leave it at "auto" for others.'
        )
    # A linear function is its value at zero and its derivative.
    (equation,) = (e for e in cell.equations if isinstance(e, Pointwise))
    (start,) = carry
    wide = wide_dtype(projections[0].dtype)
    values = {name: p.astype(wide) for name, p in zip(cell.gates, projections, strict=True)}
    values[equation.value] = jnp.zeros_like(values[cell.gates[0]])
    added, derivatives = equation.with_derivatives(values)
    decay = derivatives[equation.value]
    if lengths is None:
        outputs = linear_recurrence(decay, added, start.astype(wide), reverse)
        after = outputs
    else:
        valid = (jnp.arange(len(added))[:, None] < lengths)[..., None]
        decay, added = jnp.where(valid, decay, 1), jnp.where(valid, added, 0)
        after = linear_recurrence(decay, added, start.astype(wide), reverse)
        outputs = jnp.where(valid, after, 0)
    final = after[0 if reverse else -1].astype(start.dtype)
    return outputs.astype(projections[0].dtype), (final,)


@jax.custom_vjp
def _forwards(decay: jax.Array, added: jax.Array, start: jax.Array) -> jax.Array:
    added = added.at[0].add(decay[0] * start)
    return lax.associative_scan(_compose, (decay, added))[1]


def linear_recurrence(
    decay: jax.Array, added: jax.Array, start: jax.Array, reverse: bool = False
) -> jax.Array:
    """``h_t = decay_t * h_before + added_t``, elementwise, for all t.

    Its gradient is a linear recurrence too, against the time, and is computed as one; JAX's own of
    an associative scan would keep every level of it.

    Args:
      decay, added: (time, ...).
      start: (...), before the first step.
      reverse: from the last step to the first.
    """
    if reverse:
        return _forwards(decay[::-1], added[::-1], start)[::-1]
    return _forwards(decay, added, start)


def _compose(first, second):
    return second[0] * first[0], second[0] * first[1] + second[1]


def _forwards_forward(decay, added, start):
    states = _forwards(decay, added, start)
    return states, (decay, start, states)


def _forwards_backward(residuals, gradient):
    decay, start, states = residuals
    following = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
    through = linear_recurrence(following, gradient, jnp.zeros_like(start), reverse=True)
    before = jnp.concatenate([start[None], states[:-1]])
    return through * before, through, decay[0] * through[0]


_forwards.defvjp(_forwards_forward, _forwards_backward)
