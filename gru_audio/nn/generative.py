"""The interface of generative models of sound, and the layers that they share.

Such a model maps the codes of earlier samples to logits of the next one. At time t its inputs are
the codes of sample t - 1; if codes are split, also the coarse half of sample t, from which only the
logits of the fine half may be computed; then the condition, a vector that does not change with t.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.nn.layer import Dropout
from gru_audio.nn.model import Model

_PARTS = 2**31  # above the numbers of layers, which dropout uses, too
EMBEDDING, VALUE = INPUTS = ("embedding", "value")

Choice = Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]]
"""Maps logits (batch, levels), and what it needs for each of them, to codes int32 (batch,) and
their log-probabilities (batch,)."""


class Drawn(NamedTuple):
    """Samples that a model has drawn.

    Attributes:
      state: the state after them.
      codes: int32 (batch, samples, codes per sample).
      log_probabilities: of these codes in nats, (batch, samples).
    """

    state: Any
    codes: jax.Array
    log_probabilities: jax.Array


class SampleModel(Model):
    """A generative model of sound. A subclass has `outputs`, the number of logits per sample.

    Attributes:
      codes: codes per sample; 2 if they are split.
    """

    outputs: int

    of_samples: ClassVar[bool] = True
    codes: ClassVar[int] = 1

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`."""
        return ""

    @property
    def levels(self) -> int:
        """The number of values of a code."""
        return self.outputs // self.codes

    def draw(
        self,
        variables: Any,
        state: Any,
        previous: jax.Array,
        condition: jax.Array,
        choose: Choice,
        needed: jax.Array,
    ) -> Drawn:
        """Draws the next `stride` samples. The model must not be bound.

        Args:
          variables: of the model.
          state: as `initial_state` returns it.
          previous: the codes of the sample before, int32 (batch, codes).
          condition: (batch, classes).
          choose: draws codes from logits.
          needed: the second argument of `choose` for each code, (batch, stride, codes, ...).
        """
        inputs = joined(previous, condition)
        outputs: Any = self.apply(variables, inputs, None, state=state)
        codes, log_probabilities = choose(outputs.values[:, 0], needed[:, 0, 0])
        return Drawn(outputs.state, codes[:, None, None], log_probabilities[:, None])


def generate(
    model: SampleModel,
    variables: Any,
    state: Any,
    previous: jax.Array,
    condition: jax.Array,
    choose: Choice,
    needed: jax.Array,
) -> tuple[jax.Array, Drawn]:
    """Draws samples one after another.

    Args:
      model, variables, state, previous, condition, choose: see `SampleModel.draw`.
      needed: the second argument of `choose`, (batch, samples, codes, ...). The number of samples
        is a multiple of `model.stride`.

    Returns:
      The codes of the last sample (batch, codes), and all samples.
    """

    def step(carry: tuple[Any, jax.Array], needed: jax.Array) -> tuple[Any, Any]:
        drawn = model.draw(variables, *carry, condition, choose, jnp.swapaxes(needed, 0, 1))
        return (drawn.state, drawn.codes[:, -1]), drawn[1:]

    batch, samples = needed.shape[:2]
    blocks = jnp.swapaxes(needed, 0, 1).reshape(-1, model.stride, batch, *needed.shape[2:])
    (state, last), parts = jax.lax.scan(step, (state, previous), blocks)
    codes, log_probabilities = (
        jnp.swapaxes(part, 0, 1).reshape(batch, samples, *part.shape[3:]) for part in parts
    )
    return last, Drawn(state, codes, log_probabilities)


def silence(codes: int, levels: int) -> jax.Array:
    """Returns the codes of a silent sample, int32 (codes,)."""
    return jnp.array([levels // 2, 0][:codes], jnp.int32)


def joined(codes: jax.Array, condition: jax.Array) -> jax.Array:
    """Returns the inputs (batch, 1, ...) of one sample: codes (batch, n), then the condition."""
    return jnp.concatenate([codes.astype(jnp.float32), condition], axis=-1)[:, None]


def scaled(codes: jax.Array, levels: int) -> jax.Array:
    """Returns codes as values in [-1, 1)."""
    return codes * (2 / levels) - 1


class CodeInput(nn.Module):
    """Maps codes (batch, time) to vectors (batch, time, features).

    Attributes:
      levels: number of values of a code.
      features: width of the vectors.
      kind: "embedding": a learned vector for each value; "value": a linear map of the value, scaled
        to [-1, 1).
    """

    levels: int
    features: int
    kind: str = EMBEDDING

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        if self.kind == EMBEDDING:
            return nn.Embed(self.levels, self.features, name="embedding")(codes.astype(jnp.int32))
        return nn.Dense(self.features, name="linear")(scaled(codes, self.levels)[..., None])


class Conditioned(nn.Module):
    """Adds an embedding of the condition to frames (batch, time, features).

    It is a product with the condition, which is a one-hot vector, or zero without a class. With a
    condition of width 0 it has no parameters.
    """

    @nn.compact
    def __call__(self, frames: jax.Array, condition: jax.Array) -> jax.Array:
        """Adds to all frames the embedding of the condition (batch, classes)."""
        if not condition.shape[-1]:
            return frames
        embed = nn.Dense(frames.shape[-1], use_bias=False, name="embedding")
        return frames + embed(condition)[:, None].astype(frames.dtype)


def dropout_of(dropout: Dropout | None, part: int) -> Dropout | None:
    """Returns the dropout of a part of a model, whose masks differ from those of other parts."""
    if dropout is None or not part:
        return dropout
    keys = jax.vmap(jax.random.fold_in, (0, None))(dropout.keys, _PARTS + part)
    return Dropout(keys, dropout.rate)
