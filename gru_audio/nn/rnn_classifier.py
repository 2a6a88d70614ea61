"""A recurrent encoder with a head."""

import jax

from gru_audio.nn.head import Head
from gru_audio.nn.layer import Dropout, Encoder, EncoderCarry
from gru_audio.nn.model import Model, Outputs
from gru_audio.settings import UserError, part


class RnnClassifier(Model):
    """Classifies sequences of frames, or every frame.

    Attributes:
      encoder: the recurrent layers.
      head: computes the outputs.
    """

    encoder: Encoder = part(Encoder)
    head: Head = part(Head)

    recurrent = ("encoder",)

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`. Bidirectional layers read later frames."""
        return "config.model.bidirectional=False" if self.encoder.bidirectional else ""

    def initial_state(self, batch: int) -> EncoderCarry:
        """Returns the initial carry of every layer: zeros."""
        if self.encoder.bidirectional:
            raise UserError(
                "config.model.bidirectional reads from the end and cannot run in pieces: "
                "set it to False."
            )
        return self.encoder.initial_carry(batch)

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        state: EncoderCarry | None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """See `Model`. Dropout is applied between layers and before the output."""
        del train  # there is no batch norm
        encoded = self.encoder(features, lengths, carry=state, dropout=dropout)
        return Outputs(self.head(encoded, dropout), encoded.lengths, encoded.carry)
