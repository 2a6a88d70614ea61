"""Classification: one class per clip, with cross-entropy, label smoothing and mixup."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.fields import ClassField, Field, take
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
)
from gru_audio.tasks.task import CLASS_WEIGHTS, Row, Stored, Task, balanced

_EPSILON = 1e-9  # added to class frequencies, because a class may be absent from training


@dataclass(frozen=True)
class Classification(Task):
    """Classification of a clip into one of the classes `output_names`."""

    output_names: tuple[str, ...]
    label_smoothing: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        off=0,
        doc="The share of each target that is spread over all classes.",
    )
    class_weight: str = setting(
        "none",
        choices=CLASS_WEIGHTS,
        doc='"balanced": each class counts as much in the loss as any other, however rare it is.',
    )

    needs: ClassVar[type[Field] | None] = ClassField
    predicts: ClassVar[str] = "labels"
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY, LOSS, MACRO_F1, UAR)
    output_metric: ClassVar[Metric] = Recall()
    example_metric: ClassVar[Mean] = TrueProbability()
    output_words: ClassVar[tuple[str, str]] = ("class", "classes")
    trivial: ClassVar[str] = "majority class"

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Returns smoothed distributions (B, C) of class numbers (B,) (Szegedy et al. 2016)."""
        return jax.nn.one_hot(labels, self.outputs) * (1 - smoothing) + smoothing / self.outputs

    def class_weights(self, labels: np.ndarray, frames: np.ndarray) -> np.ndarray | None:
        """Returns the weight of each class, float32 (C,); None without class weights."""
        if self.class_weight == "none":
            return None
        return balanced(np.bincount(labels, minlength=self.outputs))

    def weighted(self, soft: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
        """Returns the distributions (B, C) multiplied by the weights of the true classes."""
        return soft * weights[labels][:, None]

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the cross-entropy in nats (B,) of logits (B, C), and the number of terms (B,).

        An example is one term. With class weights it counts as much as its weight, which is the sum
        of its targets.
        """
        loss = -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1)
        return loss, jnp.ones_like(loss) if self.class_weight == "none" else targets.sum(-1)

    def score(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns the loss (B,), the class (B,) and the class probabilities (B, C)."""
        loss, _ = self.loss(outputs, targets, lengths)
        label = targets.argmax(-1).astype(jnp.int32)
        return {"loss": loss, "label": label, "probabilities": jax.nn.softmax(outputs)}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Description of what `score` returns."""
        return {
            "loss": Stored("f"),
            "label": Stored("iu", below=self.outputs),
            "probabilities": Stored("f", (self.outputs,)),
        }

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the number of examples of each class (C,), and of all classes."""
        return targets.sum(0), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the log-frequencies of the classes in the training split, (B, C)."""
        return jnp.broadcast_to(jnp.log(mean + _EPSILON), (len(lengths), self.outputs))

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Returns log-probabilities of the classes by logistic regression, (M, C)."""
        return log_probabilities(training, labels, test, self.outputs)

    def table(self, predictions: Predictions) -> list[Row]:
        """Returns recall and precision of each class; None where they are undefined."""
        counts = self.confusion(predictions)
        rows = []
        for name, hits, actual, predicted in zip(
            self.output_names, counts.diagonal(), counts.sum(1), counts.sum(0), strict=True
        ):
            row: Row = {"class": name, "examples": int(actual)}
            row["recall"] = float(hits / actual) if actual else None
            row["precision"] = float(hits / predicted) if predicted else None
            rows.append(row)
        return rows

    def of_output(self, predictions: Predictions, output: int) -> Predictions | None:
        """Returns the predictions for the examples of a class; None if there are none."""
        rows = predictions["label"] == output
        return take(predictions, rows) if rows.any() else None

    def confusion(self, predictions: Predictions) -> np.ndarray:
        """Returns counts by true and predicted class, int (C, C)."""
        pairs = predictions["label"] * self.outputs + chosen(predictions)
        return np.bincount(pairs, minlength=self.outputs**2).reshape(self.outputs, self.outputs)

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str]:
        """Returns the true class and the most probable class."""
        predicted = predictions["probabilities"][row].argmax()
        return self.output_names[predictions["label"][row]], self.output_names[predicted]
