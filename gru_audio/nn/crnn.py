"""Convolutions followed by a recurrent encoder (Cakir et al. 2017, arXiv 1702.06286)."""

from typing import Any

import jax

from gru_audio.nn.conv import ConvFront
from gru_audio.nn.head import Head
from gru_audio.nn.layer import Dropout, Encoder
from gru_audio.nn.model import Model, Outputs, Positions
from gru_audio.settings import part


class CrnnClassifier(Model):
    """Classifies sequences of frames, or every output frame of the convolutions.

    Attributes:
      front: the convolutions.
      encoder: the recurrent layers.
      head: computes the outputs.
    """

    front: ConvFront = part(ConvFront)
    encoder: Encoder = part(Encoder)
    head: Head = part(Head)

    recurrent = ("encoder",)

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`. Bidirectional layers and kernels over time read later frames."""
        if self.encoder.bidirectional:
            return "config.model.bidirectional=False"
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
        """See `Model`. Dropout is applied between layers and before the output."""
        frames, lengths = self.front(features, lengths, train=train)
        return Outputs(self.head(self.encoder(frames, lengths, dropout=dropout), dropout), lengths)
