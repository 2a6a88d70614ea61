"""One label per clip: cross-entropy, with label smoothing and mixed targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.fields import ClassField, Field, Values
from gru_audio.settings import setting
from gru_audio.tasks.linear import log_probabilities
from gru_audio.tasks.metrics import (
    ACCURACY,
    LOSS,
    MACRO_F1,
    UAR,
    Mean,
    Metric,
    Predictions,
    Recall,
    TrueProbability,
    chosen,
    take,
)
from gru_audio.tasks.task import CLASS_WEIGHTS, InputsAndTargets, Row, Stored, balanced

_NEVER = 1e-9  # probability of what was never seen in training


@dataclass(frozen=True)
class Classification:
    """Classification of a clip into one of `answers`."""

    output_names: tuple[str, ...]
    label_smoothing: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        zero_is_off=True,
        doc="The share of each target that is spread over all classes.",
    )
    class_weight: str = setting(
        "none",
        choices=CLASS_WEIGHTS,
        doc='"balanced": each class counts as much in the loss as any other, however rare it is.',
    )

    needs: ClassVar[type[Field] | None] = ClassField
    causal: ClassVar[bool] = False
    several: ClassVar[bool] = False
    per_frame: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY, LOSS, MACRO_F1, UAR)
    output_metric: ClassVar[Metric] = Recall()
    example_metric: ClassVar[Mean] = TrueProbability()
    output_words: ClassVar[tuple[str, str]] = ("class", "classes")
    requires_raw_values: ClassVar[bool] = False
    trivial: ClassVar[str] = "majority class"

    @property
    def outputs(self) -> int:
        """As many as classes."""
        return len(self.output_names)

    def labels(self, values: Values) -> Values:
        """Numbers of classes, int32 (N,)."""
        return values

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Distributions over the classes (B, C) for labels (B,), smoothed (Szegedy 2016)."""
        return jax.nn.one_hot(labels, self.outputs) * (1 - smoothing) + smoothing / self.outputs

    def class_weights(self, labels: np.ndarray) -> np.ndarray | None:
        """The weight of each class, float32 (C,)."""
        if self.class_weight == "none":
            return None
        return balanced(np.bincount(labels, minlength=self.outputs))

    def weighted(self, soft: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
        """Distributions (B, C) times the weights of the true classes."""
        return soft * weights[labels][:, None]

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """To name the class."""
        return InputsAndTargets(features, lengths, labels)

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Cross-entropy in nats (B,) of logits and distributions (B, C); one term an example.

        With class weights an example counts as many terms as its weight: the sum of its targets.
        """
        loss = -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1)
        return loss, jnp.ones_like(loss) if self.class_weight == "none" else targets.sum(-1)

    def score(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> dict[str, jax.Array]:
        """Loss, class, and class probabilities."""
        loss, _ = self.loss(outputs, targets, lengths)
        label = targets.argmax(-1).astype(jnp.int32)
        return {"loss": loss, "label": label, "probabilities": jax.nn.softmax(outputs)}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """As `score` keeps them."""
        return {
            "loss": Stored("f"),
            "label": Stored("iu", below=self.outputs),
            "probabilities": Stored("f", (self.outputs,)),
        }

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How many examples each class has (C,), and how many there are."""
        return targets.sum(0), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """The classes with their frequencies in training: the largest class is the answer."""
        return jnp.broadcast_to(jnp.log(mean + _NEVER), (len(lengths), self.outputs))

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Log-probabilities of the classes by logistic regression."""
        return log_probabilities(training, labels, test, self.outputs)

    def table(self, predictions: Predictions) -> list[Row]:
        """Recall and precision of each class; None where it has no example, or is never taken."""
        counts = self.confusion(predictions)
        rows = []
        for name, hits, there, taken in zip(
            self.output_names, counts.diagonal(), counts.sum(1), counts.sum(0), strict=True
        ):
            row: Row = {"class": name, "examples": int(there)}
            row["recall"] = float(hits / there) if there else None
            row["precision"] = float(hits / taken) if taken else None
            rows.append(row)
        return rows

    def of_output(self, predictions: Predictions, answer: int) -> Predictions | None:
        """The examples of a class."""
        rows = predictions["label"] == answer
        return take(predictions, rows) if rows.any() else None

    def confusion(self, predictions: Predictions) -> np.ndarray:
        """Counts by true and predicted class, int (classes, classes)."""
        pairs = predictions["label"] * self.outputs + chosen(predictions)
        return np.bincount(pairs, minlength=self.outputs**2).reshape(self.outputs, self.outputs)

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str]:
        """The class and the most probable class."""
        answer = predictions["probabilities"][row].argmax()
        return self.output_names[predictions["label"][row]], self.output_names[answer]
