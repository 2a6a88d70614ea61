"""Log-mel spectra: the logarithm of the power in mel bands."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from ml_collections import ConfigDict

from gru_audio.audio.frontends.framing import Count, count_frames, cut_frames, silence_padding
from gru_audio.audio.frontends.mel import band_edges, bin_frequencies, mel_bands
from gru_audio.config import UserError, nearest

SPECTRA = ("auto", "fft", "matmul")
_LARGEST_FFT = 2**17  # samples
_MOST_WEIGHTS = 2**24  # of all mel bands together: 128 MiB while they are computed


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Natural logarithm of the power in Slaney mel bands, no less than `floor`.

    Equal to librosa's `melspectrogram(center=False)`, its periodic Hann window and area-normalised
    bands included. `sample_rate`, `f_min` and `f_max` are in Hz, `window`, `n_fft` and `hop` in
    samples. The power spectrum is taken by FFT or as a product with a Fourier matrix (`spectrum`
    'fft' or 'matmul'); 'auto' takes the matrix on TPU, whose matrix unit outruns its FFT.

    Raises:
      UserError: for values that no spectrum can have, or mel bands so narrow that one is empty.
    """

    sample_rate: int
    n_fft: int
    window: int
    hop: int
    mels: int
    f_min: float
    f_max: float
    floor: float = 1e-6
    spectrum: str = "auto"

    def __post_init__(self) -> None:
        nyquist = self.sample_rate / 2
        if self.hop < 1:
            raise UserError(f"hop must be at least one sample, not {self.hop}.")
        if self.window < 2:
            raise UserError(f"window must be at least two samples, not {self.window}.")
        if self.window > self.n_fft:
            raise UserError(
                f"A window of {self.window} samples does not fit an n_fft of {self.n_fft}: "
                f"shorten the window or raise n_fft."
            )
        if self.mels < 1:
            raise UserError(f"mels must be at least 1, not {self.mels}.")
        if self.n_fft > _LARGEST_FFT or self.mels * (self.n_fft // 2 + 1) > _MOST_WEIGHTS:
            raise UserError(
                f"{self.mels} mel bands of an n_fft of {self.n_fft} are too large: an n_fft may "
                f"have {_LARGEST_FFT} samples, and mels x (n_fft / 2 + 1) may be {_MOST_WEIGHTS}. "
                "Lower config.frontend.mels, n_fft or window_ms."
            )
        if self.floor <= 0:
            raise UserError(f"floor must be above 0, not {self.floor}: its logarithm is taken.")
        if self.f_max > nyquist:
            raise UserError(
                f"f_max = {self.f_max:g} Hz lies above {nyquist:g} Hz, the highest frequency in "
                f"sound sampled at {self.sample_rate} Hz."
            )
        if not 0 <= self.f_min < self.f_max:
            raise UserError(f"f_min = {self.f_min:g} Hz must lie in [0, f_max = {self.f_max:g}).")
        if self.spectrum not in SPECTRA:
            raise UserError(f'Unknown spectrum "{self.spectrum}".{nearest(self.spectrum, SPECTRA)}')
        if _has_empty_band(self):
            raise UserError(
                f"{self.mels} mel bands between {self.f_min:g} and {self.f_max:g} Hz are more than "
                f"the {self.n_fft // 2 + 1} FFT bins allow (a band would be empty): "
                f"at most {_most_mels(self)} fit, or raise n_fft."
            )

    @classmethod
    def from_config(cls, config: ConfigDict, sample_rate: int) -> LogMel:
        """Reads window_ms, hop_ms, n_fft, mels, f_min, f_max and floor."""
        window = round(config.window_ms * sample_rate / 1000)
        return cls(
            sample_rate=sample_rate,
            n_fft=_next_power_of_two(window) if config.n_fft is None else config.n_fft,
            window=window,
            hop=round(config.hop_ms * sample_rate / 1000),
            mels=config.mels,
            f_min=config.f_min,
            f_max=sample_rate / 2 if config.f_max is None else config.f_max,
            floor=config.floor,
        )

    @property
    def features(self) -> int:
        return self.mels

    def frames(self, samples: Count) -> Count:
        return count_frames(samples, self.n_fft, self.hop)

    def samples(self, frames: int) -> int:
        return self.n_fft + (frames - 1) * self.hop

    def mel_power(self, waveform: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns the power in each mel band (B, T, F), without the logarithm."""
        # The power spectrum does not care where in the FFT's input the window lies, so only the
        # samples under it are cut out, where librosa surrounds the window with zeros.
        start = (self.n_fft - self.window) // 2
        waveform = silence_padding(waveform, lengths)
        frames = self.frames(waveform.shape[1])
        windows = cut_frames(waveform[:, start:], frames, self.window, self.hop)
        if self._takes_matmul():
            matrix = _windowed_fourier(self.window, self.n_fft)
            parts = jnp.einsum("btw,pwk->pbtk", windows, matrix, precision=Precision.HIGHEST)
            power = jnp.sum(parts**2, axis=0)
        else:
            spectrum = jnp.fft.rfft(windows * hann(self.window).astype(np.float32), self.n_fft)
            power = spectrum.real**2 + spectrum.imag**2
        bands = mel_bands(self.sample_rate, self.n_fft, self.mels, self.f_min, self.f_max)
        return jnp.matmul(power, bands.T.astype(np.float32), precision=Precision.HIGHEST)

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        power = self.mel_power(waveform, lengths)
        return jnp.log(jnp.maximum(power, self.floor)), self.frames(lengths)

    def _takes_matmul(self) -> bool:
        if self.spectrum == "auto":
            return jax.default_backend() == "tpu"
        return self.spectrum == "matmul"


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
    edges = band_edges(mels, log_mel.f_min, log_mel.f_max)
    bins = bin_frequencies(log_mel.sample_rate, log_mel.n_fft)
    within = np.searchsorted(bins, edges[2:], "left") - np.searchsorted(bins, edges[:-2], "right")
    return bool((within <= 0).any())


def _most_mels(log_mel: LogMel) -> int:
    """The largest number of bands of which none is empty."""
    most = min(log_mel.mels, log_mel.n_fft // 2 + 1)
    return next((n for n in range(most, 0, -1) if not _has_empty_band(log_mel, n)), 0)
