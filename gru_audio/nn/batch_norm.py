"""Batch normalisation over the valid frames of a padded batch, on one or several devices."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Normalises each channel over all valid frames of the batch (Ioffe and Szegedy 2015).

    The statistics exclude padding. With ``batch_axis`` they cover the whole batch, not one device's
    part of it. Running statistics are in the collection "batch_stats" and are updated only if it is
    mutable, as in linen's own module. Everything is computed in float32.

    With gradient accumulation the batch goes through the model in parts. Each part is normalised by
    its own statistics and updates the running statistics once.

    Attributes:
      batch_axis: the mesh axis over which the batch is divided; None: there is none.
      momentum: decay of the running statistics.
      epsilon: added to the variance.
    """

    batch_axis: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        """Normalises ``x``.

        Args:
          x: (batch, time, ..., channels).
          valid: bool (batch, time).
          train: True: normalises with the statistics of the batch, and updates the running ones.
            False: normalises with the running statistics.
        """
        dtype, channels = x.dtype, x.shape[-1]
        x = x.astype(jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_variance = self.variable("batch_stats", "variance", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if train:
            mean, variance = self._statistics(x, valid)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                rate = 1 - self.momentum
                running_mean.value += rate * (mean - running_mean.value)
                running_variance.value += rate * (variance - running_variance.value)
        else:
            mean, variance = running_mean.value, running_variance.value
        normalised = (x - mean) * (scale * jax.lax.rsqrt(variance + self.epsilon)) + bias
        return normalised.astype(dtype)

    def _statistics(self, x: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and (biased) variance of each channel, in two passes for accuracy."""
        valid = valid.reshape(*valid.shape, *[1] * (x.ndim - 2))
        axes = tuple(range(x.ndim - 1))
        frames, total = self._total((valid.sum(dtype=x.dtype), jnp.sum(x, axes, where=valid)))
        count = frames * (x[0, 0].size // x.shape[-1])
        mean = total / count
        variance = self._total(jnp.sum((x - mean) ** 2, axes, where=valid)) / count
        return mean, variance

    def _total(self, values: Any) -> Any:
        if self.batch_axis is None or self.is_initializing():
            return values
        if jax.lax.axis_size(self.batch_axis) == 1:
            return values
        return jax.lax.psum(values, self.batch_axis)
