"""Tagging: any number of tags per clip, with binary cross-entropy, mAP and equal error rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gru_audio.data.fields import Field, TagsField
from gru_audio.settings import setting
from gru_audio.tasks.linear import log_probabilities
from gru_audio.tasks.metrics import LOSS, Mean, Metric, Predictions
from gru_audio.tasks.ranking import EER, MAP, AveragePrecision
from gru_audio.tasks.task import CLASS_WEIGHTS, Row, Stored, Task, balanced, log_odds

_THRESHOLD = 0.5  # least probability of a predicted tag


class _OfOneTag(AveragePrecision):
    name = "average_precision"


@dataclass(frozen=True)
class Tagging(Task):
    """Detection of the tags `output_names` of a clip, with one output per tag."""

    output_names: tuple[str, ...]
    label_smoothing: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        off=0,
        doc="The share of each target that is moved to 1/2.",
    )
    class_weight: str = setting(
        "none",
        choices=CLASS_WEIGHTS,
        doc='"balanced": of each tag, the examples that have it count as much as those without.',
    )

    needs: ClassVar[type[Field] | None] = TagsField
    predicts: ClassVar[str] = "labels"
    several: ClassVar[bool] = True
    output_metric: ClassVar[Metric] = _OfOneTag()
    example_metric: ClassVar[Mean] = LOSS
    output_words: ClassVar[tuple[str, str]] = ("tag", "tags")
    trivial: ClassVar[str] = "tag frequencies"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of ranking, and the loss; only the loss if the tags are unknown."""
        return (MAP, EER, LOSS) if self.output_names else (LOSS,)

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Returns probabilities of the tags (B, tags), smoothed towards 1/2."""
        return labels * (1 - smoothing) + smoothing / 2

    def class_weights(self, labels: np.ndarray, frames: np.ndarray) -> np.ndarray | None:
        """Returns the weights of each tag's absence and presence, float32 (tags, 2)."""
        if self.class_weight == "none":
            return None
        present = labels.sum(0)
        return balanced(np.stack([len(labels) - present, present], -1))

    def weighted(
        self, soft: jax.Array, labels: jax.Array, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns weighted probabilities that tags are absent and present, (B, tags) each."""
        weight = jnp.where(labels > 0, weights[:, 1], weights[:, 0])
        return weight * (1 - soft), weight * soft

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the mean over tags of binary cross-entropy in nats (B,), and the terms (B,).

        An example is one term. With class weights (see `weighted`) it counts as much as the mean
        weight of its tags.
        """
        if isinstance(targets, tuple):
            absent, present = targets
            loss = absent * jax.nn.softplus(outputs) + present * jax.nn.softplus(-outputs)
            return loss.mean(-1), (absent + present).mean(-1)
        loss = optax.sigmoid_binary_cross_entropy(outputs, targets).mean(-1)
        return loss, jnp.ones_like(loss)

    def score(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns the loss (B,), the tags (B, tags) and their probabilities (B, tags)."""
        loss, _ = self.loss(outputs, targets, lengths)
        tags = (targets > 0.5).astype(jnp.uint8)
        return {"loss": loss, "tags": tags, "probabilities": jax.nn.sigmoid(outputs)}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Description of what `score` returns; only the loss if the tags are unknown."""
        if not self.output_names:
            return {"loss": Stored("f")}
        tags = (self.outputs,)
        return {
            "loss": Stored("f"),
            "tags": Stored("iu", tags, below=2),
            "probabilities": Stored("f", tags),
        }

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the number of examples with each tag (tags,), and of all examples."""
        return targets.sum(0), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the log-odds of each tag in the training split, (B, tags)."""
        return jnp.broadcast_to(log_odds(mean), (len(lengths), self.outputs))

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Returns log-odds (M, tags) by a separate logistic regression for each tag."""
        log_p = [log_probabilities(training, column, test, 2) for column in labels.astype(int).T]
        return np.stack([tag[:, 1] - tag[:, 0] for tag in log_p], axis=1)

    def table(self, predictions: Predictions) -> list[Row]:
        """Returns the metrics of each tag; None where all examples or no examples have it."""
        columns = (MAP.of_tags(predictions), EER.of_tags(predictions))
        scores = ([None if math.isnan(x) else x for x in column] for column in columns)
        counts = predictions["tags"].sum(axis=0).tolist()
        return [
            {"tag": tag, "examples": count, "average precision": ap, "equal error rate": eer}
            for tag, count, ap, eer in zip(self.output_names, counts, *scores, strict=True)
        ]

    def of_output(self, predictions: Predictions, output: int) -> Predictions | None:
        """Returns the predictions of one tag; None if all examples or no examples have it."""
        one = {name: predictions[name][:, [output]] for name in ("tags", "probabilities")}
        return {**predictions, **one} if np.ptp(one["tags"]) else None

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str] | None:
        """Returns the true and the predicted tags; None if the file has no tags (old versions)."""
        if "tags" not in predictions:
            return None
        predicted = predictions["probabilities"][row] >= _THRESHOLD
        return self._joined(predictions["tags"][row] > 0), self._joined(predicted)

    def _joined(self, selected: np.ndarray) -> str:
        names = [tag for tag, has in zip(self.output_names, selected, strict=True) if has]
        return "+".join(names) or "none"
