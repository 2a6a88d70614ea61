"""Deltas: the derivatives of features over time (Furui 1986)."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.frontends.frontend import Derived, Frontend
from gru_audio.settings import UserError


@dataclasses.dataclass(frozen=True)
class Deltas(Derived):
    """The features of another frontend, followed by their derivatives over time.

    The first derivative is that of the line, and the second that of the parabola, that best fits
    the frames from `reach` before to `reach` after. The first and the last frame of a clip repeat
    beyond its ends. Equal to librosa's `feature.delta` with `mode="nearest"`.

    Attributes:
      source: the other frontend.
      order: the highest derivative, 1 or 2.
      reach: number of frames on either side.

    Raises:
      UserError: a value is out of range.
    """

    source: Frontend
    order: int
    reach: int = 4

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise UserError(f"config.frontend.deltas={self.order} must be 0, 1 or 2.")
        if self.reach < 1:
            raise UserError(f"config.frontend.delta_frames={self.reach} must be at least 1.")

    @property
    def features(self) -> int:
        return (1 + self.order) * self.source.features

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, frames = self.source(waveform, lengths)
        derivatives = [
            weighted_neighbours(features, frames, derivative_weights(order, self.reach))
            for order in range(1, self.order + 1)
        ]
        return jnp.concatenate([features, *derivatives], axis=-1), frames


@functools.cache
def derivative_weights(order: int, reach: int) -> np.ndarray:
    """Returns the weights (2 reach + 1,) of neighbouring frames in a derivative.

    The derivative is that of a polynomial of degree `order`, fitted by least squares (Savitzky and
    Golay 1964).
    """
    powers = np.vander(np.arange(-reach, reach + 1), order + 1, increasing=True)
    return math.factorial(order) * np.linalg.pinv(powers)[order]


def weighted_neighbours(features: jax.Array, frames: jax.Array, weights: np.ndarray) -> jax.Array:
    """Returns the weighted sum of each frame's neighbours, (B, T, F).

    The first and the last frame of each clip repeat beyond its ends.

    Args:
      features: (B, T, F).
      frames: number of frames of each clip (B,).
      weights: weights of the frames in order of time (odd,); the middle one is the frame itself.
    """
    time, reach = features.shape[1], len(weights) // 2
    end = jnp.maximum(frames, 1)[:, None, None] - 1
    last = jnp.take_along_axis(features, end, axis=1)
    repeated = jnp.where(jnp.arange(time)[:, None] <= end, features, last)
    around = jnp.pad(repeated, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    shifted = (around[:, start : start + time] for start in range(len(weights)))
    terms = (float(weight) * part for weight, part in zip(weights, shifted, strict=True))
    return sum(terms, start=jnp.zeros_like(features))
