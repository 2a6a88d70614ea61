"""A recurrent network over samples: the one-tier RNN of Mehri et al. 2017 (arXiv 1612.07837)."""

import jax

from gru_audio.nn.generative import EMBEDDING, INPUTS, CodeInput, Conditioned, SampleModel
from gru_audio.nn.head import Head
from gru_audio.nn.layer import Dropout, Encoder, EncoderCarry
from gru_audio.nn.model import Outputs
from gru_audio.settings import part, setting


class RnnGenerator(SampleModel):
    """Predicts the next sample with recurrent layers that run at the sample rate.

    Attributes:
      encoder: the recurrent layers.
      head: computes the logits.
      input: how codes are read; see `CodeInput`.
      embedding: width of that input.
    """

    encoder: Encoder = part(Encoder)
    head: Head = part(Head)
    input: str = setting(EMBEDDING, choices=INPUTS, doc="A learned vector per code, or its value.")
    embedding: int = setting(64, low=1, high=2**12, unit="units", doc="Width of that input.")

    recurrent = ("encoder",)

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`. Bidirectional layers read later samples."""
        return "config.model.bidirectional=False" if self.encoder.bidirectional else ""

    def initial_state(self, batch: int) -> EncoderCarry:
        """Returns the initial carry of every layer: zeros."""
        return self.encoder.initial_carry(batch)

    def setup(self) -> None:
        self.read = CodeInput(self.levels, self.embedding, self.input)
        self.conditioned = Conditioned()

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array | None,
        *,
        state: EncoderCarry | None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """See `SampleModel`. Dropout is applied between layers and before the output."""
        del train  # there is no batch norm
        frames = self.conditioned(self.read(features[..., 0]), features[:, 0, 1:])
        encoded = self.encoder(frames, lengths, carry=state, dropout=dropout)
        return Outputs(self.head(encoded, dropout), encoded.lengths, encoded.carry)
