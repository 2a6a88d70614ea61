"""A recurrent autoencoder: a whole sequence becomes one vector, and that becomes frames again."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences

from gru_audio.nn.layer import Dropout, Encoder, EncoderCarry
from gru_audio.nn.model import Model, Outputs
from gru_audio.settings import part, setting

NONE, OWN, TEACHER = FEEDBACKS = ("none", "own", "teacher_forcing")


class Autoencoder(Model):
    """Encodes a sequence as a latent vector, and decodes it (Srivastava et al. 2015).

    See arXiv 1502.04681, section 2. The latent vector is an affine map of the encoder's final
    outputs. It is the input of the decoder at every step, so any cell can decode. The decoder has
    the cell, the layers and the units of the encoder, but only one direction. Its outputs go
    through an affine map.

    Attributes:
      encoder: the recurrent layers of the encoder.
      outputs: values per decoded frame.
      latent: size of the latent vector.
      reverse: whether the decoder begins with the last frame, which is the easiest to remember.
      feedback: what the decoder reads besides the latent vector; one of `FEEDBACKS`. With
        "teacher_forcing" it reads the true frame before in training, and the frame that it has
        decoded before everywhere else.
    """

    encoder: Encoder = part(Encoder)
    outputs: int = 1
    latent: int = setting(32, low=1, high=2**16, unit="values", doc="Size of the latent vector.")
    reverse: bool = setting(True, doc="The decoder begins with the last frame.")
    feedback: str = setting(
        NONE,
        choices=FEEDBACKS,
        doc="What the decoder reads besides the latent vector: nothing, the frame that it decoded "
        "before, or, in training only, the true one.",
    )

    recurrent = ("encoder", "decoder")
    bottleneck = True

    def setup(self) -> None:
        self.to_latent = nn.Dense(self.latent)
        self.decoder = self.encoder.clone(parent=None, name=None, bidirectional=False)
        self.output = nn.Dense(self.outputs)

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`. The latent vector depends on all frames."""
        return "config.model.name=rnn_classifier"

    def encode(
        self, features: jax.Array, lengths: jax.Array, dropout: Dropout | None = None
    ) -> jax.Array:
        """Returns the latent vectors, float32 (batch, latent)."""
        encoded = self.encoder(features, lengths, dropout=dropout)
        latent = self.to_latent(encoded.last.astype(jnp.float32))
        return latent if dropout is None else dropout(latent, 0)  # the layers' salts are 1, 2, ...

    def decode(self, latent: jax.Array, lengths: jax.Array, time: int) -> jax.Array:
        """Returns decoded frames, float32 (batch, time, outputs).

        Args:
          latent: (batch, latent).
          lengths: int (batch,), frames to decode.
          time: the largest number of frames.
        """
        if self.feedback == NONE:
            return self._turned(self._frames(self._repeated(latent, time), lengths)[0], lengths)

        def step(
            model: "Autoencoder", state: tuple[jax.Array, EncoderCarry], number: jax.Array
        ) -> tuple[tuple[jax.Array, EncoderCarry], jax.Array]:
            before, carry = state
            inputs = jnp.concatenate([latent, before], axis=-1)[:, None]
            frames, carry = model._frames(inputs, (number < lengths).astype(jnp.int32), carry)
            return (frames[:, 0], carry), frames[:, 0]

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, out_axes=1)
        first = jnp.zeros((len(latent), self.outputs))
        carry = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float32), self.decoder.initial_carry(len(latent))
        )
        _, frames = scan(self, (first, carry), jnp.arange(time))
        return self._turned(frames, lengths)

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        state: None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """See `Model`. Dropout is applied between the encoder's layers and to the latent vector."""
        latent, time = self.encode(features, lengths, dropout), features.shape[1]
        if self.feedback != TEACHER or not train:
            return Outputs(self.decode(latent, lengths, time), lengths)
        before = jnp.pad(self._turned(features, lengths), ((0, 0), (1, 0), (0, 0)))[:, :-1]
        inputs = jnp.concatenate([self._repeated(latent, time), before], axis=-1)
        return Outputs(self._turned(self._frames(inputs, lengths)[0], lengths), lengths)

    def _frames(
        self, inputs: jax.Array, lengths: jax.Array, carry: EncoderCarry | None = None
    ) -> tuple[jax.Array, EncoderCarry]:
        """Returns what the decoder makes of its inputs (batch, time, ...), and its carry."""
        decoded = self.decoder(inputs, lengths, carry=carry)
        return self.output(decoded.frames.astype(jnp.float32)), decoded.carry

    def _turned(self, frames: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns the valid frames in the decoder's order, or back in their own."""
        return flip_sequences(frames, lengths, 1, False) if self.reverse else frames

    @staticmethod
    def _repeated(latent: jax.Array, time: int) -> jax.Array:
        return jnp.repeat(latent[:, None], time, axis=1)
