"""Cells whose steps are linear in the carry, worked out for all steps side by side."""

import jax
import jax.numpy as jnp
from jax import lax

from gru_audio.rnn.equations import Carry, Cell, Params, Projections, wide_dtype
from gru_audio.settings import UserError


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
    read = [i for i, name in enumerate(cell.carry) if name in cell.numbered.read]
    if not cell.linear or len(read) != 1:
        raise UserError(
            'model.implementation="associative" serves cells that read one carried value and are '
            'linear in it, such as "min_gru" and "min_lstm". Leave it at "auto" for others.'
        )
    (state,) = read
    wide = wide_dtype(projections[0].dtype)
    nothing = jnp.zeros(projections[0].shape, wide)

    def step(before: jax.Array) -> Carry:
        # All frames at once. What no equation reads may have any value.
        values = tuple(before if i == state else nothing for i in range(len(carry)))
        return cell.step(params, values, projections)

    # A linear function is its value at zero and its derivative.
    added, decay = jax.jvp(lambda h: step(h)[state], (nothing,), (jnp.ones_like(nothing),))
    start = carry[state].astype(wide)
    valid = None
    if lengths is not None:
        valid = (jnp.arange(len(added))[:, None] < lengths)[..., None]
        decay, added = jnp.where(valid, decay, 1), jnp.where(valid, added, 0)
    states = linear_recurrence(decay, added, start, reverse)
    after = [states] * len(carry)
    if len(carry) > 1:
        first, rest = (states[1:], start[None]) if reverse else (start[None], states[:-1])
        after = list(step(jnp.concatenate([first, rest])))
        after[state] = states
    outputs = after[0] if valid is None else jnp.where(valid, after[0], 0)
    final = tuple(
        _last(values, begin.astype(wide), lengths, reverse).astype(begin.dtype)
        for values, begin in zip(after, carry, strict=True)
    )
    return outputs.astype(projections[0].dtype), final


def _last(
    values: jax.Array, start: jax.Array, lengths: jax.Array | None, reverse: bool
) -> jax.Array:
    """The value (batch, hidden) after the last step of each example; without steps the start."""
    if lengths is None:
        return values[0 if reverse else -1]
    at = jnp.zeros_like(lengths) if reverse else jnp.maximum(lengths - 1, 0)
    found = jnp.take_along_axis(values, at[None, :, None], axis=0)[0]
    return jnp.where(lengths[:, None] > 0, found, start)


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
