"""A recurrent encoder, pooling over time, a linear output."""

import flax.linen as nn
import jax

from gru_audio.models.head import Head
from gru_audio.rnn.layer import Encoder
from gru_audio.rnn.noise import Dropout


class RnnClassifier(nn.Module):
    """Classifies sequences of frames.

    Attributes:
      encoder: turns frames into frames.
      outputs: number of classes.
      pooling: see `Head`.
    """

    encoder: Encoder
    outputs: int
    pooling: str = "last"

    @nn.compact
    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Logits (batch, outputs) of features (batch, time, features).

        Args:
          features: frames; those past an example's length do not count.
          lengths: int (batch,), valid frames.
          train: has no effect here; models with batch norm need it.
          dropout: between layers and before the output; None: off.
        """
        del train
        encoded = self.encoder(features, lengths, dropout=dropout)
        return Head(self.outputs, self.pooling, name="head")(encoded, dropout)
