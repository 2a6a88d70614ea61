"""Data augmentation: random changes of sound and features.

Every function takes typed keys (B,), one per example. So the change of an example depends only on
its key, not on the other examples of the batch or on the padding. Pass different keys to different
functions, for example by `jax.random.fold_in`. Strengths may be traced. Strengths in samples,
frames or bands are rounded. A strength of 0 changes nothing, or
no more than the last bits of features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gru_audio.settings import UserError, setting


def _strength(high: float, doc: str, **more: Any) -> Any:
    return setting(0.0, **{"low": 0, "high": high, **more}, traced=True, off=0, doc=doc)


@dataclass(frozen=True)
class Augmentation:
    """The section `augment` of a config. Everything is off at zero."""

    speed: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        off=0,
        doc="Clips are up to this much faster or slower, and higher or lower: 0.1.",
    )
    tempo: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        off=0,
        doc="Clips are up to this much faster or slower at the same pitch: 0.2.",
    )
    frequency_warp: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        off=0,
        doc="Frequencies are up to this much higher or lower at the same speed: 0.1.",
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
) -> tuple[jax.Array, jax.Array]:
    """Shifts each clip by up to `max_samples` samples in either direction.

    Args:
      keys: (B,).
      waveform: (B, L).
      lengths: samples of each clip (B,).
      max_samples: shifts are uniform on the integers in [-max_samples, max_samples].

    Returns:
      Waveform (B, L), and the shifts in samples (B,), positive to later times. Samples that move
      out of the clip are lost, and zeros move in.
    """
    most = _rounded(max_samples)
    position = jnp.arange(waveform.shape[1])

    def shift_one(
        key: jax.Array, clip: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        shift = _integers(key, (), 2 * most + 1) - most
        source = position - shift
        inside = (source >= 0) & (source < length) & (position < length)
        return jnp.where(inside, jnp.roll(clip, shift), 0), shift

    return jax.vmap(shift_one)(keys, waveform, lengths)


def gain(keys: jax.Array, waveform: jax.Array, max_db: ArrayLike) -> jax.Array:
    """Changes the level of each clip of waveform (B, L), uniformly in [-max_db, max_db] dB."""

    def scale_one(key: jax.Array, clip: jax.Array) -> jax.Array:
        decibels = max_db * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        return clip * 10 ** (decibels / 20)

    return jax.vmap(scale_one)(keys, waveform)


def speed(
    keys: jax.Array, waveform: jax.Array, lengths: jax.Array, most: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Changes speed and pitch of each clip by a random factor (Ko et al. 2015).

    The interpolation is cubic (Catmull-Rom). If a clip becomes longer than the batch, its end is
    lost.

    Args:
      keys: (B,).
      waveform: (B, L).
      lengths: samples of each clip (B,).
      most: factors are uniform in [1 - most, 1 + most]; below 1.

    Returns:
      Waveform (B, L), the new lengths (B,), and the factors (B,).
    """
    size = waveform.shape[1]

    def resample_one(
        key: jax.Array, clip: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        factor = 1 + jnp.asarray(most) * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        position = jnp.arange(size) * factor
        whole = jnp.floor(position)
        t = position - whole
        a, b, c, d = (
            clip[jnp.clip(whole.astype(jnp.int32) + tap, 0, length - 1)] for tap in (-1, 0, 1, 2)
        )
        curve = 2 * b + t * (
            (c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a))
        )
        new_length = jnp.ceil(length / factor).astype(jnp.int32)
        new_length = jnp.where(jnp.asarray(most) > 0, jnp.clip(new_length, 1, size), length)
        return jnp.where(jnp.arange(size) < new_length, curve / 2, 0), new_length, factor

    return jax.vmap(resample_one)(keys, waveform, lengths)


def tempo(
    keys: jax.Array, features: jax.Array, lengths: jax.Array, most: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Changes the speed of each clip by a random factor, by linear interpolation of its frames.

    If a clip becomes longer than the batch, its end is lost.

    Args:
      keys: (B,).
      features: (B, T, F).
      lengths: frames of each clip (B,).
      most: factors are uniform in [1 - most, 1 + most]; below 1.

    Returns:
      Features (B, T, F), the new lengths (B,), and the factors (B,).
    """
    size = features.shape[1]

    def stretch_one(
        key: jax.Array, clip: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        factor = 1 + jnp.asarray(most) * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        position = jnp.minimum(jnp.arange(size) * factor, jnp.maximum(length - 1, 0))
        # The last frame is at (length - 1) / factor. Rounding must not lose it where factor is 1.
        last = jnp.floor(jnp.maximum(length - 1, 0) / factor + 1e-4).astype(jnp.int32)
        new_length = jnp.minimum(last + 1, size)
        inside = jnp.arange(size)[:, None] < new_length
        return jnp.where(inside, _interpolated(clip, position), 0), new_length, factor

    return jax.vmap(stretch_one)(keys, features, lengths)


def frequency_warp(
    keys: jax.Array, features: jax.Array, frequencies: np.ndarray, most: ArrayLike
) -> jax.Array:
    """Multiplies the frequencies of each clip by a random factor, by interpolation of its bands.

    Jaitly and Hinton 2013 do so to imitate vocal tracts of other lengths. The outermost bands
    repeat beyond the edges of the spectrum.

    Args:
      keys: (B,).
      features: energies of bands (B, T, blocks of F).
      frequencies: centres of the bands in Hz (F,), ascending.
      most: factors are uniform in [1 - most, 1 + most]; below 1.
    """
    batch, frames, width = features.shape
    bands = features.reshape(batch, frames, -1, frequencies.size)

    def warp_one(key: jax.Array, clip: jax.Array) -> jax.Array:
        factor = 1 + jnp.asarray(most) * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        centres = jnp.asarray(frequencies, jnp.float32)
        position = jnp.interp(centres / factor, centres, jnp.arange(centres.size))
        return jnp.moveaxis(_interpolated(jnp.moveaxis(clip, -1, 0), position), 0, -1)

    return jax.vmap(warp_one)(keys, bands).reshape(batch, frames, width)


def _interpolated(rows: jax.Array, position: jax.Array) -> jax.Array:
    """Interpolates rows (N, ...) linearly at positions (M,) in [0, N - 1]."""
    first = jnp.clip(position.astype(jnp.int32), 0, len(rows) - 1)
    second = jnp.minimum(first + 1, len(rows) - 1)
    share = (position - first).reshape(-1, *[1] * (rows.ndim - 1))
    return rows[first] + share * (rows[second] - rows[first])


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
    """Adds background noise to some of the clips, at a random signal-to-noise ratio.

    Args:
      keys: (B,).
      waveform: (B, L).
      lengths: samples of each clip (B,), over which the power is computed.
      noise: noise for each clip (B, L). It starts at a random position, and repeats if it is short.
      noise_lengths: samples of each noise (B,).
      share: probability that a clip gets noise.
      snr_db: smallest and largest ratio of powers in decibels; the ratio is uniform between them.

    Returns:
      Waveform (B, L). A clip does not change if it or its noise is silent.
    """
    position = jnp.arange(waveform.shape[1])
    lowest, highest = map(jnp.asarray, snr_db)

    def add_to_one(
        key: jax.Array, clip: jax.Array, length: jax.Array, noise: jax.Array, period: jax.Array
    ) -> jax.Array:
        start, choice, decibels = jax.random.uniform(key, (3,))
        start = (start * period).astype(jnp.int32)
        inside = position < length
        noise = jnp.where(inside, noise[(start + position) % period], 0)
        power = jnp.sum(noise**2)
        ratio = 10 ** ((lowest + (highest - lowest) * decibels) / 10)
        scale = jnp.sqrt(jnp.sum(clip**2, where=inside) / (jnp.where(power > 0, power, 1) * ratio))
        return clip + jnp.where(choice < share, scale, 0) * noise

    return jax.vmap(add_to_one)(keys, waveform, lengths, noise, jnp.maximum(noise_lengths, 1))


def mixup(
    keys: jax.Array, waveform: jax.Array, partner: jax.Array, alpha: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Mixes each clip with a partner (mixup, Zhang et al. 2018).

    Args:
      keys: (B,).
      waveform: (B, L).
      partner: the clips to add (B, L), zero beyond their lengths.
      alpha: weights have the distribution Beta(alpha, alpha); 0 keeps the first clip.

    Returns:
      The mixture (B, L), as long as the longer clip, and the weight of the first clip (B,), by
      which the caller must mix the targets.
    """
    shape = jnp.maximum(alpha, jnp.finfo(jnp.float32).tiny)

    def sample_weight(key: jax.Array) -> jax.Array:
        return jnp.where(jnp.asarray(alpha) > 0, jax.random.beta(key, shape, shape), 1.0)

    weight = jax.vmap(sample_weight)(keys)
    column = weight[:, None]
    return column * waveform + (1 - column) * partner, weight


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
    """Masks random ranges of frames and bands with 0 (SpecAugment, Park et al. 2019).

    Apply it after normalisation, so that 0 is the mean.

    Args:
      keys: (B,).
      features: (B, T, F).
      lengths: frames of each clip (B,).
      time_masks: number of masked ranges of frames.
      time_width: the width of each is uniform on the integers in [0, time_width], within the clip.
      frequency_masks: number of masked ranges of bands.
      frequency_width: the width of each is uniform on the integers in [0, frequency_width].
      blocks: number of blocks of the same bands in the features, for example features and deltas.
        All blocks get the same mask.

    Returns:
      Features (B, T, F).
    """
    frames, bands = features.shape[1], features.shape[2] // blocks

    def mask_one(key: jax.Array, clip: jax.Array, length: jax.Array) -> jax.Array:
        time_key, frequency_key = jax.random.split(key)
        in_time = _mask(time_key, frames, length, time_masks, time_width)
        in_frequency = _mask(frequency_key, bands, bands, frequency_masks, frequency_width)
        masked = in_time[:, None] | jnp.tile(in_frequency, blocks)[None, :]
        return jnp.where(masked, 0, clip)

    return jax.vmap(mask_one)(keys, features, lengths)


def _mask(
    key: jax.Array, size: int, length: ArrayLike, count: int, max_width: ArrayLike
) -> jax.Array:
    """Returns a mask (size,) of `count` random ranges within the first `length` positions."""
    limit = jnp.minimum(_rounded(max_width), length)
    width_key, start_key = jax.random.split(key)
    width = _integers(width_key, (count, 1), limit + 1)
    start = _integers(start_key, (count, 1), length - width + 1)
    position = jnp.arange(size)
    return ((position >= start) & (position < start + width)).any(axis=0)


def _integers(key: jax.Array, shape: tuple[int, ...], stop: ArrayLike) -> jax.Array:
    """Returns integers that are uniform in [0, stop), with stop far below 2**24.

    `jax.random.randint` removes a bias that is negligible here. It needs three times as many random
    bits, and one more second to compile for each length of batches.
    """
    fraction = jax.random.uniform(key, shape)
    return jnp.minimum((fraction * stop).astype(jnp.int32), stop - 1)


def _rounded(number: ArrayLike) -> jax.Array:
    """Returns the nearest integer: 10 ms at 16 kHz may arrive as 159.99999 samples."""
    return jnp.round(jnp.asarray(number, jnp.float32)).astype(jnp.int32)
