"""The LSTM of cuDNN as a recurrence, through `jax.experimental.rnn`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from gru_audio.nn.cells import CELLS
from gru_audio.nn.equations import Carry, Cell, Params, Projections


def serves(cell: Cell, dtype: jax.typing.DTypeLike) -> bool:
    """Returns whether `lstm` can run a cell: the usual LSTM in float32."""
    return cell is CELLS["lstm"] and jnp.dtype(dtype) == jnp.float32


def lstm(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
    call: Callable[..., Any] = rnn.lstm,
) -> tuple[jax.Array, Carry]:
    """Runs the LSTM on NVIDIA GPUs; see `gru_audio.nn.recurrence`.

    cuDNN projects its inputs itself. Here they are projected already, so its input kernel is an
    identity. It has no rule for `vmap`.

    Args:
      cell: as `serves` allows; the other arguments are those of `recurrence`.
      call: has the arguments and results of `jax.experimental.rnn.lstm`.
    """
    time, batch, hidden = projections[0].shape
    width, kernel = len(projections) * hidden, params["recurrent_kernel"]
    limits = jnp.full(batch, time, jnp.int32) if lengths is None else lengths.astype(jnp.int32)
    valid = (jnp.arange(time)[:, None] < limits)[..., None]
    inputs = jnp.concatenate(projections, axis=-1)
    weights = jnp.concatenate(
        [jnp.eye(width).ravel(), kernel.T.astype(jnp.float32).ravel(), jnp.zeros(2 * width)]
    )
    outputs, *ends = call(
        (_reversed(inputs, limits) if reverse else inputs).swapaxes(0, 1),
        *(value[None] for value in carry),
        weights,
        jnp.maximum(limits, 1),  # cuDNN refuses empty sequences
        *(width, hidden, 1, 0.0, False),
    )
    outputs = outputs.swapaxes(0, 1)
    outputs = jnp.where(valid, _reversed(outputs, limits) if reverse else outputs, 0)
    some = (limits > 0)[:, None]
    final = (jnp.where(some, end[0], start) for end, start in zip(ends, carry, strict=True))
    return outputs, tuple(final)


def _reversed(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """Reverses the valid frames of (time, batch, ...). The padding stays where it is."""
    t = jnp.arange(len(frames))[:, None]
    at = jnp.where(t < lengths, lengths - 1 - t, t)
    return jnp.take_along_axis(frames, at[..., None], axis=0)
