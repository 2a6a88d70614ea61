"""From waveforms to frames of features: log-mel, MFCC and raw frames, inside the compiled step.

A frontend is a frozen, hashable description with a pure `__call__`. Frames are never centred: frame
t covers samples [t * hop, t * hop + n_fft), so a clip of n samples has
max(1, 1 + (n - n_fft) // hop) frames, as in librosa with `center=False`; a clip shorter than one
frame is padded with zeros to one. In a padded batch a clip's own frames are what they are alone;
those beyond its length are finite and without meaning.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from ml_collections import ConfigDict

from gru_audio.config import UserError, nearest

Count = TypeVar("Count", int, np.ndarray, jax.Array)

SPECTRA = ("auto", "fft", "matmul")


class Frontend(Protocol):
    """What every frontend offers."""

    @property
    def sample_rate(self) -> int:
        """Of the waveform, in Hz."""

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""

    @property
    def features(self) -> int:
        """Features per frame."""

    def frames(self, samples: Count) -> Count:
        """Number of frames of a clip of so many samples; an int or an integer array."""

    def samples(self, frames: int) -> int:
        """Samples in the shortest clip with so many frames."""

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Turns waveform (B, L) in [-1, 1) of lengths (B,) into features (B, T, F), lengths (B,).

        T is `frames(L)`, whatever the lengths are.
        """


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
        return _count_frames(samples, self.n_fft, self.hop)

    def samples(self, frames: int) -> int:
        return self.n_fft + (frames - 1) * self.hop

    def mel_power(self, waveform: jax.Array, lengths: jax.Array) -> jax.Array:
        """Power in each mel band (B, T, F), linear."""
        # The power spectrum does not care where in the FFT's input the window lies, so only the
        # samples under it are cut out, where librosa surrounds the window with zeros.
        start = (self.n_fft - self.window) // 2
        waveform = _silence_padding(waveform, lengths)
        frames = self.frames(waveform.shape[1])
        windows = _cut_frames(waveform[:, start:], frames, self.window, self.hop)
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


@dataclasses.dataclass(frozen=True)
class Mfcc:
    """The first `coefficients` of the orthonormal type-II cosine transform of a log-mel spectrum.

    As librosa's `mfcc` of a natural logarithm (librosa itself takes decibels: 4.34 times as much).

    Raises:
      UserError: where there are not as many mel bands as coefficients.
    """

    log_mel: LogMel
    coefficients: int

    def __post_init__(self) -> None:
        if not 1 <= self.coefficients <= self.log_mel.mels:
            raise UserError(
                f"coefficients must lie between 1 and the number of mel bands "
                f"({self.log_mel.mels}), not {self.coefficients}."
            )

    @classmethod
    def from_config(cls, config: ConfigDict, sample_rate: int) -> Mfcc:
        """Reads what `LogMel` does, and coefficients."""
        return cls(LogMel.from_config(config, sample_rate), config.coefficients)

    @property
    def sample_rate(self) -> int:
        return self.log_mel.sample_rate

    @property
    def hop(self) -> int:
        return self.log_mel.hop

    @property
    def features(self) -> int:
        return self.coefficients

    def frames(self, samples: Count) -> Count:
        return self.log_mel.frames(samples)

    def samples(self, frames: int) -> int:
        return self.log_mel.samples(frames)

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_mel, frames = self.log_mel(waveform, lengths)
        matrix = cosine_transform(self.log_mel.mels, self.coefficients).astype(np.float32)
        return jnp.matmul(log_mel, matrix, precision=Precision.HIGHEST), frames


@dataclasses.dataclass(frozen=True)
class RawFrames:
    """The waveform itself, cut into frames of `frame_size` samples that do not overlap."""

    sample_rate: int
    frame_size: int

    def __post_init__(self) -> None:
        if self.frame_size < 1:
            raise UserError(f"frame_size must be at least one sample, not {self.frame_size}.")

    @classmethod
    def from_config(cls, config: ConfigDict, sample_rate: int) -> RawFrames:
        """Reads frame_size."""
        return cls(sample_rate, config.frame_size)

    @property
    def hop(self) -> int:
        return self.frame_size

    @property
    def features(self) -> int:
        return self.frame_size

    def frames(self, samples: Count) -> Count:
        return _count_frames(samples, self.frame_size, self.frame_size)

    def samples(self, frames: int) -> int:
        return frames * self.frame_size

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        frames = self.frames(waveform.shape[1])
        waveform = _fit(_silence_padding(waveform, lengths), frames * self.frame_size)
        features = waveform.reshape(len(waveform), frames, self.frame_size)
        return features, self.frames(lengths)


@dataclasses.dataclass(frozen=True)
class Ready:
    """None: for signals that are frames of `features` values already."""

    sample_rate: int
    features: int
    hop: ClassVar[int] = 1

    def frames(self, samples: Count) -> Count:
        return samples

    def samples(self, frames: int) -> int:
        return frames

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        return waveform, lengths


FRONTENDS: Mapping[str, type[LogMel] | type[Mfcc] | type[RawFrames]] = {
    "log_mel": LogMel,
    "mfcc": Mfcc,
    "raw": RawFrames,
}
READY = "frames"  # the name of what is no frontend


def make_frontend(config: ConfigDict, sample_rate: int, features: int | None = None) -> Frontend:
    """The frontend that `config.name` asks for.

    Args:
      config: the `frontend` part of a config.
      sample_rate: of the sound in Hz, or frames a second.
      features: values in a frame, where the data set holds frames; None for sound.

    Raises:
      UserError: an unknown name, one that does not suit the data, or values that the frontend
        cannot have.
    """
    if (config.name == READY) != (features is not None):
        what = "sound" if features is None else "frames that need no frontend"
        kind = f"one of {', '.join(FRONTENDS)}" if features is None else READY
        raise UserError(f"The data set holds {what}: set config.frontend.name={kind}.")
    if features is not None:
        return Ready(sample_rate, features)
    if config.name not in FRONTENDS:
        raise UserError(f'Unknown frontend "{config.name}".{nearest(config.name, FRONTENDS)}')
    return FRONTENDS[config.name].from_config(config, sample_rate)


def hann(size: int) -> np.ndarray:
    """Periodic Hann window (size,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


@functools.cache
def mel_bands(sample_rate: int, n_fft: int, mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Weights (mels, n_fft // 2 + 1) of triangular bands of equal area, equally wide in mel.

    The mel scale and the area norm are those of Slaney's Auditory Toolbox (1998).
    """
    edges = _hz(np.linspace(_mel(f_min), _mel(f_max), mels + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def cosine_transform(mels: int, coefficients: int) -> np.ndarray:
    """Orthonormal type-II cosine transform (mels, coefficients), applied from the right."""
    angles = np.pi * np.outer(np.arange(mels) + 0.5, np.arange(coefficients)) / mels
    matrix = np.sqrt(2 / mels) * np.cos(angles)
    matrix[:, 0] /= np.sqrt(2)
    return matrix


# Slaney's scale: linear up to 1 kHz, which is mel 15; above it 27 mels for each factor of 6.4.
_MEL_PER_HZ = 3 / 200
_MEL_PER_LOG = 27 / np.log(6.4)


def _mel(hz: float) -> float:
    return hz * _MEL_PER_HZ if hz < 1000 else 15 + np.log(hz / 1000) * _MEL_PER_LOG


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel / _MEL_PER_HZ, 1000 * np.exp((mel - 15) / _MEL_PER_LOG))


def _has_empty_band(log_mel: LogMel, mels: int | None = None) -> bool:
    mels = log_mel.mels if mels is None else mels
    bands = mel_bands(log_mel.sample_rate, log_mel.n_fft, mels, log_mel.f_min, log_mel.f_max)
    return bool((bands.max(axis=1) == 0).any())


def _most_mels(log_mel: LogMel) -> int:
    """The largest number of bands of which none is empty."""
    most = min(log_mel.mels, log_mel.n_fft // 2 + 1)
    return next((n for n in range(most, 0, -1) if not _has_empty_band(log_mel, n)), 0)


@functools.cache
def _windowed_fourier(window: int, n_fft: int) -> np.ndarray:
    """Cosines and sines under the Hann window (2, window, n_fft // 2 + 1), float32."""
    angles = 2 * np.pi * np.outer(np.arange(window), np.arange(n_fft // 2 + 1)) / n_fft
    waves = np.stack([np.cos(angles), np.sin(angles)])
    return (waves * hann(window)[:, None]).astype(np.float32)


def _next_power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _count_frames(samples: Count, size: int, hop: int) -> Count:
    return 1 + (samples >= size) * ((samples - size) // hop)


def _silence_padding(waveform: jax.Array, lengths: jax.Array) -> jax.Array:
    """Zeros beyond each clip's length, so that what lies there cannot leak into a short clip."""
    return jnp.where(jnp.arange(waveform.shape[1]) < lengths[:, None], waveform, 0)


def _cut_frames(waveform: jax.Array, frames: int, size: int, hop: int) -> jax.Array:
    """Frames (B, frames, size) that start `hop` samples apart; zeros beyond the waveform's end.

    One slice a frame: on a CPU XLA runs this, with the FFT that follows, faster than a gather of
    samples or shifted blocks laid side by side.
    """
    waveform = _fit(waveform, (frames - 1) * hop + size)
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, waveform, slice_size=size, axis=1)
    return jax.vmap(cut, out_axes=1)(hop * jnp.arange(frames))


def _fit(waveform: jax.Array, samples: int) -> jax.Array:
    """Cuts or fills up with zeros to (B, samples)."""
    waveform = waveform[:, :samples]
    return jnp.pad(waveform, ((0, 0), (0, samples - waveform.shape[1])))
