"""Cutting waveforms (B, L) into frames."""

import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Count = TypeVar("Count", int, np.ndarray, jax.Array)


def count_frames(samples: Count, size: int, hop: int) -> Count:
    """Returns the number of complete frames of `size` samples; 1 for a shorter clip."""
    return 1 + (samples >= size) * ((samples - size) // hop)


def silence_padding(waveform: jax.Array, lengths: jax.Array) -> jax.Array:
    """Sets all samples beyond each clip's length to zero, so that no frame contains them."""
    return jnp.where(jnp.arange(waveform.shape[1]) < lengths[:, None], waveform, 0)


def cut_frames(waveform: jax.Array, frames: int, size: int, hop: int) -> jax.Array:
    """Returns frames (B, frames, size) that start every `hop` samples, padded with zeros.

    Each frame is one slice. On a CPU, XLA runs this and a following FFT faster than a gather of
    samples or a concatenation of shifted blocks.
    """
    waveform = fit(waveform, (frames - 1) * hop + size)
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, waveform, slice_size=size, axis=1)
    return jax.vmap(cut, out_axes=1)(hop * jnp.arange(frames))


def fit(waveform: jax.Array, samples: int) -> jax.Array:
    """Cuts the waveform or pads it with zeros to (B, samples)."""
    waveform = waveform[:, :samples]
    return jnp.pad(waveform, ((0, 0), (0, samples - waveform.shape[1])))
