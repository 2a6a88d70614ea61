"""Slaney's mel bands (Auditory Toolbox, 1998): centres equally far apart in mel, of equal area."""

import functools

import numpy as np


@functools.lru_cache(maxsize=8)
def mel_bands(sample_rate: int, n_fft: int, mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Weights (mels, n_fft // 2 + 1) of triangular bands of equal area, equally wide in mel.

    The mel scale and the area norm are those of Slaney's Auditory Toolbox (1998).
    """
    edges = band_edges(mels, f_min, f_max)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = bin_frequencies(sample_rate, n_fft)
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def band_edges(mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Hz (mels + 2,): band i rises from edge i to edge i + 1, and falls to edge i + 2."""
    return _hz(np.linspace(mel(f_min), mel(f_max), mels + 2))


def bin_frequencies(sample_rate: int, n_fft: int) -> np.ndarray:
    """Hz of each bin of the FFT (n_fft // 2 + 1,)."""
    return np.arange(n_fft // 2 + 1) * sample_rate / n_fft


# Slaney's scale: linear up to 1 kHz, which is mel 15; above it 27 mels for each factor of 6.4.
_MEL_PER_HZ = 3 / 200
_MEL_PER_LOG = 27 / np.log(6.4)


def mel(hz: float) -> float:
    """A frequency in mel."""
    return hz * _MEL_PER_HZ if hz < 1000 else 15 + np.log(hz / 1000) * _MEL_PER_LOG


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel / _MEL_PER_HZ, 1000 * np.exp((mel - 15) / _MEL_PER_LOG))
