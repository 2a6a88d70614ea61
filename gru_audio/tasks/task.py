"""What every task offers: it turns features into a problem, and outputs into losses and metrics."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

Scores = Mapping[str, np.ndarray]  # of each example of a split, in its order


class Problem(NamedTuple):
    """What a model is given, and what is asked of it.

    Attributes:
      inputs: (B, T, F).
      frames: valid ones (B,).
      targets: as the task's loss takes them; of a task per frame each leaf begins (B, T, ...).
    """

    inputs: jax.Array
    frames: jax.Array
    targets: Any


class Task(Protocol):
    """A task of some number of outputs.

    Attributes:
      class_names: of the labels; () where nothing is labelled.
      answers: what the probabilities of an example are of; () where it has none.
      per_frame: whether there is an output for every frame, or one for the whole example.
      higher_is_better: whether more of a metric is better; a config may select on these.
      headline: the metric by which arms are compared.
      as_stored: whether the features must be the values of the data set, not normalised ones.
    """

    per_frame: ClassVar[bool]
    higher_is_better: ClassVar[dict[str, bool]]
    headline: ClassVar[str]

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def answers(self) -> tuple[str, ...]: ...

    @property
    def as_stored(self) -> bool: ...

    @property
    def outputs(self) -> int:
        """Width of the model's output."""

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """What is known of each example besides its features (B, ...), ready to be mixed."""

    def problem(self, features: jax.Array, frames: jax.Array, labels: jax.Array) -> Problem:
        """The problem that normalised features (B, T, F), frames (B,) and soft labels pose."""

    def loss(
        self, outputs: jax.Array, targets: Any, frames: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Of each example the sum of what is lost (B,), and how many terms the sum has (B,).

        The loss of a batch, or of a split, is the one summed over the other.

        Args:
          outputs: of the model, (B, outputs), or (B, T, outputs) of a task per frame.
          targets: of the problem.
          frames: valid ones (B,).
        """

    def score(self, outputs: jax.Array, targets: Any, frames: jax.Array) -> dict[str, jax.Array]:
        """What an evaluation keeps of every example (B, ...)."""

    def metrics(self, scores: Scores, labels: np.ndarray) -> dict[str, float]:
        """The metrics of a split from the scores and labels of its examples, in float64."""


class OfTheSignal:
    """What tasks have in common that ask for something the signal itself tells: no labels."""

    class_names: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ()
    higher_is_better: ClassVar[dict[str, bool]] = {"loss": False}
    headline: ClassVar[str] = "loss"

    @property
    def as_stored(self) -> bool:
        """True: what the signal tells is read off its values."""
        return True

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Nothing, in the shape of the labels."""
        return jnp.zeros_like(labels)

    def loss(
        self, outputs: jax.Array, targets: Any, frames: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """As `Task.loss`."""
        raise NotImplementedError

    def score(self, outputs: jax.Array, targets: Any, frames: jax.Array) -> dict[str, jax.Array]:
        """The mean of an example's terms, and how many it has."""
        loss, terms = self.loss(outputs, targets, frames)
        return {"loss": loss / jnp.maximum(terms, 1), "weight": terms}

    def metrics(self, scores: Scores, labels: np.ndarray) -> dict[str, float]:
        """The loss of a split: all terms count alike."""
        weight = scores["weight"].astype(np.float64)
        return {"loss": float((scores["loss"] * weight).sum() / weight.sum())}


def over_frames(losses: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Losses (B, T) summed over valid frames (B,), and how many those are (B,)."""
    counted = jnp.arange(losses.shape[1]) < frames[:, None]
    return jnp.sum(losses, axis=1, where=counted), counted.sum(1, dtype=jnp.float32)
