"""Convolutions over time and frequency in front of a recurrent encoder (Cakir et al. 2017)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.models.batch_norm import BatchNorm
from gru_audio.models.head import Head
from gru_audio.models.pooling import valid_frames
from gru_audio.rnn.layer import Encoder
from gru_audio.rnn.noise import Dropout


class ConvFront(nn.Module):
    """Blocks of convolution, batch norm and ReLU.

    A frame past an example's length is zero at the input of every block, and the padding of a
    convolution does not depend on the length (as that of "SAME" with strides does), so that an
    example gives in a padded batch what it gives alone.

    Attributes:
      features: channels of each block.
      kernel: (time, frequency).
      stride: (time, frequency).
      batch_axis: see `BatchNorm`.
      dtype: of the convolutions; parameters stay float32.
    """

    features: Sequence[int]
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 2)
    batch_axis: str | None = None
    dtype: jax.typing.DTypeLike | None = None

    @property
    def subsampling(self) -> int:
        """Input frames to one output frame."""
        return self.stride[0] ** len(self.features)

    @nn.compact
    def __call__(
        self, features: jax.Array, lengths: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """(batch, time, features) -> (batch, ceil(time / subsampling), units), their lengths."""
        padding = [((k - 1) // 2, k // 2) for k in self.kernel]
        x = features[..., None]
        valid = valid_frames(lengths, x.shape[1])
        for block, channels in enumerate(self.features):
            x = jnp.where(valid[..., None, None], x, 0)
            x = nn.Conv(
                channels,
                self.kernel,
                self.stride,
                padding,
                use_bias=False,
                dtype=self.dtype,
                name=f"conv_{block}",
            )(x)
            lengths = -(-lengths // self.stride[0])
            valid = valid_frames(lengths, x.shape[1])
            x = nn.relu(BatchNorm(self.batch_axis, name=f"norm_{block}")(x, valid, train=train))
        return x.reshape(*x.shape[:2], -1), lengths


class CrnnClassifier(nn.Module):
    """A convolutional front, a recurrent encoder, pooling over time, a linear output.

    Attributes:
      encoder: turns frames into frames.
      head: turns those into outputs.
      conv_features, conv_kernel, conv_stride, dtype: see `ConvFront`.
      batch_axis: see `BatchNorm`.
    """

    encoder: Encoder
    head: Head
    conv_features: tuple[int, ...] = (16, 32)
    conv_kernel: tuple[int, int] = (3, 3)
    conv_stride: tuple[int, int] = (1, 2)
    batch_axis: str | None = None
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Logits of features (batch, time, features), as the head gives them.

        Args:
          features: frames; those past an example's length do not count.
          lengths: int (batch,), valid frames.
          train: batch norm uses and updates the batch's statistics.
          dropout: between layers and before the output; None: off.
        """
        front = ConvFront(
            self.conv_features,
            self.conv_kernel,
            self.conv_stride,
            self.batch_axis,
            self.dtype,
            name="front",
        )
        frames, lengths = front(features, lengths, train=train)
        encoded = self.encoder(frames, lengths, dropout=dropout)
        return self.head(encoded, dropout)
