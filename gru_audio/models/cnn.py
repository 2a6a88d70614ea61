"""Convolutions alone: what a CRNN is without its recurrent encoder."""

import flax.linen as nn
import jax

from gru_audio.config import UserError
from gru_audio.models.conv import ConvFront
from gru_audio.models.head import Head
from gru_audio.rnn.layer import EncoderOutput
from gru_audio.rnn.noise import Dropout


class CnnClassifier(nn.Module):
    """Classifies sequences of frames by convolutions and pooling over time.

    What a config says of the encoder has no effect.

    Attributes:
      front: turns frames into fewer frames.
      head: turns those into outputs.

    Raises:
      UserError: the head takes the last frame, which has not seen the others.
    """

    front: ConvFront
    head: Head

    def __post_init__(self) -> None:
        if self.head.pooling == "last":
            raise UserError(
                'config.model.pooling="last" takes a state that has seen every frame, which '
                'config.model.name="cnn" has not: set it to "mean", "max" or "attention".'
            )
        super().__post_init__()

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
          dropout: before the output; None: off.
        """
        frames, lengths = self.front(features, lengths, train=train)
        return self.head(EncoderOutput(frames, lengths, frames[:, -1]), dropout)
