"""Tests of memory: adding, copying, counting; `gru_audio.data.datasets.synthetic` makes the data.

The first two are from Hochreiter and Schmidhuber 1997, as Bai et al. 2018 (arXiv 1803.01271) set
them.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from gru_audio.data.datasets.synthetic import COPIED, SYMBOLS
from gru_audio.tasks.task import InputsAndTargets, SelfSupervised, log_odds, over_frames

_SURE = 30.0  # a logit


@dataclass(frozen=True)
class Adding(SelfSupervised):
    """The sum of the two marked numbers of a sequence of (number, mark), by squared error.

    Who always says 1 loses 0.1667, the variance of the sum of two uniform numbers.
    """

    width: ClassVar[int] = 2  # values in a frame
    per_frame: ClassVar[bool] = False
    outputs: ClassVar[int] = 1

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Targets are the sums (B,)."""
        marked = features[..., 0] * features[..., 1]
        return InputsAndTargets(features, lengths, over_frames(marked, lengths)[0])

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The squared error (B,); one term an example."""
        loss = (outputs[:, 0] - targets) ** 2
        return loss, jnp.ones_like(loss)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The sum of the targets, and how many there are."""
        return targets.sum(), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """The mean of the training targets."""
        return jnp.broadcast_to(mean, (len(lengths), 1))


@dataclass(frozen=True)
class CopyMemory(SelfSupervised):
    """The first ten symbols of a sequence again at its end; before that, blanks.

    The loss is the cross-entropy in nats, averaged over all steps. Who gives blanks and then
    guesses loses 10 ln 8 / (T + 20), where T + 20 is the length.
    """

    width: ClassVar[int] = 1  # values in a frame
    per_frame: ClassVar[bool] = True
    outputs: ClassVar[int] = SYMBOLS
    trivial: ClassVar[str] = "blanks, then a guess"

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Targets are symbols (B, T)."""
        symbols = features[..., 0].astype(jnp.int32)
        step = jnp.arange(symbols.shape[1])
        ago = step - (lengths[:, None] - COPIED)  # of the last ten steps, which it is
        again = jnp.take_along_axis(symbols, jnp.clip(ago, 0, COPIED - 1), axis=1)
        return InputsAndTargets(features, lengths, jnp.where(ago >= 0, again, 0))

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The sum over an example's steps (B,), and how many those are (B,)."""
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return over_frames(losses, lengths)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Nothing: the trivial predictor learns nothing from the data."""
        return jnp.zeros(()), jnp.ones(())

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Blanks, then at each of the last ten steps all symbols but the blank alike."""
        to_copy = jnp.arange(steps) >= lengths[:, None] - COPIED
        blank = jnp.zeros(SYMBOLS).at[0].set(_SURE)
        symbols = jnp.zeros(SYMBOLS).at[1 : SYMBOLS - 1].set(_SURE)
        return jnp.where(to_copy[..., None], symbols, blank)


@dataclass(frozen=True)
class Counting(SelfSupervised):
    """Of brackets that open and close: at which steps are all closed? Cross-entropy in nats.

    A linear unit that adds and subtracts solves it for any length.
    """

    width: ClassVar[int] = 2  # values in a frame
    per_frame: ClassVar[bool] = True
    outputs: ClassVar[int] = 1

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Targets are 1 where all brackets are closed (B, T)."""
        depth = jnp.cumsum(features[..., 0] - features[..., 1], axis=1)
        return InputsAndTargets(features, lengths, (depth == 0).astype(jnp.float32))

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The sum over an example's steps (B,), and how many those are (B,)."""
        return over_frames(optax.sigmoid_binary_cross_entropy(outputs[..., 0], targets), lengths)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """At how many steps all brackets are closed, and how many steps there are."""
        sums, steps = over_frames(targets, lengths)
        return sums.sum(), steps.sum()

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """At every step the frequency of closed brackets in training."""
        return jnp.broadcast_to(log_odds(mean), (len(lengths), steps, 1))
