"""Per-channel energy normalisation (Wang et al. 2017, arXiv 1607.05666)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from gru_audio.audio.frontends.frontend import Derived
from gru_audio.audio.frontends.log_mel import LogMel
from gru_audio.settings import UserError, part, setting


@dataclasses.dataclass(frozen=True)
class Pcen(Derived):
    """Mel power ``E`` divided by its smoothed level ``M``, then compressed.

    The features are ``(E / (floor + M)^gain + bias)^power - bias^power``. In each band
    ``M[t] = (1 - smoothing) M[t - 1] + smoothing E[t]`` with ``M[0] = E[0]``. This removes the
    loudness and the frequency response of the channel, and keeps changes. Equal to librosa's `pcen`
    with `zi` = ``(1 - smoothing) E[0]``.

    Attributes:
      source: computes the mel power; its floor is used here, too.
      gain: exponent of the level: alpha in the paper.
      bias: delta in the paper.
      power: exponent of the compression: r in the paper.
      smoothing: weight of the current frame in the level: s in the paper.

    Raises:
      UserError: a value is out of range.
    """

    source: LogMel = part(LogMel)
    gain: float = setting(
        0.98,
        key="pcen_gain",
        low=0,
        high=100,
        doc="Exponent of the smoothed level; 1 removes the loudness fully.",
    )
    bias: float = setting(
        2.0, key="pcen_bias", low=0, high=1e6, doc="Added before the compression."
    )
    power: float = setting(
        0.5, key="pcen_power", above=0, high=1, doc="Exponent of the compression."
    )
    smoothing: float = setting(
        0.025,
        key="pcen_smoothing",
        above=0,
        high=1,
        doc="Weight of the current frame in the smoothed level.",
    )

    def __post_init__(self) -> None:
        for name in ("power", "smoothing"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise UserError(f"config.frontend.pcen_{name}={value} must be in (0, 1].")
        for name in ("gain", "bias"):
            value = getattr(self, name)
            if not value >= 0:
                raise UserError(f"config.frontend.pcen_{name}={value} must be at least 0.")

    @property
    def features(self) -> int:
        return self.source.features

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        energy = self.source.mel_power(waveform, lengths)
        level = smoothed(energy, self.smoothing)
        return self.compressed(energy, level), self.source.frames(lengths)

    def compressed(self, energy: jax.Array, level: jax.Array) -> jax.Array:
        """Returns the features of mel power and its smoothed level, both (B, T, F)."""
        # Computes (x + bias)^power - bias^power without cancellation.
        relative = energy * (self.source.floor + level) ** -self.gain
        if self.bias:
            growth = jnp.expm1(self.power * jnp.log1p(relative / self.bias))
            return self.bias**self.power * growth
        return relative**self.power


def smoothed(x: jax.Array, weight: float) -> jax.Array:
    """Returns y with ``y[t] = (1 - weight) y[t - 1] + weight x[t]`` on axis 1, ``y[0] = x[0]``."""
    decay = jnp.full_like(x, 1 - weight).at[:, 0].set(0)
    added = (weight * x).at[:, 0].set(x[:, 0])

    def compose(first, second):  # composes two affine maps of y
        return second[0] * first[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(compose, (decay, added), axis=1)[1]
