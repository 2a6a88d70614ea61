"""The recurrence of cells that are linear in the carry, by a parallel scan over time."""

import jax
import jax.numpy as jnp
from jax import lax

from gru_audio.nn.equations import Carry, Cell, Params, Projections, wide_dtype
from gru_audio.settings import UserError


def associative(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """Runs the recurrence in O(log time) sequential steps (Blelloch 1990).

    See `gru_audio.nn.recurrence`.

    Raises:
      UserError: the cell is not linear.
    """
    read = [i for i, name in enumerate(cell.carry) if name in cell.ssa.read]
    if not cell.linear or len(read) != 1:
        raise UserError(
            'model.implementation="associative" needs a cell that reads one carried value and is '
            'linear in it, such as "min_gru" or "min_lstm". Set "auto" for other cells.'
        )
    (state,) = read
    wide = wide_dtype(projections[0].dtype)
    zeros = jnp.zeros(projections[0].shape, wide)

    def step(previous: jax.Array) -> Carry:
        # Runs all frames at once. No equation reads the other carried values.
        values = tuple(previous if i == state else zeros for i in range(len(carry)))
        return cell.step(params, values, projections)

    # The value at zero and the derivative determine a linear function.
    added, decay = jax.jvp(lambda h: step(h)[state], (zeros,), (jnp.ones_like(zeros),))
    start = carry[state].astype(wide)
    valid = None
    if lengths is not None:
        valid = (jnp.arange(len(added))[:, None] < lengths)[..., None]
        decay, added = jnp.where(valid, decay, 1), jnp.where(valid, added, 0)
    states = linear_recurrence(decay, added, start, reverse)
    carries = [states] * len(carry)
    if len(carry) > 1:
        first, rest = (states[1:], start[None]) if reverse else (start[None], states[:-1])
        carries = list(step(jnp.concatenate([first, rest])))
        carries[state] = states
    outputs = carries[0] if valid is None else jnp.where(valid, carries[0], 0)
    final = tuple(
        _last(values, initial.astype(wide), lengths, reverse).astype(initial.dtype)
        for values, initial in zip(carries, carry, strict=True)
    )
    return outputs.astype(projections[0].dtype), final


def _last(
    values: jax.Array, start: jax.Array, lengths: jax.Array | None, reverse: bool
) -> jax.Array:
    """Returns the value (batch, hidden) after each example's last step; `start` if it has none."""
    if lengths is None:
        return values[0 if reverse else -1]
    at = jnp.zeros_like(lengths) if reverse else jnp.maximum(lengths - 1, 0)
    last = jnp.take_along_axis(values, at[None, :, None], axis=0)[0]
    return jnp.where(lengths[:, None] > 0, last, start)


@jax.custom_vjp
def _scan(decay: jax.Array, added: jax.Array, start: jax.Array) -> jax.Array:
    added = added.at[0].add(decay[0] * start)
    return lax.associative_scan(_compose, (decay, added))[1]


def linear_recurrence(
    decay: jax.Array, added: jax.Array, start: jax.Array, reverse: bool = False
) -> jax.Array:
    """Computes ``h[t] = decay[t] * h[t - 1] + added[t]``, elementwise, for all t.

    The gradient is a linear recurrence in the opposite direction, and is computed as one. JAX's own
    gradient of an associative scan would store every level of the scan.

    Args:
      decay, added: (time, ...).
      start: (...), the value before the first step.
      reverse: run from the last step to the first: ``h[t + 1]`` replaces ``h[t - 1]``.

    Returns:
      h: (time, ...).
    """
    if reverse:
        return _scan(decay[::-1], added[::-1], start)[::-1]
    return _scan(decay, added, start)


def _compose(first, second):
    return second[0] * first[0], second[0] * first[1] + second[1]


def _scan_forward(decay, added, start):
    states = _scan(decay, added, start)
    return states, (decay, start, states)


def _scan_backward(residuals, gradient):
    decay, start, states = residuals
    next_decay = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
    d_states = linear_recurrence(next_decay, gradient, jnp.zeros_like(start), reverse=True)
    previous = jnp.concatenate([start[None], states[:-1]])
    return d_states * previous, d_states, decay[0] * d_states[0]


_scan.defvjp(_scan_forward, _scan_backward)
