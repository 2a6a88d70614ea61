"""One label per clip: cross-entropy, with label smoothing and mixed targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Classification:
    """Classification of a clip into one of `class_names`."""

    class_names: tuple[str, ...]

    # Whether more of a metric is better; these are the metrics a config may select on.
    higher_is_better: ClassVar[dict[str, bool]] = {"loss": False, "accuracy": True}
    headline: ClassVar[str] = "accuracy"

    @property
    def outputs(self) -> int:
        """Width of the model's output."""
        return len(self.class_names)

    def targets(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Distributions over the classes (B, C) for labels (B,), smoothed (Szegedy 2016)."""
        return jax.nn.one_hot(labels, self.outputs) * (1 - smoothing) + smoothing / self.outputs

    def loss(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """Cross-entropy in nats of every example (B,), from logits and targets (B, C)."""
        return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)

    def score(self, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        """What an evaluation keeps of every example (B, ...): loss, and class probabilities."""
        loss = self.loss(logits, self.targets(labels))
        return {"loss": loss, "probabilities": jax.nn.softmax(logits)}

    def metrics(self, scores: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
        """The metrics of a split from the scores of its examples, in float64."""
        correct = scores["probabilities"].argmax(axis=-1) == labels
        return {
            "loss": float(scores["loss"].mean(dtype=np.float64)),
            "accuracy": float(correct.mean()),
        }
