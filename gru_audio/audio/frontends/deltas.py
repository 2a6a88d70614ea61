"""How features change over time, beside the features (Furui 1986)."""

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
    """The features of another frontend, then as many values again for each derivative.

    The first derivative is the slope of the line, the second the curvature of the parabola that
    fits best the frames from `reach` before to `reach` after; a clip's first and last frame repeat
    beyond its ends. As librosa's `feature.delta` with `mode="nearest"`.

    Attributes:
      source: the other frontend.
      order: the highest derivative, 1 or 2.
      reach: frames to either side.

    Raises:
      UserError: for values outside of their range.
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
    """Weights (2 reach + 1,) of neighbours in the derivative of a polynomial of that order.

    The polynomial is fitted to them by least squares (Savitzky and Golay 1964).
    """
    powers = np.vander(np.arange(-reach, reach + 1), order + 1, increasing=True)
    return math.factorial(order) * np.linalg.pinv(powers)[order]


def weighted_neighbours(features: jax.Array, frames: jax.Array, weights: np.ndarray) -> jax.Array:
    """Sums of each frame's neighbours (B, T, F), the ends of each clip repeated beyond them.

    Args:
      features: (B, T, F).
      frames: of each clip (B,).
      weights: of the frames around one, from before to after it (odd,).
    """
    time, reach = features.shape[1], len(weights) // 2
    end = jnp.maximum(frames, 1)[:, None, None] - 1
    last = jnp.take_along_axis(features, end, axis=1)
    repeated = jnp.where(jnp.arange(time)[:, None] <= end, features, last)
    around = jnp.pad(repeated, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    shifted = (around[:, start : start + time] for start in range(len(weights)))
    terms = (float(weight) * part for weight, part in zip(weights, shifted, strict=True))
    return sum(terms, start=jnp.zeros_like(features))
