"""Normalisation of features to mean 0 and standard deviation 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Normalisation:
    """Mean and standard deviation (F,) of each feature over all frames of some clips."""

    mean: jax.Array
    std: jax.Array

    def __call__(self, features: jax.Array) -> jax.Array:
        """Normalises features (..., F)."""
        return (features - self.mean) / self.std

    @classmethod
    def from_sums(
        cls, count: np.ndarray, total: np.ndarray, squares: np.ndarray, min_std: float = 1e-5
    ) -> Normalisation:
        """Computes the statistics of clips from their `feature_sums`, in float64.

        Args:
          count: frames of each clip (N,).
          total: sums of each clip's features (N, F).
          squares: sums of the squared features (N, F).
          min_std: smallest standard deviation, so that a constant feature is not amplified.
        """
        frames = np.asarray(count, np.float64).sum()
        mean = np.asarray(total, np.float64).sum(axis=0) / frames
        variance = np.asarray(squares, np.float64).sum(axis=0) / frames - mean**2
        std = np.sqrt(np.maximum(variance, min_std**2))
        return cls(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))


def feature_sums(features: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Computes the sums of each clip that `Normalisation.from_sums` needs.

    Args:
      features: (B, T, F).
      lengths: frames of each clip (B,).

    Returns:
      Number of frames (B,), sums of the features (B, F) and sums of their squares (B, F).
    """
    valid = jnp.arange(features.shape[1]) < lengths[:, None]
    features = jnp.where(valid[..., None], features, 0)
    return lengths, features.sum(axis=1), (features**2).sum(axis=1)
