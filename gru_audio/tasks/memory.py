"""Synthetic memory tasks: adding, copying, counting.

`gru_audio.data.datasets.synthetic` makes the data. Adding and copying are from Hochreiter and
Schmidhuber 1997, in the form of Bai et al. 2018 (arXiv 1803.01271).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from gru_audio.data.copy_task import COPIED, SYMBOLS
from gru_audio.tasks.task import InputsAndTargets, SelfSupervised, log_odds, over_frames

_CERTAIN = 30.0  # logit of a probability of almost 1


@dataclass(frozen=True)
class Adding(SelfSupervised):
    """Regression on the sum of the two marked numbers of a sequence, with squared error.

    Frames are pairs (number, mark). The constant prediction 1 has a loss of 0.1667, the variance of
    the sum of two uniform numbers.
    """

    width: ClassVar[int] = 2  # values per frame
    outputs: ClassVar[int] = 1

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Returns the features as inputs and the sums (B,) as targets."""
        marked = features[..., 0] * features[..., 1]
        return InputsAndTargets(features, lengths, over_frames(marked, lengths)[0])

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the squared error (B,) and one term per example."""
        loss = (outputs[:, 0] - targets) ** 2
        return loss, jnp.ones_like(loss)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the sum of the targets and their number."""
        return targets.sum(), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the mean of the training targets, (B, 1)."""
        return jnp.broadcast_to(mean, (len(lengths), 1))


@dataclass(frozen=True)
class CopyMemory(SelfSupervised):
    """Reproduction of the first ten symbols of a sequence at its end, after blanks.

    The loss is the cross-entropy in nats, averaged over all steps. For sequences of T + 20 steps,
    blanks followed by guesses have a loss of 10 ln 8 / (T + 20).
    """

    width: ClassVar[int] = 1  # values per frame
    per_frame: ClassVar[bool] = True
    outputs: ClassVar[int] = SYMBOLS
    trivial: ClassVar[str] = "blanks, then a guess"

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Returns the features as inputs and the symbols (B, T) as targets."""
        symbols = features[..., 0].astype(jnp.int32)
        step = jnp.arange(symbols.shape[1])
        index = step - (lengths[:, None] - COPIED)  # among the last ten steps
        copied = jnp.take_along_axis(symbols, jnp.clip(index, 0, COPIED - 1), axis=1)
        return InputsAndTargets(features, lengths, jnp.where(index >= 0, copied, 0))

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns each example's summed loss (B,) and its number of steps (B,)."""
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return over_frames(losses, lengths)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns 0 and 1, because the trivial predictor does not depend on the data."""
        return jnp.zeros(()), jnp.ones(())

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns blanks, then for each of the last ten steps equal logits of the other symbols."""
        to_copy = jnp.arange(steps) >= lengths[:, None] - COPIED
        blank = jnp.zeros(SYMBOLS).at[0].set(_CERTAIN)
        symbols = jnp.zeros(SYMBOLS).at[1 : SYMBOLS - 1].set(_CERTAIN)
        return jnp.where(to_copy[..., None], symbols, blank)


@dataclass(frozen=True)
class Counting(SelfSupervised):
    """Detection of the steps at which all brackets are closed, with cross-entropy in nats.

    Frames are pairs (opening, closing). A linear unit that counts solves the task at any length.
    """

    width: ClassVar[int] = 2  # values per frame
    per_frame: ClassVar[bool] = True
    outputs: ClassVar[int] = 1

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Returns as targets 1 where all brackets are closed, and 0 elsewhere, (B, T)."""
        depth = jnp.cumsum(features[..., 0] - features[..., 1], axis=1)
        return InputsAndTargets(features, lengths, (depth == 0).astype(jnp.float32))

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns each example's summed loss (B,) and its number of steps (B,)."""
        return over_frames(optax.sigmoid_binary_cross_entropy(outputs[..., 0], targets), lengths)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the number of steps at which all brackets are closed, and of all steps."""
        sums, steps = over_frames(targets, lengths)
        return sums.sum(), steps.sum()

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the log-odds of closed brackets in the training split, (B, T, 1)."""
        return jnp.broadcast_to(log_odds(mean), (len(lengths), steps, 1))
