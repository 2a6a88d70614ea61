"""Waveforms (B, L) cut into frames, and how many there are."""

import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Count = TypeVar("Count", int, np.ndarray, jax.Array)


def count_frames(samples: Count, size: int, hop: int) -> Count:
    """Whole frames of `size` samples in a clip of so many; one in a clip that is shorter."""
    return 1 + (samples >= size) * ((samples - size) // hop)


def silence_padding(waveform: jax.Array, lengths: jax.Array) -> jax.Array:
    """Zeros beyond each clip's length, so that what lies there cannot leak into a short clip."""
    return jnp.where(jnp.arange(waveform.shape[1]) < lengths[:, None], waveform, 0)


def cut_frames(waveform: jax.Array, frames: int, size: int, hop: int) -> jax.Array:
    """Frames (B, frames, size) that start `hop` samples apart; zeros beyond the waveform's end.

    One slice a frame: on a CPU XLA runs this, with the FFT that follows, faster than a gather of
    samples or shifted blocks laid side by side.
    """
    waveform = fit(waveform, (frames - 1) * hop + size)
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, waveform, slice_size=size, axis=1)
    return jax.vmap(cut, out_axes=1)(hop * jnp.arange(frames))


def fit(waveform: jax.Array, samples: int) -> jax.Array:
    """Cuts or fills up with zeros to (B, samples)."""
    waveform = waveform[:, :samples]
    return jnp.pad(waveform, ((0, 0), (0, samples - waveform.shape[1])))
