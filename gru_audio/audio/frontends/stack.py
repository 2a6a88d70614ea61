"""Stacking: several frames side by side in one, so that recurrent layers do fewer steps."""

import dataclasses

import jax
import jax.numpy as jnp

from gru_audio.audio.frontends.frontend import Count, Derived, Frontend


@dataclasses.dataclass(frozen=True)
class Stacked(Derived):
    """Groups of consecutive frames of another frontend, each concatenated to one frame.

    A clip of n frames has ceil(n / size) stacked frames. The last one repeats the clip's last frame
    where frames are missing.

    Attributes:
      source: the other frontend.
      size: number of frames in a stacked frame.
    """

    source: Frontend
    size: int

    @property
    def hop(self) -> int:
        return self.size * self.source.hop

    @property
    def centre(self) -> float:
        return self.source.centre + (self.size - 1) * self.source.hop / 2

    @property
    def features(self) -> int:
        return self.size * self.source.features

    def frames(self, samples: Count) -> Count:
        return -(-self.source.frames(samples) // self.size)

    def samples(self, frames: int) -> int:
        return self.source.samples((frames - 1) * self.size + 1)

    def __call__(self, waveform: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, frames = self.source(waveform, lengths)
        batch, time, width = features.shape
        stacks = -(-time // self.size)
        last = jnp.maximum(frames, 1)[:, None] - 1
        index = jnp.minimum(jnp.arange(stacks * self.size), last)
        repeated = jnp.take_along_axis(features, index[..., None], axis=1)
        return repeated.reshape(batch, stacks, self.size * width), -(-frames // self.size)
