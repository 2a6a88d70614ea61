"""Features of mean 0 and standard deviation 1, by statistics of the training split."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Normalisation:
    """Mean and standard deviation (F,) of each feature over the frames of some clips."""

    mean: jax.Array
    std: jax.Array

    def __call__(self, features: jax.Array) -> jax.Array:
        """Features (..., F), normalised."""
        return (features - self.mean) / self.std

    @classmethod
    def from_sums(
        cls, count: np.ndarray, total: np.ndarray, squares: np.ndarray, min_std: float = 1e-5
    ) -> Normalisation:
        """Statistics of the clips whose `feature_sums` are given, added up in float64.

        Args:
          count: frames of each clip (N,).
          total: sum of each clip's features (N, F).
          squares: sum of their squares (N, F).
          min_std: least standard deviation: a feature that never changes is not blown up.
        """
        frames = np.asarray(count, np.float64).sum()
        mean = np.asarray(total, np.float64).sum(axis=0) / frames
        variance = np.asarray(squares, np.float64).sum(axis=0) / frames - mean**2
        std = np.sqrt(np.maximum(variance, min_std**2))
        return cls(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))


def feature_sums(features: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `Normalisation.from_sums` needs of each clip, whatever split it will belong to.

    Args:
      features: (B, T, F).
      lengths: frames of each clip (B,).

    Returns:
      Count of frames (B,), sum of the features (B, F) and sum of their squares (B, F).
    """
    valid = jnp.arange(features.shape[1]) < lengths[:, None]
    features = jnp.where(valid[..., None], features, 0)
    return lengths, features.sum(axis=1), (features**2).sum(axis=1)
