"""A convolutional front before a recurrent encoder (Cakir et al. 2017, arXiv 1702.06286)."""

from typing import Any

import jax

from gru_audio.nn.conv import ConvFront
from gru_audio.nn.head import Head
from gru_audio.nn.layer import Dropout, Encoder
from gru_audio.nn.model import Model, Outputs
from gru_audio.settings import part


class CrnnClassifier(Model):
    """Classifies sequences of frames, or every frame that the front leaves of them.

    Attributes:
      front: turns frames into fewer frames.
      encoder: turns those into frames.
      head: turns those into outputs.
    """

    front: ConvFront = part(ConvFront)
    encoder: Encoder = part(Encoder)
    head: Head = part(Head)

    recurrent = ("encoder",)

    @property
    def look_ahead(self) -> str:
        """Bidirectional layers read from the end, kernels over time read frames on both sides."""
        if self.encoder.bidirectional:
            return "config.model.bidirectional=False"
        return self.front.look_ahead

    def output_lengths(self, lengths: Any) -> Any:
        """Those of the front."""
        return self.front.output_lengths(lengths)

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        state: None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """As `Model`. Dropout acts between layers and before the output."""
        frames, lengths = self.front(features, lengths, train=train)
        return Outputs(self.head(self.encoder(frames, lengths, dropout=dropout), dropout), lengths)
