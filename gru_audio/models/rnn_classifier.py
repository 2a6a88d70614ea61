"""A recurrent encoder, and a head: pooling over time, a linear output."""

import flax.linen as nn
import jax

from gru_audio.models.head import Head
from gru_audio.rnn.layer import Encoder, EncoderCarry
from gru_audio.rnn.noise import Dropout


class RnnClassifier(nn.Module):
    """Classifies sequences of frames, or every frame of them.

    Attributes:
      encoder: turns frames into frames.
      head: turns those into outputs.
    """

    encoder: Encoder
    head: Head

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
          train: has no effect here; models with batch norm need it.
          dropout: between layers and before the output; None: off.
        """
        del train
        return self.segment(features, lengths, None, dropout=dropout)[0]

    def segment(
        self,
        features: jax.Array,
        lengths: jax.Array,
        carry: EncoderCarry | None,
        *,
        dropout: Dropout | None = None,
    ) -> tuple[jax.Array, EncoderCarry]:
        """As the call, of a segment of a recording that begins with the carry of the one before.

        Returns:
          Logits of the segment, and the carry for the next one.
        """
        encoded = self.encoder(features, lengths, carry=carry, dropout=dropout)
        return self.head(encoded, dropout), encoded.carry
