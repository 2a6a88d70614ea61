"""What turns an encoder into a classifier."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.models.pooling import POOLINGS
from gru_audio.rnn.layer import EncoderOutput
from gru_audio.rnn.names import choose
from gru_audio.rnn.noise import Dropout


class Head(nn.Module):
    """Pooling over time, dropout, a linear output; in float32, whatever the encoder computes in.

    Attributes:
      outputs: number of classes.
      pooling: a key of `gru_audio.models.pooling.POOLINGS`.
    """

    outputs: int
    pooling: str = "last"

    @nn.compact
    def __call__(self, encoded: EncoderOutput, dropout: Dropout | None = None) -> jax.Array:
        """Logits (batch, outputs), float32."""
        pooled = choose("pooling", self.pooling, POOLINGS)(encoded).astype(jnp.float32)
        if dropout is not None:
            pooled = dropout(pooled, 0)  # the encoder's layers are salted from 1
        return nn.Dense(self.outputs, name="output")(pooled)
