"""Mel-frequency cepstral coefficients."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from gru_audio.audio.frontends.frontend import Derived
from gru_audio.audio.frontends.log_mel import LogMel
from gru_audio.settings import UserError, part, setting


@dataclasses.dataclass(frozen=True)
class Mfcc(Derived):
    """The first `coefficients` of the orthonormal DCT-II of a log-mel spectrum.

    Equal to librosa's `mfcc` of a natural logarithm. librosa's default is decibels, which are 4.34
    times as large.

    Raises:
      UserError: there are more coefficients than mel bands.
    """

    source: LogMel = part(LogMel)
    coefficients: int = setting(20, low=1, high=4096, doc="Number of coefficients.")

    def __post_init__(self) -> None:
        if not 1 <= self.coefficients <= self.source.mels:
            raise UserError(
                f"config.frontend.coefficients={self.coefficients} must be between 1 and "
                f"config.frontend.mels={self.source.mels}."
            )

    @property
    def features(self) -> int:
        return self.coefficients

    @property
    def band_frequencies(self) -> None:
        return None

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_mel, frames = self.source(waveform, lengths)
        matrix = cosine_transform(self.source.mels, self.coefficients).astype(np.float32)
        return jnp.matmul(log_mel, matrix, precision=Precision.HIGHEST), frames


def cosine_transform(mels: int, coefficients: int) -> np.ndarray:
    """Returns the matrix of the orthonormal DCT-II (mels, coefficients)."""
    angles = np.pi * np.outer(np.arange(mels) + 0.5, np.arange(coefficients)) / mels
    matrix = np.sqrt(2 / mels) * np.cos(angles)
    matrix[:, 0] /= np.sqrt(2)
    return matrix
