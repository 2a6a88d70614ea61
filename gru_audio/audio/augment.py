"""Random changes of sound, drawn anew for each example from its own key.

Every function takes typed keys (B,), one an example, so that what happens to an example depends on
its key alone: not on the other rows, nor on how far the batch is padded. Draw keys that differ
between the functions, for example with `jax.random.fold_in`. Strengths may be traced numbers, and
those that count samples, frames or bands are rounded; a strength of 0 changes nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def time_shift(
    keys: jax.Array, waveform: jax.Array, lengths: jax.Array, max_samples: ArrayLike
) -> jax.Array:
    """Moves each clip by up to `max_samples` earlier or later within its own length.

    Args:
      keys: (B,).
      waveform: (B, L).
      lengths: samples of each clip (B,).
      max_samples: shifts are uniform on the integers in [-max_samples, max_samples].

    Returns:
      Waveform (B, L): zeros where the clip moved away, nothing beyond its length.
    """
    reach = _whole(max_samples)
    position = jnp.arange(waveform.shape[1])

    def shift_one(key: jax.Array, clip: jax.Array, length: jax.Array) -> jax.Array:
        shift = _integers(key, (), 2 * reach + 1) - reach
        source = position - shift
        inside = (source >= 0) & (source < length) & (position < length)
        return jnp.where(inside, jnp.roll(clip, shift), 0)

    return jax.vmap(shift_one)(keys, waveform, lengths)


def gain(keys: jax.Array, waveform: jax.Array, max_db: ArrayLike) -> jax.Array:
    """Makes each clip of waveform (B, L) louder or softer by up to `max_db` decibels, uniformly."""

    def scale_one(key: jax.Array, clip: jax.Array) -> jax.Array:
        decibels = max_db * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        return clip * 10 ** (decibels / 20)

    return jax.vmap(scale_one)(keys, waveform)


def mixup(
    keys: jax.Array, waveform: jax.Array, partner: jax.Array, alpha: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Mixes each clip with its partner (mixup, Zhang et al. 2018).

    Args:
      keys: (B,).
      waveform: (B, L).
      partner: the clips to mix in (B, L), zero beyond their lengths.
      alpha: weights are drawn from Beta(alpha, alpha); 0 keeps the first clip.

    Returns:
      The mix (B, L), as long as the longer of the two clips, and the share of the first clip in it
      (B,), with which the targets are to be mixed too.
    """
    shape = jnp.maximum(alpha, jnp.finfo(jnp.float32).tiny)

    def weigh_one(key: jax.Array) -> jax.Array:
        return jnp.where(jnp.asarray(alpha) > 0, jax.random.beta(key, shape, shape), 1.0)

    weight = jax.vmap(weigh_one)(keys)
    share = weight[:, None]
    return share * waveform + (1 - share) * partner, weight


def spec_augment(
    keys: jax.Array,
    features: jax.Array,
    lengths: jax.Array,
    *,
    time_masks: int,
    time_width: ArrayLike,
    frequency_masks: int,
    frequency_width: ArrayLike,
) -> jax.Array:
    """Sets random stretches of frames and bands of features to 0 (SpecAugment, Park et al. 2019).

    Zero is the mean of normalised features: mask after normalising.

    Args:
      keys: (B,).
      features: (B, T, F).
      lengths: frames of each clip (B,).
      time_masks: stretches of frames to mask.
      time_width: each is 0 to this many frames wide, uniformly, and lies within the clip.
      frequency_masks: stretches of bands to mask.
      frequency_width: each is 0 to this many bands wide, uniformly.

    Returns:
      Features (B, T, F).
    """
    frames, bands = features.shape[1:]

    def mask_one(key: jax.Array, clip: jax.Array, length: jax.Array) -> jax.Array:
        time_key, frequency_key = jax.random.split(key)
        in_time = _stretches(time_key, frames, length, time_masks, time_width)
        in_frequency = _stretches(frequency_key, bands, bands, frequency_masks, frequency_width)
        return jnp.where(in_time[:, None] | in_frequency[None, :], 0, clip)

    return jax.vmap(mask_one)(keys, features, lengths)


def _stretches(
    key: jax.Array, size: int, length: ArrayLike, count: int, max_width: ArrayLike
) -> jax.Array:
    """Mask (size,) of `count` random stretches that lie within the first `length` places."""
    limit = jnp.minimum(_whole(max_width), length)
    width_key, start_key = jax.random.split(key)
    width = _integers(width_key, (count, 1), limit + 1)
    start = _integers(start_key, (count, 1), length - width + 1)
    place = jnp.arange(size)
    return ((place >= start) & (place < start + width)).any(axis=0)


def _integers(key: jax.Array, shape: tuple[int, ...], stop: ArrayLike) -> jax.Array:
    """Uniform on the integers in [0, stop), where stop is far below 2**24.

    `jax.random.randint` draws three times as many bits against a bias that cannot be seen here, and
    as this is compiled for every length of batches, that would take a second.
    """
    fraction = jax.random.uniform(key, shape)
    return jnp.minimum((fraction * stop).astype(jnp.int32), stop - 1)


def _whole(number: ArrayLike) -> jax.Array:
    """The nearest integer: 10 ms of 16 samples each may come as 159.99999."""
    return jnp.round(jnp.asarray(number, jnp.float32)).astype(jnp.int32)
