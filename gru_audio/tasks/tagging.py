"""Any number of tags per clip: binary cross-entropy, mean average precision, equal error rate."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gru_audio.data.fields import Field, TagsField, Values
from gru_audio.tasks.linear import log_probabilities
from gru_audio.tasks.task import Problem, Scores, log_odds


@dataclass(frozen=True)
class Tagging:
    """Which of the tags `answers` a clip has; the model has an output for each."""

    answers: tuple[str, ...]

    needs: ClassVar[type[Field] | None] = TagsField
    several: ClassVar[bool] = True
    per_frame: ClassVar[bool] = False
    higher_is_better: ClassVar[dict[str, bool]] = {"loss": False, "map": True, "eer": False}
    headline: ClassVar[str] = "loss"
    as_stored: ClassVar[bool] = False
    trivial: ClassVar[str] = "tag frequencies"

    @property
    def outputs(self) -> int:
        """As many as tags."""
        return len(self.answers)

    def labels(self, values: Values) -> Values:
        """Which tags there are, float32 (N, tags) of 0 and 1."""
        return values

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Probabilities of the tags (B, tags), smoothed towards 1/2."""
        return labels * (1 - smoothing) + smoothing / 2

    def problem(self, features: jax.Array, frames: jax.Array, labels: jax.Array) -> Problem:
        """To name the tags."""
        return Problem(features, frames, labels)

    def loss(
        self, outputs: jax.Array, targets: jax.Array, frames: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Binary cross-entropy in nats, averaged over tags (B,); one term an example."""
        loss = optax.sigmoid_binary_cross_entropy(outputs, targets).mean(-1)
        return loss, jnp.ones_like(loss)

    def score(
        self, outputs: jax.Array, targets: jax.Array, frames: jax.Array
    ) -> dict[str, jax.Array]:
        """Loss, the probability of each tag, and a weight of 1."""
        loss, weight = self.loss(outputs, targets, frames)
        return {"loss": loss, "weight": weight, "probabilities": jax.nn.sigmoid(outputs)}

    def metrics(self, scores: Scores, labels: np.ndarray) -> dict[str, float]:
        """Mean loss; average precision and equal error rate, each a mean over tags.

        Tags that all clips have, or none, cannot be judged and do not count; without any other the
        two are NaN.
        """
        judged = [
            row for row in self.by_tag(scores, labels) if row["average precision"] is not None
        ]

        def mean(name: str) -> float:
            return float(np.mean([row[name] for row in judged])) if judged else math.nan

        return {
            "loss": float(scores["loss"].mean(dtype=np.float64)),
            "map": mean("average precision"),
            "eer": mean("equal error rate"),
        }

    def target_sums(self, targets: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How many examples each tag has (tags,), and how many there are."""
        return targets.sum(0), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, frames: jax.Array, steps: int) -> jax.Array:
        """Each tag with its frequency in training."""
        return jnp.broadcast_to(log_odds(mean), (len(frames), self.outputs))

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Log-odds of each tag by a logistic regression of its own."""
        of_tags = [log_probabilities(training, column, test, 2) for column in labels.astype(int).T]
        return np.stack([each[:, 1] - each[:, 0] for each in of_tags], axis=1)

    def by_tag(self, scores: Scores, labels: np.ndarray) -> list[dict[str, Any]]:
        """How many examples each tag has, and how well it is found; None where all or none do."""
        rows = []
        for tag, true, given in zip(
            self.answers, labels.T > 0, scores["probabilities"].T, strict=True
        ):
            judge = true.any() and not true.all()
            rows.append(
                {
                    "tag": tag,
                    "examples": int(true.sum()),
                    "average precision": average_precision(given, true) if judge else None,
                    "equal error rate": equal_error_rate(given, true) if judge else None,
                }
            )
        return rows


def average_precision(scores: np.ndarray, true: np.ndarray) -> float:
    """Precision averaged over recall, without interpolation.

    Args:
      scores: the higher, the likelier (N,).
      true: bool (N,), some of each kind.
    """
    hits, taken = _cumulative(scores, true)
    gained = np.diff(hits, prepend=0) / hits[-1]
    return float(np.sum(gained * hits / taken))


def equal_error_rate(scores: np.ndarray, true: np.ndarray) -> float:
    """Where misses and false alarms are equally likely; on a line between thresholds.

    Args:
      scores: the higher, the likelier (N,).
      true: bool (N,), some of each kind.
    """
    hits, taken = _cumulative(scores, true)
    miss = np.concatenate([[1.0], 1 - hits / hits[-1]])
    alarm = np.concatenate([[0.0], (taken - hits) / (taken[-1] - hits[-1])])
    after = int(np.argmax(alarm >= miss))
    gap, next_gap = (miss - alarm)[[after - 1, after]]
    way = gap / (gap - next_gap)
    return float(miss[after - 1] + way * (miss[after] - miss[after - 1]))


def _cumulative(scores: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At each distinct threshold, from the strictest: how many are found, and how many taken."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    return np.cumsum(true[order])[last_of_ties].astype(np.float64), last_of_ties + 1.0
