"""The head of a model: it computes outputs from the frames of an encoder."""

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
      units: number of units.
      activation: a key of `ACTIVATIONS`.
    """

    units: int
    activation: str


def parse_hidden(text: str) -> Hidden:
    """Parses "UNITS ACTIVATION".

    Raises:
      UserError: the text has another form.
    """
    match = re.fullmatch(r"([1-9]\d{0,5}) (\w+)", str(text))
    if not match:
        raise UserError(
            f'config.model.dense: "{text}" is not a layer. Write UNITS ACTIVATION: "64 relu".'
        )
    choose("activation", match[2], ACTIVATIONS)
    return Hidden(int(match[1]), match[2])


class Head(nn.Module):
    """Pooling over time, dropout, dense layers and a linear output, all in float32.

    Attributes:
      outputs: number of outputs, such as classes.
      pooling: a key of `gru_audio.nn.pooling.POOLINGS`; None: outputs for every frame.
      heads: number of attention heads.
      dense: layers before the output.
      output_init: initial weights of the output, a key of `INITIALISERS`.
      output_bias: initial biases of the output. If positive targets are rare, the logarithm of
        their odds speeds up the first steps (Lin et al. 2017, arXiv 1708.02002, section 3.3).
    """

    outputs: int
    pooling: str | None = setting("last", choices=POOLINGS, doc="How frames become one vector.")
    heads: int = setting(
        4,
        low=1,
        high=1024,
        when=("pooling", lambda name: takes_heads(POOLINGS[name])),
        doc="Number of attention heads.",
    )
    dense: tuple[Hidden, ...] = setting(
        (),
        high=64,
        parse=lambda texts: tuple(map(parse_hidden, texts)),
        doc='Dense layers between pooling and output: "64 relu", "32 linear".',
    )
    output_init: str = setting(
        "lecun_normal", choices=INITIALISERS, doc="Initial weights of the output."
    )
    output_bias: float = setting(0.0, low=-1e6, high=1e6, doc="Initial biases of the output.")

    @nn.compact
    def __call__(self, encoded: EncoderOutput, dropout: Dropout | None = None) -> jax.Array:
        """Returns float32 logits, (batch, outputs), or (batch, time, outputs) for every frame."""
        x = encoded.frames
        if self.pooling is not None:
            pool = choose("pooling", self.pooling, POOLINGS)
            if takes_heads(pool):
                pool = functools.partial(pool, heads=self.heads)
            x = pool(encoded)
        x = x.astype(jnp.float32)
        if dropout is not None:
            x = dropout(x, 0)  # the layers of the encoder have the salts 1, 2, ...
        for number, layer in enumerate(self.dense):
            x = nn.Dense(layer.units, name=f"dense_{number}")(x)
            x = ACTIVATIONS[layer.activation](x)
        bias = nn.initializers.constant(self.output_bias)
        weights = INITIALISERS[self.output_init]
        return nn.Dense(self.outputs, kernel_init=weights, bias_init=bias, name="output")(x)
