"""What every frontend offers, and what those share that work on the features of another.

A frontend is a frozen, hashable description with a pure `__call__`. Frames are never centred: frame
t covers samples [t * hop, t * hop + n_fft), so a clip of n samples has
max(1, 1 + (n - n_fft) // hop) frames, as in librosa with `center=False`; a clip shorter than one
frame is padded with zeros to one. In a padded batch a clip's own frames are what they are alone;
those beyond its length are finite and without meaning.
"""

import dataclasses
from typing import ClassVar, Protocol

import jax

from gru_audio.audio.frontends.framing import Count


class Frontend(Protocol):
    """What every frontend offers.

    Attributes:
      of_sound: whether it reads a waveform, not frames.
      takes_deltas: whether deltas may be added to its features.
    """

    of_sound: ClassVar[bool]
    takes_deltas: ClassVar[bool]

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
class Derived:
    """A frontend whose frames are those of another, with other features.

    Attributes:
      source: the other.
    """

    source: Frontend

    of_sound: ClassVar[bool] = True
    takes_deltas: ClassVar[bool] = True

    @property
    def sample_rate(self) -> int:
        return self.source.sample_rate

    @property
    def hop(self) -> int:
        return self.source.hop

    def frames(self, samples: Count) -> Count:
        return self.source.frames(samples)

    def samples(self, frames: int) -> int:
        return self.source.samples(frames)
