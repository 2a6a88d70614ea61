"""Pooling: one vector per example (batch, units) from the valid frames of an encoder.

Sums are computed in float32.
"""

import inspect
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.nn.layer import EncoderOutput


def valid_frames(lengths: jax.Array, time: int) -> jax.Array:
    """Returns bool (batch, time): True before each example's length, and for the first frame."""
    return jnp.arange(time) < jnp.maximum(lengths, 1)[:, None]


def last(encoded: EncoderOutput) -> jax.Array:
    """Returns the output of each direction that depends on every frame."""
    return encoded.last


def mean(encoded: EncoderOutput) -> jax.Array:
    """Returns the mean of the frames. An encoder's frames past the length are zero."""
    return encoded.frames.sum(1, dtype=jnp.float32) / jnp.maximum(encoded.lengths, 1)[:, None]


def maximum(encoded: EncoderOutput) -> jax.Array:
    """Returns the maximum of each unit."""
    valid = valid_frames(encoded.lengths, encoded.frames.shape[1])
    return jnp.max(encoded.frames, axis=1, initial=-jnp.inf, where=valid[..., None])


def attention(encoded: EncoderOutput) -> jax.Array:
    """Returns the mean weighted by the softmax of a linear score (Raffel and Ellis 2015).

    See arXiv 1512.08756. The score is learnt, so call this inside a module's compact method.
    """
    valid = valid_frames(encoded.lengths, encoded.frames.shape[1])
    score = nn.Dense(1, use_bias=False, name="attention")(encoded.frames)
    weight = jax.nn.softmax(score, axis=1, where=valid[..., None])
    return (weight * encoded.frames).sum(1)


def multi_head_attention(encoded: EncoderOutput, heads: int = 4) -> jax.Array:
    """Returns the weighted means of several attention heads, concatenated.

    The query of a head is an affine map of the middle valid frame. The weights are the softmax over
    time of the dot products of query and frames. One head is the Att-RNN of de Andrade et al. 2018
    (arXiv 1808.08929), four heads are the MHAtt-RNN of Rybakov et al. 2020 (arXiv 2005.06720).

    The query is learnt, so call this inside a module's compact method.

    Returns:
      (batch, heads x units).
    """
    frames = encoded.frames.astype(jnp.float32)
    batch, time, units = frames.shape
    middle = jnp.take_along_axis(frames, encoded.lengths[:, None, None] // 2, axis=1)[:, 0]
    query = nn.Dense(heads * units, name="query")(middle).reshape(batch, heads, units)
    score = jnp.einsum("bhu,btu->bht", query, frames)
    valid = valid_frames(encoded.lengths, time)
    weight = jax.nn.softmax(score, axis=-1, where=valid[:, None])
    return jnp.einsum("bht,btu->bhu", weight, frames).reshape(batch, heads * units)


POOLINGS: dict[str, Callable[..., jax.Array]] = {
    "last": last,
    "mean": mean,
    "max": maximum,
    "attention": attention,
    "multi_head_attention": multi_head_attention,
}


def takes_heads(pooling: Callable[..., jax.Array]) -> bool:
    """Returns whether a pooling function has several attention heads."""
    return "heads" in inspect.signature(pooling).parameters
