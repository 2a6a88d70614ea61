"""WaveNet: gated causal convolutions over samples (van den Oord et al. 2016, arXiv 1609.03499)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.nn.generative import (
    EMBEDDING,
    INPUTS,
    CodeInput,
    Conditioned,
    SampleModel,
    dropout_of,
)
from gru_audio.nn.head import Head
from gru_audio.nn.layer import Dropout, EncoderOutput
from gru_audio.nn.model import Outputs
from gru_audio.nn.tcn import CausalConv
from gru_audio.settings import part, setting


class GatedBlock(nn.Module):
    """A causal convolution with a gated activation, a residual and a skip connection.

    ``z = tanh(a) * s(b)``, where ``a`` and ``b`` are the halves of the convolution's channels. The
    outputs are ``x + z R`` and ``z S``.

    Attributes:
      features: channels of x and of the skip connection.
      kernel_size, dilation, dtype: see `CausalConv`.
    """

    features: int
    kernel_size: int
    dilation: int
    dtype: jax.typing.DTypeLike | None = None

    @property
    def memory(self) -> int:
        """The number of earlier samples that the convolution reads over."""
        return (self.kernel_size - 1) * self.dilation

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        condition: jax.Array,
        buffer: jax.Array,
        position: jax.Array,
        dropout: Dropout | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the residual and the skip output (batch, time, features), and the buffer.

        Args:
          x: (batch, time, features).
          condition: (batch, classes).
          buffer: the `memory` inputs before x, (batch, memory, features), as a ring.
          position: number of the oldest one, modulo `memory`, is its place in the ring. A single
            sample takes its place; after more samples, the oldest one has the place 0.
          dropout: applied to the gated activations.
        """
        conv = CausalConv(
            2 * self.features, self.kernel_size, self.dilation, dtype=self.dtype, name="conv"
        )
        oldest = position % self.memory
        if x.shape[1] == 1:  # reads and writes few values, however long the ring is
            places = (oldest + self.dilation * jnp.arange(self.kernel_size - 1)) % self.memory
            gates = conv(x, buffer[:, places], dilation=1)
            buffer = jax.lax.dynamic_update_slice_in_dim(
                buffer, x.astype(buffer.dtype), oldest, axis=1
            )
        else:
            before = jnp.roll(buffer, -oldest, axis=1)
            gates = conv(x, before)
            buffer = jnp.concatenate([before, x.astype(buffer.dtype)], axis=1)[:, -self.memory :]
        gates = Conditioned(name="condition")(gates, condition)
        a, b = jnp.split(gates, 2, axis=-1)
        z = jnp.tanh(a) * nn.sigmoid(b)
        if dropout is not None:
            z = dropout(z, 0)
        residual, skip = (
            nn.Dense(self.features, dtype=self.dtype, name=name)(z) for name in ("residual", "skip")
        )
        return x + residual, skip, buffer


class WaveNet(SampleModel):
    """Predicts the next sample without recurrence, from `receptive_field` samples.

    Attributes:
      head: computes the logits, after the ReLU and the layer of the paper.
      hidden: channels of all layers.
      layers, stacks, kernel: `stacks` times `layers` blocks with dilations 1, 2, 4, ...
      input: how codes are read; see `CodeInput`.
    """

    head: Head = part(Head)
    hidden: int = setting(64, low=1, high=2**16, unit="units", doc="Channels of a block.")
    layers: int = setting(8, low=1, high=16, doc="Blocks of a stack; each doubles the dilation.")
    stacks: int = setting(1, low=1, high=16, doc="Stacks of blocks, one after another.")
    kernel: int = setting(
        2, low=2, high=100, unit="samples", doc="Samples that each convolution reads."
    )
    input: str = setting(EMBEDDING, choices=INPUTS, doc="A learned vector per code, or its value.")
    dtype: jax.typing.DTypeLike | None = None

    @property
    def receptive_field(self) -> int:
        """The number of samples that an output depends on."""
        return 1 + self.stacks * (self.kernel - 1) * (2**self.layers - 1)

    @property
    def _dilations(self) -> list[int]:
        return [2**layer for layer in range(self.layers)] * self.stacks

    def initial_state(self, batch: int) -> dict[str, Any]:
        """Returns the `buffers` of the blocks, zeros, and the `position` in them."""
        sizes = [(self.kernel - 1) * dilation for dilation in self._dilations]
        buffers = tuple(jnp.zeros((batch, n, self.hidden), self.dtype) for n in sizes)
        return {"buffers": buffers, "position": jnp.zeros((), jnp.int32)}

    @nn.compact
    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array | None,
        *,
        state: dict[str, Any] | None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """See `SampleModel`. Dropout is applied in blocks and before the output."""
        del train  # there is no batch norm
        batch, time = features.shape[:2]
        state = self.initial_state(batch) if state is None else state
        read = CodeInput(self.levels, self.hidden, self.input, name="read")
        x, condition, buffers = read(features[..., 0]), features[:, 0, 1:], []
        skips = jnp.zeros(())
        for i, dilation in enumerate(self._dilations):
            block = GatedBlock(self.hidden, self.kernel, dilation, self.dtype, name=f"block_{i}")
            x, skip, buffer = block(
                x, condition, state["buffers"][i], state["position"], dropout_of(dropout, i + 1)
            )
            buffers.append(buffer)
            skips = skips + skip
        y = nn.Dense(self.hidden, dtype=self.dtype, name="dense")(nn.relu(skips))
        lengths = jnp.full(batch, time) if lengths is None else lengths
        logits = self.head(EncoderOutput(nn.relu(y), lengths, y[:, -1]), dropout)
        position = state["position"] + 1 if time == 1 else jnp.zeros((), jnp.int32)
        return Outputs(logits, lengths, {"buffers": tuple(buffers), "position": position})
