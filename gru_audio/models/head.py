"""What turns an encoder's frames into outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.config import choose
from gru_audio.models.pooling import POOLINGS
from gru_audio.rnn.layer import EncoderOutput
from gru_audio.rnn.noise import Dropout


class Head(nn.Module):
    """Pooling over time, dropout, a linear output; in float32, whatever the encoder computes in.

    Attributes:
      outputs: how many, such as classes.
      pooling: a key of `gru_audio.models.pooling.POOLINGS`; None: outputs for every frame.
      output_bias: what the biases begin with. Where ones are rare, the logarithm of their odds
        spares the first steps (Lin et al. 2017, arXiv 1708.02002, section 3.3).
    """

    outputs: int
    pooling: str | None = "last"
    output_bias: float = 0.0

    @nn.compact
    def __call__(self, encoded: EncoderOutput, dropout: Dropout | None = None) -> jax.Array:
        """Logits (batch, outputs), or (batch, time, outputs) of every frame, float32."""
        pooled = encoded.frames
        if self.pooling is not None:
            pooled = choose("pooling", self.pooling, POOLINGS)(encoded)
        pooled = pooled.astype(jnp.float32)
        if dropout is not None:
            pooled = dropout(pooled, 0)  # the encoder's layers are salted from 1
        bias = nn.initializers.constant(self.output_bias)
        return nn.Dense(self.outputs, bias_init=bias, name="output")(pooled)
