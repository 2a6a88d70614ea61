"""Random changes of sound, drawn anew for each example from its own key.

Every function takes typed keys (B,), one an example, so that what happens to an example depends on
its key alone: not on the other rows, nor on how far the batch is padded. Draw keys that differ
between the functions, for example with `jax.random.fold_in`. Strengths may be traced numbers, and
those that count samples, frames or bands are rounded; a strength of 0 changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gru_audio.settings import UserError, setting


def _strength(high: float, doc: str, **more: Any) -> Any:
    return setting(0.0, **{"low": 0, "high": high, **more}, traced=True, zero_is_off=True, doc=doc)


@dataclass(frozen=True)
class Augmentation:
    """The section `augment` of a config. Everything is off at zero."""

    speed: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        zero_is_off=True,
        doc="Clips are up to this much faster or slower, and higher or lower: 0.1.",
    )
    time_shift_ms: float = _strength(
        60_000.0, "Clips move by up to this much, earlier or later.", unit="ms"
    )
    gain_db: float = _strength(200, "Clips are up to this much louder or softer.", unit="dB")
    background: float = _strength(
        1, "The share of examples that are mixed with those of `data.background`."
    )
    snr_min_db: float = _strength(
        200, "The least signal-to-noise ratio of the mix.", low=-200, unit="dB"
    )
    snr_max_db: float = _strength(
        200, "The greatest signal-to-noise ratio of the mix.", low=-200, unit="dB"
    )
    mixup: float = _strength(1000, "Examples are mixed by weights from Beta(mixup, mixup).")
    time_masks: int = setting(0, low=0, high=1000, doc="Stretches of frames to mask.")
    time_mask_ms: float = _strength(60_000.0, "The longest stretch.", unit="ms")
    frequency_masks: int = setting(0, low=0, high=1000, doc="Stretches of bands to mask.")
    frequency_mask_bands: float = _strength(4096, "The widest stretch.", unit="bands")

    def __post_init__(self) -> None:
        if self.snr_min_db > self.snr_max_db:
            raise UserError("config.augment.snr_min_db must be at most config.augment.snr_max_db.")
        for masks, width in (
            ("time_masks", "time_mask_ms"),
            ("frequency_masks", "frequency_mask_bands"),
        ):
            if bool(getattr(self, masks)) != bool(getattr(self, width)):
                raise UserError(f"config.augment.{masks} and {width} do something together only.")


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


def speed(
    keys: jax.Array, waveform: jax.Array, lengths: jax.Array, most: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Plays each clip faster or slower, and so higher or lower, by a factor near 1.

    As audio speed perturbation (Ko et al. 2015), by cubic interpolation (Catmull-Rom). A clip that
    would outgrow the batch's length loses its end.

    Args:
      keys: (B,).
      waveform: (B, L).
      lengths: samples of each clip (B,).
      most: factors are uniform in [1 - most, 1 + most]; below 1.

    Returns:
      Waveform (B, L), and the new lengths (B,).
    """
    size = waveform.shape[1]

    def resample_one(
        key: jax.Array, clip: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        factor = 1 + most * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        position = jnp.arange(size) * factor
        whole = jnp.floor(position)
        after = position - whole
        before, left, right, beyond = (
            clip[jnp.clip(whole.astype(jnp.int32) + tap, 0, length - 1)] for tap in (-1, 0, 1, 2)
        )
        curve = 2 * left + after * (
            (right - before)
            + after
            * (
                (2 * before - 5 * left + 4 * right - beyond)
                + after * (3 * (left - right) + beyond - before)
            )
        )
        new = jnp.ceil(length / factor).astype(jnp.int32)
        new = jnp.where(jnp.asarray(most) > 0, jnp.clip(new, 1, size), length)
        return jnp.where(jnp.arange(size) < new, curve / 2, 0), new

    return jax.vmap(resample_one)(keys, waveform, lengths)


def background(
    keys: jax.Array,
    waveform: jax.Array,
    lengths: jax.Array,
    noise: jax.Array,
    noise_lengths: jax.Array,
    *,
    share: ArrayLike,
    snr_db: tuple[ArrayLike, ArrayLike],
) -> jax.Array:
    """Adds background noise to some of the clips, at a drawn signal-to-noise ratio.

    Args:
      keys: (B,).
      waveform: (B, L).
      lengths: samples of each clip (B,), over which its power is taken.
      noise: a background for each clip (B, L), begun at a random place and repeated where short.
      noise_lengths: samples of each background (B,).
      share: the part of the clips that get any.
      snr_db: least and greatest ratio of powers in decibels; drawn uniformly between them.

    Returns:
      Waveform (B, L). A silent clip, or one whose background is silent, stays as it is.
    """
    position = jnp.arange(waveform.shape[1])
    least, greatest = map(jnp.asarray, snr_db)

    def add_to_one(
        key: jax.Array, clip: jax.Array, length: jax.Array, noise: jax.Array, period: jax.Array
    ) -> jax.Array:
        start, drawn, decibels = jax.random.uniform(key, (3,))
        start = (start * period).astype(jnp.int32)
        inside = position < length
        noise = jnp.where(inside, noise[(start + position) % period], 0)
        power = jnp.sum(noise**2)
        ratio = 10 ** ((least + (greatest - least) * decibels) / 10)
        scale = jnp.sqrt(jnp.sum(clip**2, where=inside) / (jnp.where(power > 0, power, 1) * ratio))
        return clip + jnp.where(drawn < share, scale, 0) * noise

    return jax.vmap(add_to_one)(keys, waveform, lengths, noise, jnp.maximum(noise_lengths, 1))


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
    blocks: int = 1,
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
      blocks: the features are so many blocks of the same bands, as with deltas: masked alike.

    Returns:
      Features (B, T, F).
    """
    frames, bands = features.shape[1], features.shape[2] // blocks

    def mask_one(key: jax.Array, clip: jax.Array, length: jax.Array) -> jax.Array:
        time_key, frequency_key = jax.random.split(key)
        in_time = _stretches(time_key, frames, length, time_masks, time_width)
        in_frequency = _stretches(frequency_key, bands, bands, frequency_masks, frequency_width)
        masked = in_time[:, None] | jnp.tile(in_frequency, blocks)[None, :]
        return jnp.where(masked, 0, clip)

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
