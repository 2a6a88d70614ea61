"""Blocks of convolutions over time and frequency (Cakir et al. 2017, arXiv 1702.06286)."""

import re
from dataclasses import dataclass
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.nn.batch_norm import BatchNorm
from gru_audio.nn.convolution import convolution
from gru_audio.nn.model import Positions
from gru_audio.nn.pooling import valid_frames
from gru_audio.settings import UserError, setting

Count = TypeVar("Count", int, jax.Array)


@dataclass(frozen=True)
class Block:
    """A convolution followed by max-pooling. Sizes are (time, frequency).

    Attributes:
      channels: output channels.
      kernel: size of the kernel.
      stride: stride of the convolution.
      pool: size of the pooling windows, which do not overlap; (1, 1): no pooling.
    """

    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pool: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if min(self.channels, *self.kernel, *self.stride, *self.pool) < 1:
            raise UserError(f"config.model.conv: every number must be at least 1 in {self}.")


_NUMBER = r"(\d{1,5})"  # larger numbers could exhaust the memory
_SIZE = rf"{_NUMBER}x{_NUMBER}"
_BLOCK = re.compile(rf"{_NUMBER} {_SIZE}(?: stride {_SIZE})?(?: pool {_SIZE})?")


def parse_block(text: str) -> Block:
    """Parses "CHANNELS TIMExFREQUENCY [stride TxF] [pool TxF]".

    Raises:
      UserError: the text has another form.
    """
    match = _BLOCK.fullmatch(str(text))
    if not match:
        raise UserError(
            f'config.model.conv: "{text}" is not a block of convolutions. Write CHANNELS '
            'TIMExFREQUENCY, optionally with stride and pool: "32 3x3 stride 1x2 pool 2x1".'
        )
    channels, *sizes = (int(number or 1) for number in match.groups())
    return Block(channels, *zip(sizes[::2], sizes[1::2], strict=True))


class ConvFront(nn.Module):
    """Blocks of convolution, batch norm or bias, ReLU and max-pooling.

    The outputs for an example do not depend on the padding of the batch: frames past its length are
    zero at the input of every block, and the padding of a convolution does not depend on the length
    (XLA's "SAME" does, with strides).

    With "same" padding, a stride of n gives ceil(length / n) frames or bands. With "valid" padding,
    each output covers a whole window, and shorter examples are padded with zeros to one window.

    Attributes:
      blocks: the blocks in order.
      norm: batch norm after every convolution; False: a bias.
      padding: "same" or "valid".
      channels: number of blocks of bands in the features, such as static values and their deltas.
      batch_axis: see `BatchNorm`.
      dtype: type of the convolutions; None: that of inputs and parameters. Parameters stay float32.
    """

    blocks: tuple[Block, ...] = setting(
        ("16 3x3 stride 1x2", "32 3x3 stride 1x2"),
        key="conv",
        high=64,
        parse=lambda texts: tuple(map(parse_block, texts)),
        doc='Blocks of convolutions: "CHANNELS TIMExFREQUENCY [stride TxF] [pool TxF]" for each.',
    )
    norm: bool = setting(
        True, key="conv_norm", doc="Batch norm after each convolution; False: a bias."
    )
    padding: str = setting(
        "same",
        key="conv_padding",
        choices=("same", "valid"),
        doc='"valid" gives no output of less than a whole window.',
    )
    channels: int = setting(
        1,
        low=1,
        high=2**16,
        doc="The features are this many blocks of bands: (frontend.deltas + 1) x frontend.stack.",
    )
    batch_axis: str | None = None
    dtype: jax.typing.DTypeLike | None = None

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`. Kernels over time read frames on both sides."""
        if any(block.kernel[0] > 1 for block in self.blocks):
            return "config.model.conv without kernels over time, such as 16 1x3"
        return ""

    @property
    def positions(self) -> Positions:
        """See `Model.positions`. Outputs lie at the centres of their windows."""
        first, step = 0.0, 1
        for block in self.blocks:
            size, stride, pool = block.kernel[0], block.stride[0], block.pool[0]
            before = (size - 1) // 2 if self.padding == "same" else 0
            first += step * ((size - 1) / 2 - before + stride * (pool - 1) / 2)
            step *= stride * pool
        return Positions(first, step)

    def output_lengths(self, lengths: Count) -> Count:
        """Returns the number of output frames for a number of input frames."""
        for block in self.blocks:
            lengths = self._windows(lengths, block.kernel[0], block.stride[0])
            lengths = self._windows(lengths, block.pool[0], block.pool[0])
        return lengths

    @nn.compact
    def __call__(
        self, features: jax.Array, lengths: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Runs all blocks.

        Args:
          features: (batch, time, features).
          lengths: int (batch,), valid frames.
          train: see `BatchNorm`.

        Returns:
          Frames (batch, frames, units) and their lengths (batch,).

        Raises:
          UserError: the features are not divisible by `channels`, or a block has too few bands.
        """
        x = _masked(self._images(features), lengths)
        for number, block in enumerate(self.blocks):
            x = self._convolution(x, block, number)
            lengths = self._windows(lengths, block.kernel[0], block.stride[0])
            if self.norm:
                valid = valid_frames(lengths, x.shape[1])
                x = BatchNorm(self.batch_axis, name=f"norm_{number}")(x, valid, train=train)
            x = _masked(nn.relu(x), lengths)
            x = self._max_pool(x, block)
            lengths = self._windows(lengths, block.pool[0], block.pool[0])
            x = _masked(x, lengths)
        return x.reshape(*x.shape[:2], -1), lengths

    def _images(self, features: jax.Array) -> jax.Array:
        """Reshapes (batch, time, channels x bands) to (batch, time, bands, channels)."""
        batch, time, width = features.shape
        if width % self.channels:
            raise UserError(
                f"config.model.channels={self.channels} does not divide frames of {width} values."
            )
        return features.reshape(batch, time, self.channels, -1).swapaxes(2, 3)

    def _convolution(self, x: jax.Array, block: Block, number: int) -> jax.Array:
        if self.padding == "same":
            padding = [((size - 1) // 2, size // 2) for size in block.kernel]
        else:
            padding = [(0, max(0, block.kernel[0] - x.shape[1])), (0, 0)]
            if x.shape[2] < block.kernel[1]:
                raise UserError(
                    f"config.model.conv: a kernel of {block.kernel[1]} bands does not fit the "
                    f"{x.shape[2]} that block {number + 1} reads: shorten it, or set "
                    'config.model.conv_padding="same".'
                )
        return nn.Conv(
            block.channels,
            block.kernel,
            block.stride,
            padding,
            use_bias=not self.norm,
            conv_general_dilated=convolution,
            dtype=self.dtype,
            name=f"conv_{number}",
        )(x)

    def _windows(self, length: Count, size: int, step: int) -> Count:
        """Returns the number of windows over `length` frames or bands."""
        if self.padding == "same":
            return -(-length // step)
        return (length > 0) * (1 + (length >= size) * ((length - size) // step))

    def _max_pool(self, x: jax.Array, block: Block) -> jax.Array:
        """Pools non-negative values: zeros may pad the last window."""
        (high, wide), (time, bands) = block.pool, x.shape[1:3]
        rows, columns = self._windows(time, high, high), self._windows(bands, wide, wide)
        x = x[:, : rows * high, : columns * wide]
        padding = rows * high - x.shape[1], columns * wide - x.shape[2]
        x = jnp.pad(x, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)))
        return x.reshape(x.shape[0], rows, high, columns, wide, -1).max((2, 4))


def _masked(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Sets frames past each example's length to zero."""
    return jnp.where(valid_frames(lengths, x.shape[1])[..., None, None], x, 0)
