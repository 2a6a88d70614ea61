"""What turns an encoder's frames into outputs."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.nn.initialisers import INITIALISERS
from gru_audio.nn.layer import Dropout, EncoderOutput
from gru_audio.nn.pooling import POOLINGS, takes_heads
from gru_audio.settings import UserError, choose, setting

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "linear": lambda x: x,
}


@dataclass(frozen=True)
class Hidden:
    """A dense layer between pooling and output.

    Attributes:
      units: how many.
      activation: a key of `ACTIVATIONS`.
    """

    units: int
    activation: str


def parse_hidden(text: str) -> Hidden:
    """The layer that "UNITS ACTIVATION" describes.

    Raises:
      UserError: the text describes none.
    """
    match = re.fullmatch(r"([1-9]\d{0,5}) (\w+)", str(text))
    if not match:
        raise UserError(
            f'config.model.dense: "{text}" is no layer. Write UNITS ACTIVATION: "64 relu".'
        )
    choose("activation", match[2], ACTIVATIONS)
    return Hidden(int(match[1]), match[2])


class Head(nn.Module):
    """Pooling over time, dropout, dense layers, a linear output.

    All in float32, whatever the encoder computes in.

    Attributes:
      outputs: how many, such as classes.
      pooling: a key of `gru_audio.nn.pooling.POOLINGS`; None: outputs for every frame.
      heads: of multi-head attention.
      dense: layers before the output.
      output_init: what the output's weights begin with, a key of `INITIALISERS`.
      output_bias: what its biases begin with. Where ones are rare, the logarithm of their odds
        spares the first steps (Lin et al. 2017, arXiv 1708.02002, section 3.3).
    """

    outputs: int
    pooling: str | None = setting("last", choices=POOLINGS, doc="How frames become one vector.")
    heads: int = setting(
        4,
        low=1,
        high=1024,
        when=("pooling", lambda name: takes_heads(POOLINGS[name])),
        doc="Heads of the attention.",
    )
    dense: tuple[Hidden, ...] = setting(
        (),
        high=64,
        parse=lambda texts: tuple(map(parse_hidden, texts)),
        doc='Layers between pooling and output: "64 relu", "32 linear".',
    )
    output_init: str = setting(
        "lecun_normal", choices=INITIALISERS, doc="What the weights of the output begin with."
    )
    output_bias: float = setting(
        0.0, low=-1e6, high=1e6, doc="What the biases of the output begin with."
    )

    @nn.compact
    def __call__(self, encoded: EncoderOutput, dropout: Dropout | None = None) -> jax.Array:
        """Logits (batch, outputs), or (batch, time, outputs) of every frame, float32."""
        x = encoded.frames
        if self.pooling is not None:
            pool = choose("pooling", self.pooling, POOLINGS)
            if takes_heads(pool):
                pool = functools.partial(pool, heads=self.heads)
            x = pool(encoded)
        x = x.astype(jnp.float32)
        if dropout is not None:
            x = dropout(x, 0)  # the encoder's layers are salted from 1
        for number, layer in enumerate(self.dense):
            x = nn.Dense(layer.units, name=f"dense_{number}")(x)
            x = ACTIVATIONS[layer.activation](x)
        bias = nn.initializers.constant(self.output_bias)
        weights = INITIALISERS[self.output_init]
        return nn.Dense(self.outputs, kernel_init=weights, bias_init=bias, name="output")(x)
