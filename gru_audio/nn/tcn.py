"""A temporal convolutional network (Bai, Kolter and Koltun 2018, arXiv 1803.01271).

The initialisation is that of the authors' code (github.com/locuslab/TCN, commit 2f8c2b8,
`TCN/tcn.py`). The code draws the weights of all convolutions from N(0, 0.01). But for the causal
convolutions, PyTorch's weight normalisation then overwrites them from its own parameters, which
have PyTorch's default initialisation. The shortcut is not normalised and keeps N(0, 0.01). Biases
have PyTorch's default.
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

_MAX_FIELD = 2**20  # frames that an output may depend on


class CausalConv(nn.Module):
    """A causal dilated convolution over time, with weight normalisation.

    ``y[t] = bias + sum_i x[t - (kernel_size - 1 - i) * dilation] @ w[i]``, where frames before the
    first are zero, and ``w = scale * kernel / ||kernel||`` with one norm and one scale per output
    channel (Salimans and Kingma 2016, arXiv 1602.07868). Initially ``w = kernel``.

    Attributes:
      features: output channels.
      kernel_size: frames that an output reads.
      dilation: distance between these frames.
      kernel_init: a key of `INITIALISERS`. Biases are initially uniform within 1/sqrt(fan in).
      dtype: type of the products; None: that of inputs and parameters. Parameters and norms stay
        float32.
    """

    features: int
    kernel_size: int
    dilation: int = 1
    kernel_init: str = "lecun_normal"
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, before: jax.Array | None = None, dilation: int | None = None
    ) -> jax.Array:
        """Maps (batch, time, channels) to (batch, time, features).

        Args:
          x: the frames.
          before: the (kernel_size - 1) * dilation frames before them; None: zeros.
          dilation: replaces the attribute.
        """
        time, channels = x.shape[1:]
        shape = (self.kernel_size, channels, self.features)
        kernel = self.param("kernel", INITIALISERS[self.kernel_init], shape)
        norm = jnp.linalg.norm(kernel, axis=(0, 1))
        scale = self.param("scale", lambda _: norm)
        bias = self.param("bias", uniform_bias(self.kernel_size * channels), (self.features,))
        x, kernel, bias = promote_dtype(x, kernel * (scale / norm), bias, dtype=self.dtype)

        # One matrix product: inside a loop on a CPU, XLA's convolution is many times slower.
        offsets = [i * (dilation or self.dilation) for i in range(self.kernel_size)]
        if before is None:
            padded = jnp.pad(x, ((0, 0), (offsets[-1], 0), (0, 0)))
        else:
            padded = jnp.concatenate([before.astype(x.dtype), x], axis=1)
        read = jnp.concatenate([padded[:, start : start + time] for start in offsets], axis=-1)
        return read @ kernel.reshape(-1, self.features) + bias


class ResidualBlock(nn.Module):
    """Two causal convolutions with ReLU and dropout, a residual connection, and a ReLU.

    If input and output have different widths, the shortcut is a linear map of each frame. Dropout
    drops single values, as in the authors' code; the text of the paper describes whole channels.

    Attributes are those of `CausalConv`.
    """

    features: int
    kernel_size: int
    dilation: int = 1
    kernel_init: str = "lecun_normal"
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array, dropout: Dropout | None, salt: int) -> jax.Array:
        """Maps (batch, time, channels) to (batch, time, features). Uses `salt` and `salt + 1`."""
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

    An output depends on its own frame and earlier frames only (see `receptive_field`), so the
    outputs for an example do not depend on the padding of the batch.

    Attributes:
      hidden: channels of every block.
      layers: number of blocks.
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
          dropout: applied after every convolution; its number, from 1, is the salt.

        Returns:
          All frames, and the last valid frame. There is no carry, because the next frame would need
          all frames of the receptive field.
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
    """Returns the number of frames that an output depends on, its own included."""
    return 1 + 2 * (kernel_size - 1) * (2**layers - 1)


class TcnClassifier(Model):
    """Classifies sequences of frames, or every frame, without recurrence.

    Attributes:
      head: computes the outputs. In the authors' code, the initial weights are "normal_0.01" for
        adding and copying, and "uniform_fan_in" for music.
      hidden, layers, kernel_init, dtype: see `TcnEncoder`. For the causal convolutions, the paper's
        text says "normal_0.01", but its code uses "uniform_fan_in".
      kernel: the `kernel_size`.

    Raises:
      UserError: an output would depend on too many frames.
    """

    head: Head = part(Head)
    hidden: int = setting(128, low=1, high=2**16, unit="units", doc="Channels of a block.")
    layers: int = setting(1, low=1, high=64, doc="Blocks; each doubles the dilation.")
    kernel: int = setting(
        3, low=1, high=100, unit="frames", doc="Frames that each convolution reads."
    )
    kernel_init: str = setting(
        "lecun_normal", choices=INITIALISERS, doc="Initial weights of the convolutions."
    )
    dtype: jax.typing.DTypeLike | None = None

    def __post_init__(self) -> None:
        if receptive_field(self.layers, self.kernel) > _MAX_FIELD:
            raise UserError(
                f"config.model.layers={self.layers} and kernel={self.kernel} read more than "
                f"{_MAX_FIELD} frames: lower one of them."
            )
        super().__post_init__()

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`. All convolutions are causal."""
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
        """See `Model`. As in the paper, dropout follows every convolution, but not the pooling."""
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
