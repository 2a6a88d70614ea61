"""A temporal convolutional network (Bai, Kolter and Koltun 2018, arXiv 1803.01271).

Parameters begin as in the authors' code (github.com/locuslab/TCN, commit 2f8c2b8, `TCN/tcn.py`).
It draws the weights of all convolutions from N(0, 0.01). But PyTorch's weight normalisation then
computes those of the causal convolutions again from parameters of its own, so that they begin with
PyTorch's default. The shortcut is not normalised and does begin with N(0, 0.01). Biases begin with
PyTorch's default.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from gru_audio.nn.head import Head
from gru_audio.nn.initialisers import INITIALISERS, uniform_bias
from gru_audio.nn.layer import Dropout, EncoderOutput
from gru_audio.nn.model import Model, Outputs
from gru_audio.nn.pooling import valid_frames
from gru_audio.settings import UserError, part, setting

_LONGEST = 2**20  # frames that an output may depend on


class CausalConv(nn.Module):
    """A dilated convolution over time that sees no later frame, with weight normalisation.

    ``y[t] = bias + sum_i x[t - (kernel_size - 1 - i) * dilation] @ w[i]``, frames before the first
    being zero, and ``w = scale * kernel / ||kernel||`` with one norm and one scale for each output
    channel (Salimans and Kingma 2016, arXiv 1602.07868). It begins with ``w = kernel``.

    Attributes:
      features: output channels.
      kernel_size: frames that an output reads.
      dilation: from one of them to the next.
      kernel_init: a key of `INITIALISERS`; biases begin uniform within 1/sqrt(fan in).
      dtype: of the products; parameters and their norms stay float32.
    """

    features: int
    kernel_size: int
    dilation: int = 1
    kernel_init: str = "lecun_normal"
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, time, channels) -> (batch, time, features)."""
        time, channels = x.shape[1:]
        shape = (self.kernel_size, channels, self.features)
        kernel = self.param("kernel", INITIALISERS[self.kernel_init], shape)
        norm = jnp.linalg.norm(kernel, axis=(0, 1))
        scale = self.param("scale", lambda _: norm)
        bias = self.param("bias", uniform_bias(self.kernel_size * channels), (self.features,))
        x, kernel, bias = promote_dtype(x, kernel * (scale / norm), bias, dtype=self.dtype)

        # One matrix product: in a loop, as over the steps of a call, XLA's own convolution is many
        # times slower on a CPU.
        offsets = [i * self.dilation for i in range(self.kernel_size)]
        padded = jnp.pad(x, ((0, 0), (offsets[-1], 0), (0, 0)))
        read = jnp.concatenate([padded[:, start : start + time] for start in offsets], axis=-1)
        return read @ kernel.reshape(-1, self.features) + bias


class ResidualBlock(nn.Module):
    """Two causal convolutions, each with ReLU and dropout, added to what they read; ReLU.

    Where widths differ, what is added goes through a linear map of each frame, without weight
    normalisation, which begins with N(0, 0.01). Dropout is of single values, as in the code of the
    paper, whose text speaks of whole channels.

    Attributes are those of `CausalConv`.
    """

    features: int
    kernel_size: int
    dilation: int = 1
    kernel_init: str = "lecun_normal"
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array, dropout: Dropout | None, salt: int) -> jax.Array:
        """(batch, time, channels) -> (batch, time, features); takes `salt` and `salt` + 1."""
        y = x
        for i in range(2):
            conv = CausalConv(
                self.features,
                self.kernel_size,
                self.dilation,
                self.kernel_init,
                self.dtype,
                name=f"conv_{i}",
            )
            y = nn.relu(conv(y))
            if dropout is not None:
                y = dropout(y, salt + i)
        if x.shape[-1] != self.features:
            shortcut = nn.Dense(
                self.features,
                dtype=self.dtype,
                kernel_init=INITIALISERS["normal_0.01"],
                bias_init=uniform_bias(x.shape[-1]),
                name="shortcut",
            )
            x = shortcut(x)
        return nn.relu(y + x)


class TcnEncoder(nn.Module):
    """A stack of residual blocks; the dilation of block ``i`` is ``2^i``.

    An output depends on its own frame and those before it; see `receptive_field`. Being
    causal, it gives an example in a padded batch what it gives alone.

    Attributes:
      hidden: channels of every block.
      layers: blocks.
      kernel_size, kernel_init, dtype: see `CausalConv`.
    """

    hidden: int
    layers: int = 1
    kernel_size: int = 3
    kernel_init: str = "lecun_normal"
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: jax.Array, *, dropout: Dropout | None = None
    ) -> EncoderOutput:
        """Encodes (batch, time, features).

        Args:
          inputs: frames.
          lengths: int (batch,), valid frames.
          dropout: after every convolution, salted with its number from 1.

        Returns:
          Frames, and the last valid one. There is no carry: the next frame would need more than
          that.
        """
        valid = valid_frames(lengths, inputs.shape[1])[..., None]
        frames = jnp.where(valid, inputs, 0)
        for block in range(self.layers):
            residual = ResidualBlock(
                self.hidden,
                self.kernel_size,
                2**block,
                self.kernel_init,
                self.dtype,
                name=f"block_{block}",
            )
            frames = residual(frames, dropout, 2 * block + 1)
        frames = jnp.where(valid, frames, 0)
        end = jnp.maximum(lengths, 1) - 1
        last = jnp.take_along_axis(frames, end[:, None, None], axis=1)[:, 0]
        return EncoderOutput(frames, lengths, last)


def receptive_field(layers: int, kernel_size: int) -> int:
    """Frames that an output depends on, its own among them."""
    return 1 + 2 * (kernel_size - 1) * (2**layers - 1)


class TcnClassifier(Model):
    """Classifies sequences of frames, or every frame of them, without any recurrence.

    Attributes:
      head: turns the blocks' frames into outputs. In the authors' code its weights begin with
        "normal_0.01" for the adding problem and for copying, with "uniform_fan_in" for music.
      hidden, layers, kernel_init, dtype: see `TcnEncoder`. The paper's text gives "normal_0.01" for
        the causal convolutions; its code begins with "uniform_fan_in".
      kernel: its `kernel_size`.

    Raises:
      UserError: an output would depend on too many frames.
    """

    head: Head = part(Head)
    hidden: int = setting(128, low=1, high=2**16, unit="units", doc="Channels of a block.")
    layers: int = setting(1, low=1, high=64, doc="Blocks; each reads twice as far as the last.")
    kernel: int = setting(
        3, low=1, high=100, unit="frames", doc="Frames that each convolution reads."
    )
    kernel_init: str = setting(
        "lecun_normal", choices=INITIALISERS, doc="What the convolutions begin with."
    )
    dtype: jax.typing.DTypeLike | None = None

    def __post_init__(self) -> None:
        if receptive_field(self.layers, self.kernel) > _LONGEST:
            raise UserError(
                f"config.model.layers={self.layers} and kernel={self.kernel} read more than "
                f"{_LONGEST} frames: lower one of them."
            )
        super().__post_init__()

    @property
    def look_ahead(self) -> str:
        """Nothing: all convolutions are causal."""
        return ""

    @nn.compact
    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        state: None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """As `Model`. Dropout acts after every convolution, as in the paper not before the output.

        It carries no state: the next frame would need all frames in reach of the convolutions.
        """
        del train  # there is no batch norm
        encoder = TcnEncoder(
            self.hidden,
            self.layers,
            self.kernel,
            self.kernel_init,
            self.dtype,
            name="encoder",
        )
        encoded = encoder(features, lengths, dropout=dropout)
        return Outputs(self.head(encoded), encoded.lengths)
