"""A convolutional front before a recurrent encoder (Cakir et al. 2017, arXiv 1702.06286)."""

import flax.linen as nn
import jax

from gru_audio.models.conv import ConvFront
from gru_audio.models.head import Head
from gru_audio.rnn.layer import Encoder
from gru_audio.rnn.noise import Dropout


class CrnnClassifier(nn.Module):
    """Classifies sequences of frames, or every frame that the front leaves of them.

    Attributes:
      front: turns frames into fewer frames.
      encoder: turns those into frames.
      head: turns those into outputs.
    """

    front: ConvFront
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
          train: batch norm uses and updates the batch's statistics.
          dropout: between layers and before the output; None: off.
        """
        frames, lengths = self.front(features, lengths, train=train)
        return self.head(self.encoder(frames, lengths, dropout=dropout), dropout)
