"""Slaney's mel scale and mel bands (Auditory Toolbox, 1998)."""

import functools

import numpy as np


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


# Slaney's scale is linear up to 1 kHz, or 15 mel, and has 27 mel per factor of 6.4 above.
_MEL_PER_HZ = 3 / 200
_MEL_PER_LOG = 27 / np.log(6.4)


def mel(hz: float) -> float:
    """Converts Hz to mel."""
    return hz * _MEL_PER_HZ if hz < 1000 else 15 + np.log(hz / 1000) * _MEL_PER_LOG


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel / _MEL_PER_HZ, 1000 * np.exp((mel - 15) / _MEL_PER_LOG))
