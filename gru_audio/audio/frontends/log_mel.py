"""Log-mel spectra: the logarithm of the power in mel bands."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from gru_audio.audio.frontends.frontend import Count, count_frames, cut_frames, silence_padding
from gru_audio.platforms import platform
from gru_audio.settings import UserError, nearest, setting

SPECTRA = ("auto", "fft", "matmul")
_LARGEST_FFT = 2**17  # samples
_MOST_WEIGHTS = 2**24  # of all mel bands together: 128 MiB in float64
# Slaney's mel scale (Auditory Toolbox, 1998) is linear up to 1 kHz, which is 15 mel. Above, it has
# 27 mel per factor of 6.4.
_MEL_PER_HZ = 3 / 200
_MEL_PER_LOG = 27 / np.log(6.4)


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Natural logarithm of the power in Slaney mel bands, at least `floor`.

    Equal to librosa's `melspectrogram(center=False)`, with its periodic Hann window and
    area-normalised bands.

    Attributes:
      sample_rate: in Hz.
      spectrum: how the power spectrum is computed: "fft"; "matmul" for a product with a Fourier
        matrix; "auto" for "matmul" on a TPU, where it is faster, and "fft" elsewhere.

    Raises:
      UserError: a value is invalid, or a mel band contains no FFT bin.
    """

    sample_rate: int
    window_ms: float = setting(25.0, above=0, high=60_000.0, unit="ms", doc="Length of a window.")
    hop_ms: float = setting(
        10.0, above=0, high=60_000.0, unit="ms", doc="Time from one frame to the next."
    )
    n_fft: int | None = setting(
        None,
        kind=int,
        low=2,
        high=2**17,
        unit="samples",
        doc="Length of the FFT; None: the power of two that holds a window.",
    )
    mels: int = setting(40, low=1, high=4096, doc="Mel bands.")
    f_min: float = setting(20.0, low=0, high=1e7, unit="Hz", doc="Lower edge of the bands.")
    f_max: float | None = setting(
        None,
        kind=float,
        above=0,
        high=1e7,
        unit="Hz",
        doc="Upper edge of the bands; None: half the sample rate.",
    )
    floor: float = setting(
        1e-6, low=1e-30, high=1e6, doc="Smallest power in a band; PCEN adds it to the level."
    )
    spectrum: str = "auto"

    of_sound: ClassVar[bool] = True
    takes_deltas: ClassVar[bool] = True

    def __post_init__(self) -> None:
        nyquist = self.sample_rate / 2
        if self.hop < 1:
            raise UserError(f"config.frontend.hop_ms={self.hop_ms:g} is less than one sample.")
        if self.window < 2:
            raise UserError(
                f"config.frontend.window_ms={self.window_ms:g} is less than two samples."
            )
        if self.window > self.fft_size:
            raise UserError(
                f"A window of {self.window} samples is longer than the FFT of {self.fft_size}: "
                "lower config.frontend.window_ms or raise config.frontend.n_fft."
            )
        if self.mels < 1:
            raise UserError(f"config.frontend.mels={self.mels} must be at least 1.")
        if self.fft_size > _LARGEST_FFT or self.mels * (self.fft_size // 2 + 1) > _MOST_WEIGHTS:
            raise UserError(
                f"{self.mels} mel bands of an FFT of {self.fft_size} samples are too large. "
                f"Allowed are an FFT of {_LARGEST_FFT} samples, and mels x (n_fft / 2 + 1) = "
                f"{_MOST_WEIGHTS}: lower config.frontend.mels, n_fft or window_ms."
            )
        if self.floor <= 0:
            raise UserError(f"config.frontend.floor={self.floor} must be above 0.")
        if self.highest > nyquist:
            raise UserError(
                f"config.frontend.f_max={self.highest:g} is above {nyquist:g} Hz, half the sample "
                f"rate of {self.sample_rate} Hz."
            )
        if not 0 <= self.f_min < self.highest:
            raise UserError(
                f"config.frontend.f_min={self.f_min:g} must be in [0, {self.highest:g})."
            )
        if self.spectrum not in SPECTRA:
            raise UserError(f'Unknown spectrum "{self.spectrum}".{nearest(self.spectrum, SPECTRA)}')
        if _has_empty_band(self):
            raise UserError(
                f"Of {self.mels} mel bands between {self.f_min:g} and {self.highest:g} Hz, some "
                f"contain none of the {self.fft_size // 2 + 1} FFT bins: lower "
                f"config.frontend.mels to {_most_mels(self)}, or raise config.frontend.n_fft."
            )

    @property
    def window(self) -> int:
        """Samples under a window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def fft_size(self) -> int:
        """Samples of the FFT."""
        return _next_power_of_two(self.window) if self.n_fft is None else self.n_fft

    @property
    def centre(self) -> float:
        return self.fft_size / 2

    @property
    def highest(self) -> float:
        """Upper edge of the bands in Hz."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    @property
    def features(self) -> int:
        return self.mels

    @property
    def band_frequencies(self) -> np.ndarray:
        return band_edges(self.mels, self.f_min, self.highest)[1:-1]

    def frames(self, samples: Count) -> Count:
        return count_frames(samples, self.fft_size, self.hop)

    def samples(self, frames: int) -> int:
        return self.fft_size + (frames - 1) * self.hop

    def mel_power(self, waveform: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns the power in each mel band (B, T, F), without the logarithm."""
        # librosa centres the window in the FFT's input. The power spectrum does not depend on its
        # position, so only the samples under the window are cut out.
        start = (self.fft_size - self.window) // 2
        waveform = silence_padding(waveform, lengths)
        frames = self.frames(waveform.shape[1])
        windows = cut_frames(waveform[:, start:], frames, self.window, self.hop)
        if self._uses_matmul():
            matrix = _windowed_fourier(self.window, self.fft_size)
            parts = jnp.einsum("btw,pwk->pbtk", windows, matrix, precision=Precision.HIGHEST)
            power = jnp.sum(parts**2, axis=0)
        else:
            spectrum = jnp.fft.rfft(windows * hann(self.window).astype(np.float32), self.fft_size)
            power = spectrum.real**2 + spectrum.imag**2
        bands = mel_bands(self.sample_rate, self.fft_size, self.mels, self.f_min, self.highest)
        return jnp.matmul(power, bands.T.astype(np.float32), precision=Precision.HIGHEST)

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        power = self.mel_power(waveform, lengths)
        return jnp.log(jnp.maximum(power, self.floor)), self.frames(lengths)

    def _uses_matmul(self) -> bool:
        if self.spectrum == "auto":
            return platform() == "tpu"
        return self.spectrum == "matmul"


@functools.lru_cache(maxsize=8)
def mel_bands(sample_rate: int, n_fft: int, mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Returns the weights (mels, n_fft // 2 + 1) of triangular bands of equal area.

    The bands have equal width and spacing on the mel scale.

    Args:
      sample_rate: in Hz.
      n_fft: samples of the FFT.
      mels: number of bands.
      f_min, f_max: lowest and highest edge in Hz.
    """
    edges = band_edges(mels, f_min, f_max)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = bin_frequencies(sample_rate, n_fft)
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def band_edges(mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Returns edges in Hz (mels + 2,). Band i rises from edge i to i + 1, and falls to i + 2."""
    return _hz(np.linspace(mel(f_min), mel(f_max), mels + 2))


def bin_frequencies(sample_rate: int, n_fft: int) -> np.ndarray:
    """Returns the frequency of each FFT bin in Hz, (n_fft // 2 + 1,)."""
    return np.arange(n_fft // 2 + 1) * sample_rate / n_fft


def mel(hz: float) -> float:
    """Converts Hz to mel."""
    return hz * _MEL_PER_HZ if hz < 1000 else 15 + np.log(hz / 1000) * _MEL_PER_LOG


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel / _MEL_PER_HZ, 1000 * np.exp((mel - 15) / _MEL_PER_LOG))


def hann(size: int) -> np.ndarray:
    """Returns a periodic Hann window (size,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


@functools.cache
def _windowed_fourier(window: int, n_fft: int) -> np.ndarray:
    """Returns windowed cosines and sines (2, window, n_fft // 2 + 1), float32."""
    angles = 2 * np.pi * np.outer(np.arange(window), np.arange(n_fft // 2 + 1)) / n_fft
    waves = np.stack([np.cos(angles), np.sin(angles)])
    return (waves * hann(window)[:, None]).astype(np.float32)


def _next_power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _has_empty_band(log_mel: LogMel, mels: int | None = None) -> bool:
    """Returns whether a band contains no FFT bin, without computing the weights."""
    mels = log_mel.mels if mels is None else mels
    edges = band_edges(mels, log_mel.f_min, log_mel.highest)
    bins = bin_frequencies(log_mel.sample_rate, log_mel.fft_size)
    within = np.searchsorted(bins, edges[2:], "left") - np.searchsorted(bins, edges[:-2], "right")
    return bool((within <= 0).any())


def _most_mels(log_mel: LogMel) -> int:
    """Returns the largest number of bands of which none is empty."""
    most = min(log_mel.mels, log_mel.fft_size // 2 + 1)
    return next((n for n in range(most, 0, -1) if not _has_empty_band(log_mel, n)), 0)
