"""The interface of frontends, a base class for derived frontends, and functions for framing.

A frontend is a frozen, hashable dataclass with a pure `__call__`. Frames are not centred: frame t
covers the samples [t * hop, t * hop + n_fft). So a clip of n samples has
max(1, 1 + (n - n_fft) // hop) frames, as in librosa with `center=False`. A clip that is shorter
than one frame is padded with zeros. The frames of a clip do not depend on the padding of the batch.
Frames beyond the clip's length are finite but arbitrary.
"""

import dataclasses
import functools
from typing import ClassVar, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Count = TypeVar("Count", int, np.ndarray, jax.Array)


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
    def centre(self) -> float:
        """Samples from the beginning of a clip to the centre of its first frame."""

    @property
    def features(self) -> int:
        """Features per frame."""

    @property
    def band_frequencies(self) -> np.ndarray | None:
        """Centres of the bands in Hz, one per feature; None: features are no bands.

        Deltas and stacked frames repeat the bands.
        """

    def frames(self, samples: Count) -> Count:
        """Returns the number of frames of a clip with `samples` samples, an int or an array."""

    def samples(self, frames: int) -> int:
        """Returns the number of samples of the shortest clip with `frames` frames."""

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Computes the features of a batch.

        Args:
          waveform: (B, L) in [-1, 1).
          lengths: samples of each clip (B,).

        Returns:
          Features (B, T, F) with T = `frames(L)`, and the number of frames of each clip (B,).
        """


@dataclasses.dataclass(frozen=True)
class Derived:
    """A frontend that computes its features from the frames of another frontend.

    Attributes:
      source: the other frontend.
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

    @property
    def centre(self) -> float:
        return self.source.centre

    @property
    def band_frequencies(self) -> np.ndarray | None:
        return self.source.band_frequencies

    def frames(self, samples: Count) -> Count:
        return self.source.frames(samples)

    def samples(self, frames: int) -> int:
        return self.source.samples(frames)


def count_frames(samples: Count, size: int, hop: int) -> Count:
    """Returns the number of complete frames of `size` samples; 1 for a shorter clip."""
    return 1 + (samples >= size) * ((samples - size) // hop)


def silence_padding(waveform: jax.Array, lengths: jax.Array) -> jax.Array:
    """Sets all samples beyond each clip's length to zero, so that no frame contains them."""
    return jnp.where(jnp.arange(waveform.shape[1]) < lengths[:, None], waveform, 0)


def cut_frames(waveform: jax.Array, frames: int, size: int, hop: int) -> jax.Array:
    """Returns frames (B, frames, size) that start every `hop` samples, padded with zeros.

    Each frame is one slice. On a CPU, XLA runs this and a following FFT faster than a gather of
    samples or a concatenation of shifted blocks.
    """
    waveform = fit(waveform, (frames - 1) * hop + size)
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, waveform, slice_size=size, axis=1)
    return jax.vmap(cut, out_axes=1)(hop * jnp.arange(frames))


def fit(waveform: jax.Array, samples: int) -> jax.Array:
    """Cuts the waveform or pads it with zeros to (B, samples)."""
    waveform = waveform[:, :samples]
    return jnp.pad(waveform, ((0, 0), (0, samples - waveform.shape[1])))
