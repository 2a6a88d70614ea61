"""Rematerialisation: a layer run in chunks of time, each computed anew in the backward pass."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gru_audio.rnn.equations import Carry

Run = Callable[[jax.Array, jax.Array | None, Carry], tuple[jax.Array, Carry]]


def in_chunks(
    run: Run,
    inputs: jax.Array,
    lengths: jax.Array | None,
    carry: Carry,
    *,
    frames: int,
    reverse: bool = False,
) -> tuple[jax.Array, Carry]:
    """What ``run(inputs, lengths, carry)`` gives, for the memory of one chunk and all carries.

    Of the rest only inputs and outputs are kept until the backward pass (Chen et al. 2016, arXiv
    1604.06174): with T frames in chunks of K the activations of K frames and T / K carries.

    Args:
      run: ``(inputs, lengths, carry) -> (outputs, carry)``, which leaves the carry as it is past an
        example's length.
      inputs: (time, batch, features).
      lengths: int (batch,), valid frames; None: all are.
      carry: to start from.
      frames: of a chunk.
      reverse: whether `run` goes from the last valid frame to the first.

    Returns:
      The outputs (time, batch, units) and the final carry.
    """
    time, batch, features = inputs.shape
    chunks = -(-time // frames)
    padding = chunks * frames - time
    if padding:
        inputs = jnp.pad(inputs, ((0, padding), (0, 0), (0, 0)))
        lengths = jnp.full(batch, time, jnp.int32) if lengths is None else lengths

    @functools.partial(jax.checkpoint, prevent_cse=False)  # a scan stands between the two passes
    def chunk(carry: Carry, part: tuple[jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
        start, inputs = part
        left = None if lengths is None else jnp.clip(lengths - start, 0, frames)
        outputs, carry = run(inputs, left, carry)
        return carry, outputs

    starts = frames * jnp.arange(chunks)
    parts = inputs.reshape(chunks, frames, batch, features)
    carry, outputs = jax.lax.scan(chunk, carry, (starts, parts), reverse=reverse)
    return outputs.reshape(chunks * frames, batch, -1)[:time], carry
