"""From an encoder's output to one vector an example (batch, units), over its valid frames only.

Sums are in float32, whatever type the encoder computes in.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.rnn.layer import EncoderOutput


def valid_frames(lengths: jax.Array, time: int) -> jax.Array:
    """Bool (batch, time): True before each example's length, and for the first frame always."""
    return jnp.arange(time) < jnp.maximum(lengths, 1)[:, None]


def last(encoded: EncoderOutput) -> jax.Array:
    """The last layer's final state: in each direction the output that has seen every frame."""
    return jnp.concatenate([carry[0] for carry in encoded.carry[-1]], axis=-1)


def mean(encoded: EncoderOutput) -> jax.Array:
    """The mean. An encoder's frames past the length are zero and add nothing."""
    return encoded.frames.sum(1, dtype=jnp.float32) / jnp.maximum(encoded.lengths, 1)[:, None]


def maximum(encoded: EncoderOutput) -> jax.Array:
    """The greatest value of each unit."""
    valid = valid_frames(encoded.lengths, encoded.frames.shape[1])
    return jnp.max(encoded.frames, axis=1, initial=-jnp.inf, where=valid[..., None])


def attention(encoded: EncoderOutput) -> jax.Array:
    """Mean weighted by the softmax of a learnt linear score (Raffel and Ellis 2015, 1512.08756).

    It has a parameter, so it must be called inside a linen module's compact method.
    """
    valid = valid_frames(encoded.lengths, encoded.frames.shape[1])
    score = nn.Dense(1, use_bias=False, name="attention")(encoded.frames)
    weight = jax.nn.softmax(score, axis=1, where=valid[..., None])
    return (weight * encoded.frames).sum(1)


POOLINGS: Mapping[str, Callable[[EncoderOutput], jax.Array]] = {
    "last": last,
    "mean": mean,
    "max": maximum,
    "attention": attention,
}
