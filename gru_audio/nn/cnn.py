"""A convolutional network: the CRNN without its recurrent encoder."""

from typing import Any

import jax

from gru_audio.nn.conv import ConvFront
from gru_audio.nn.head import Head
from gru_audio.nn.layer import Dropout, EncoderOutput
from gru_audio.nn.model import Model, Outputs, Positions
from gru_audio.settings import UserError, part


class CnnClassifier(Model):
    """Classifies sequences of frames by convolutions and pooling over time.

    Attributes:
      front: the convolutions.
      head: pools the frames of `front` and computes the outputs.

    Raises:
      UserError: the head takes the last frame, which does not depend on all frames.
    """

    front: ConvFront = part(ConvFront)
    head: Head = part(Head)

    def __post_init__(self) -> None:
        if self.head.pooling == "last":
            raise UserError(
                'config.model.pooling="last" needs a state that depends on every frame, which '
                'config.model.name="cnn" does not have: set it to "mean", "max" or "attention".'
            )
        super().__post_init__()

    @property
    def look_ahead(self) -> str:
        """The value of `front`."""
        return self.front.look_ahead

    def output_lengths(self, lengths: Any) -> Any:
        """Returns the output lengths of `front`."""
        return self.front.output_lengths(lengths)

    @property
    def positions(self) -> Positions:
        """The positions of the outputs of `front`."""
        return self.front.positions

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        state: None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """See `Model`. Dropout is applied before the output."""
        frames, lengths = self.front(features, lengths, train=train)
        encoded = EncoderOutput(frames, lengths, frames[:, -1])
        return Outputs(self.head(encoded, dropout), lengths)
