"""Samples as integer codes, for models that predict sound sample by sample."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.frontends.frontend import Count
from gru_audio.settings import UserError, setting

MU_LAW, LINEAR = QUANTISATIONS = ("mu_law", "linear")
_MOST_BITS = 8  # of a code that has one softmax


@dataclasses.dataclass(frozen=True)
class Samples:
    """The code of every sample, one frame each.

    With n bits and ``mu = 2^n - 1``, "mu_law" compands a sample x in [-1, 1] to ``y = sign(x) ln(1
    + mu |x|) / ln(1 + mu)`` (ITU-T G.711 with mu = 255, in its continuous form), and the code is
    ``floor((y + 1) / 2 mu + 1/2)``. "linear" divides [-1, 1) into 2^n equal steps. The code of
    silence is ``2^(n - 1)``. It also stands for samples past a clip's end.

    With `split` a frame has two values: the upper and the lower half of the bits, called coarse and
    fine (Kalchbrenner et al. 2018, arXiv 1802.08435).

    Raises:
      UserError: the bits cannot be split evenly, or are too many for one softmax.
    """

    sample_rate: int
    bits: int = setting(8, low=2, high=16, unit="bits", doc="Size of a code.")
    quantisation: str = setting(
        MU_LAW, choices=QUANTISATIONS, doc='How samples become codes; 16 bits are best "linear".'
    )
    split: bool = setting(
        False, doc="A code is given as its coarse and its fine half, for a model of two softmaxes."
    )

    of_sound: ClassVar[bool] = True
    takes_deltas: ClassVar[bool] = False
    hop: ClassVar[int] = 1
    centre: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        if self.split and self.bits % 2:
            raise UserError(f"config.frontend.bits={self.bits} must be even with split=True.")
        if not self.split and self.bits > _MOST_BITS:
            raise UserError(
                f"config.frontend.bits={self.bits} is more than {_MOST_BITS}: set "
                'config.frontend.split=True and config.model.name="wavernn".'
            )

    @property
    def features(self) -> int:
        """Codes per sample: 2 if they are split."""
        return 2 if self.split else 1

    @property
    def levels(self) -> int:
        """The number of values of a code, or of a half."""
        return 2 ** (self.bits // self.features)

    def frames(self, samples: Count) -> Count:
        return samples

    def samples(self, frames: int) -> int:
        return frames

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        inside = jnp.arange(waveform.shape[1]) < lengths[:, None]
        codes = encode(jnp.where(inside, waveform, 0), self.bits, self.quantisation)
        if self.split:
            halves = jnp.stack([codes // self.levels, codes % self.levels], axis=-1)
            return halves.astype(jnp.float32), lengths
        return codes[..., None].astype(jnp.float32), lengths

    def waveform(self, codes: np.ndarray) -> np.ndarray:
        """Returns the sound of codes (..., features): int16 (...)."""
        whole = codes[..., 0].astype(np.int64)
        if self.split:
            whole = whole * self.levels + codes[..., 1]
        values = decode(whole, self.bits, self.quantisation)
        return np.clip(np.round(values * 32768), -32768, 32767).astype(np.int16)


def encode(x: jax.Array, bits: int, quantisation: str) -> jax.Array:
    """Returns the codes of samples x in [-1, 1], int32 in [0, 2^bits); see `Samples`."""
    levels = 2**bits
    if quantisation == MU_LAW:
        mu = levels - 1
        companded = jnp.sign(x) * jnp.log1p(mu * jnp.abs(x)) / np.log1p(mu)
        codes = jnp.floor((companded + 1) / 2 * mu + 0.5)
    else:
        codes = jnp.floor((x + 1) / 2 * levels)
    return jnp.clip(codes, 0, levels - 1).astype(jnp.int32)


def decode(codes: np.ndarray, bits: int, quantisation: str) -> np.ndarray:
    """Returns the samples of codes, float64 in [-1, 1]; of a linear step its lower edge."""
    levels = 2**bits
    if quantisation == MU_LAW:
        mu = levels - 1
        companded = 2 * np.asarray(codes, np.float64) / mu - 1
        return np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(mu)) / mu
    return 2 * np.asarray(codes, np.float64) / levels - 1
