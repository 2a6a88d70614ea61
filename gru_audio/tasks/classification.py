"""One label per clip: cross-entropy, with label smoothing and mixed targets."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.fields import ClassField, Field, Values
from gru_audio.tasks.linear import log_probabilities
from gru_audio.tasks.task import Problem, Scores

_NEVER = 1e-9  # probability of what was never seen in training


@dataclass(frozen=True)
class Classification:
    """Classification of a clip into one of `answers`."""

    answers: tuple[str, ...]

    needs: ClassVar[type[Field] | None] = ClassField
    several: ClassVar[bool] = False
    per_frame: ClassVar[bool] = False
    higher_is_better: ClassVar[dict[str, bool]] = {"loss": False, "accuracy": True}
    headline: ClassVar[str] = "accuracy"
    as_stored: ClassVar[bool] = False
    trivial: ClassVar[str] = "majority class"

    @property
    def outputs(self) -> int:
        """As many as classes."""
        return len(self.answers)

    def labels(self, values: Values) -> Values:
        """Numbers of classes, int32 (N,)."""
        return values

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Distributions over the classes (B, C) for labels (B,), smoothed (Szegedy 2016)."""
        return jax.nn.one_hot(labels, self.outputs) * (1 - smoothing) + smoothing / self.outputs

    def problem(self, features: jax.Array, frames: jax.Array, labels: jax.Array) -> Problem:
        """To name the class."""
        return Problem(features, frames, labels)

    def loss(
        self, outputs: jax.Array, targets: jax.Array, frames: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Cross-entropy in nats (B,) of logits and distributions (B, C); one term an example."""
        loss = -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1)
        return loss, jnp.ones_like(loss)

    def score(
        self, outputs: jax.Array, targets: jax.Array, frames: jax.Array
    ) -> dict[str, jax.Array]:
        """Loss, and class probabilities."""
        loss, _ = self.loss(outputs, targets, frames)
        return {"loss": loss, "probabilities": jax.nn.softmax(outputs)}

    def metrics(self, scores: Scores, labels: np.ndarray) -> dict[str, float]:
        """Mean loss, and the share of clips whose likeliest class is theirs."""
        correct = scores["probabilities"].argmax(axis=-1) == labels
        return {
            "loss": float(scores["loss"].mean(dtype=np.float64)),
            "accuracy": float(correct.mean()),
        }

    def target_sums(self, targets: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How many examples each class has (C,), and how many there are."""
        return targets.sum(0), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, frames: jax.Array, steps: int) -> jax.Array:
        """The classes with their frequencies in training: the largest class is the answer."""
        return jnp.broadcast_to(jnp.log(mean + _NEVER), (len(frames), self.outputs))

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Log-probabilities of the classes by logistic regression."""
        return log_probabilities(training, labels, test, self.outputs)
