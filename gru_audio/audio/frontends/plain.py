"""Frontends that do not change the values: raw frames, and data sets of frames."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax

from gru_audio.audio.frontends.frontend import Count, count_frames, fit, silence_padding
from gru_audio.settings import UserError, setting


@dataclasses.dataclass(frozen=True)
class RawFrames:
    """The samples of the waveform, in frames of `frame_size` samples without overlap."""

    sample_rate: int
    frame_size: int = setting(80, low=1, high=2**17, unit="samples", doc="Length of a frame.")

    band_frequencies: ClassVar[None] = None
    of_sound: ClassVar[bool] = True
    takes_deltas: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.frame_size < 1:
            raise UserError(f"config.frontend.frame_size={self.frame_size} must be at least 1.")

    @property
    def hop(self) -> int:
        return self.frame_size

    @property
    def centre(self) -> float:
        return self.frame_size / 2

    @property
    def features(self) -> int:
        return self.frame_size

    def frames(self, samples: Count) -> Count:
        return count_frames(samples, self.frame_size, self.frame_size)

    def samples(self, frames: int) -> int:
        return frames * self.frame_size

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        frames = self.frames(waveform.shape[1])
        waveform = fit(silence_padding(waveform, lengths), frames * self.frame_size)
        features = waveform.reshape(waveform.shape[0], frames, self.frame_size)
        return features, self.frames(lengths)


@dataclasses.dataclass(frozen=True)
class Ready:
    """The identity, for data sets that contain frames of `features` values."""

    sample_rate: int
    features: int

    hop: ClassVar[int] = 1
    centre: ClassVar[float] = 0.5
    band_frequencies: ClassVar[None] = None
    of_sound: ClassVar[bool] = False
    takes_deltas: ClassVar[bool] = True

    def frames(self, samples: Count) -> Count:
        return samples

    def samples(self, frames: int) -> int:
        return frames

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        return waveform, lengths
