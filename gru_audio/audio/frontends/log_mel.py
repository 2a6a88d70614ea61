"""Log-mel spectra: the logarithm of the power in mel bands."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from gru_audio.audio.frontends.framing import Count, count_frames, cut_frames, silence_padding
from gru_audio.audio.frontends.mel import band_edges, bin_frequencies, mel_bands
from gru_audio.settings import UserError, nearest, setting

SPECTRA = ("auto", "fft", "matmul")
_LARGEST_FFT = 2**17  # samples
_MOST_WEIGHTS = 2**24  # of all mel bands together: 128 MiB while they are computed


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Natural logarithm of the power in Slaney mel bands, no less than `floor`.

    Equal to librosa's `melspectrogram(center=False)`, its periodic Hann window and area-normalised
    bands included. `sample_rate` is in Hz. The power spectrum is taken by FFT or as a product with
    a Fourier matrix (`spectrum` 'fft' or 'matmul'); 'auto' takes the matrix on TPU, whose matrix
    unit outruns its FFT.

    Raises:
      UserError: for values that no spectrum can have, or mel bands so narrow that one is empty.
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
        1e-6, low=1e-30, high=1e6, doc="The least power in a band; PCEN adds it to the level."
    )
    spectrum: str = "auto"

    of_sound: ClassVar[bool] = True
    takes_deltas: ClassVar[bool] = True

    def __post_init__(self) -> None:
        nyquist = self.sample_rate / 2
        if self.hop < 1:
            raise UserError(f"hop must be at least one sample, not {self.hop}.")
        if self.window < 2:
            raise UserError(f"window must be at least two samples, not {self.window}.")
        if self.window > self.fft_size:
            raise UserError(
                f"A window of {self.window} samples does not fit an n_fft of {self.fft_size}: "
                f"shorten the window or raise n_fft."
            )
        if self.mels < 1:
            raise UserError(f"mels must be at least 1, not {self.mels}.")
        if self.fft_size > _LARGEST_FFT or self.mels * (self.fft_size // 2 + 1) > _MOST_WEIGHTS:
            raise UserError(
                f"{self.mels} mel bands of an n_fft of {self.fft_size} are too large: an n_fft may "
                f"have {_LARGEST_FFT} samples, and mels x (n_fft / 2 + 1) may be {_MOST_WEIGHTS}. "
                "Lower config.frontend.mels, n_fft or window_ms."
            )
        if self.floor <= 0:
            raise UserError(f"floor must be above 0, not {self.floor}: its logarithm is taken.")
        if self.highest > nyquist:
            raise UserError(
                f"f_max = {self.highest:g} Hz lies above {nyquist:g} Hz, the highest frequency in "
                f"sound sampled at {self.sample_rate} Hz."
            )
        if not 0 <= self.f_min < self.highest:
            raise UserError(f"f_min = {self.f_min:g} Hz must lie in [0, f_max = {self.highest:g}).")
        if self.spectrum not in SPECTRA:
            raise UserError(f'Unknown spectrum "{self.spectrum}".{nearest(self.spectrum, SPECTRA)}')
        if _has_empty_band(self):
            raise UserError(
                f"{self.mels} mel bands between {self.f_min:g} and {self.highest:g} Hz are more "
                f"than the {self.fft_size // 2 + 1} FFT bins allow (a band would be empty): "
                f"at most {_most_mels(self)} fit, or raise n_fft."
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
    def highest(self) -> float:
        """Upper edge of the bands in Hz."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    @property
    def features(self) -> int:
        return self.mels

    def frames(self, samples: Count) -> Count:
        return count_frames(samples, self.fft_size, self.hop)

    def samples(self, frames: int) -> int:
        return self.fft_size + (frames - 1) * self.hop

    def mel_power(self, waveform: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns the power in each mel band (B, T, F), without the logarithm."""
        # The power spectrum does not care where in the FFT's input the window lies, so only the
        # samples under it are cut out, where librosa surrounds the window with zeros.
        start = (self.fft_size - self.window) // 2
        waveform = silence_padding(waveform, lengths)
        frames = self.frames(waveform.shape[1])
        windows = cut_frames(waveform[:, start:], frames, self.window, self.hop)
        if self._takes_matmul():
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
    edges = band_edges(mels, log_mel.f_min, log_mel.highest)
    bins = bin_frequencies(log_mel.sample_rate, log_mel.fft_size)
    within = np.searchsorted(bins, edges[2:], "left") - np.searchsorted(bins, edges[:-2], "right")
    return bool((within <= 0).any())


def _most_mels(log_mel: LogMel) -> int:
    """The largest number of bands of which none is empty."""
    most = min(log_mel.mels, log_mel.fft_size // 2 + 1)
    return next((n for n in range(most, 0, -1) if not _has_empty_band(log_mel, n)), 0)
