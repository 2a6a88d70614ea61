"""Any number of tags per clip: binary cross-entropy, mean average precision, equal error rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gru_audio.data.fields import Field, TagsField, Values
from gru_audio.settings import setting
from gru_audio.tasks.linear import log_probabilities
from gru_audio.tasks.metrics import LOSS, Mean, Metric, Predictions
from gru_audio.tasks.ranking import EER, MAP, AveragePrecision
from gru_audio.tasks.task import CLASS_WEIGHTS, InputsAndTargets, Row, Stored, balanced, log_odds

_GIVEN = 0.5  # probability from which on a tag is given


class _OfOneTag(AveragePrecision):
    name = "average_precision"


@dataclass(frozen=True)
class Tagging:
    """Which of the tags `answers` a clip has; the model has an output for each."""

    output_names: tuple[str, ...]
    label_smoothing: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        zero_is_off=True,
        doc="The share of each target that is moved to 1/2.",
    )
    class_weight: str = setting(
        "none",
        choices=CLASS_WEIGHTS,
        doc='"balanced": of each tag, the examples that have it count as much as those without.',
    )

    needs: ClassVar[type[Field] | None] = TagsField
    causal: ClassVar[bool] = False
    several: ClassVar[bool] = True
    per_frame: ClassVar[bool] = False
    output_metric: ClassVar[Metric] = _OfOneTag()
    example_metric: ClassVar[Mean] = LOSS
    output_words: ClassVar[tuple[str, str]] = ("tag", "tags")
    requires_raw_values: ClassVar[bool] = False
    trivial: ClassVar[str] = "tag frequencies"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of the ranking of examples by each tag; only the loss where no tags are known."""
        return (MAP, EER, LOSS) if self.output_names else (LOSS,)

    @property
    def outputs(self) -> int:
        """As many as tags."""
        return len(self.output_names)

    def labels(self, values: Values) -> Values:
        """Which tags there are, float32 (N, tags) of 0 and 1."""
        return values

    def soft_labels(self, labels: jax.Array, smoothing: jax.Array | float = 0.0) -> jax.Array:
        """Probabilities of the tags (B, tags), smoothed towards 1/2."""
        return labels * (1 - smoothing) + smoothing / 2

    def class_weights(self, labels: np.ndarray) -> np.ndarray | None:
        """The weights of each tag's absence and presence, float32 (tags, 2)."""
        if self.class_weight == "none":
            return None
        present = labels.sum(0)
        return balanced(np.stack([len(labels) - present, present], -1))

    def weighted(
        self, soft: jax.Array, labels: jax.Array, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Probabilities that tags are absent and present, times weights: (B, tags) each."""
        weight = jnp.where(labels > 0, weights[:, 1], weights[:, 0])
        return weight * (1 - soft), weight * soft

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: Any
    ) -> InputsAndTargets:
        """To name the tags."""
        return InputsAndTargets(features, lengths, labels)

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Binary cross-entropy in nats, averaged over tags (B,); one term an example.

        Targets are probabilities (B, tags). With weights (see `weighted`) an example counts as many
        terms as the mean weight of its tags.
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
        """Loss, which tags there are, and the probability of each."""
        loss, _ = self.loss(outputs, targets, lengths)
        tags = (targets > 0.5).astype(jnp.uint8)
        return {"loss": loss, "tags": tags, "probabilities": jax.nn.sigmoid(outputs)}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """As `score` keeps them; without names of tags, only the loss is certain."""
        if not self.output_names:
            return {"loss": Stored("f")}
        tags = (self.outputs,)
        return {
            "loss": Stored("f"),
            "tags": Stored("iu", tags, below=2),
            "probabilities": Stored("f", tags),
        }

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How many examples each tag has (tags,), and how many there are."""
        return targets.sum(0), jnp.float32(len(targets))

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Each tag with its frequency in training."""
        return jnp.broadcast_to(log_odds(mean), (len(lengths), self.outputs))

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Log-odds of each tag by a logistic regression of its own."""
        of_tags = [log_probabilities(training, column, test, 2) for column in labels.astype(int).T]
        return np.stack([each[:, 1] - each[:, 0] for each in of_tags], axis=1)

    def table(self, predictions: Predictions) -> list[Row]:
        """How well each tag is found; None where all or no examples have it."""
        columns = (MAP.of_tags(predictions), EER.of_tags(predictions))
        scores = ([None if math.isnan(x) else x for x in column] for column in columns)
        counts = predictions["tags"].sum(axis=0).tolist()
        return [
            {"tag": tag, "examples": count, "average precision": ap, "equal error rate": eer}
            for tag, count, ap, eer in zip(self.output_names, counts, *scores, strict=True)
        ]

    def of_output(self, predictions: Predictions, answer: int) -> Predictions | None:
        """All examples, with one tag; None where all or none have it."""
        one = {name: predictions[name][:, [answer]] for name in ("tags", "probabilities")}
        return {**predictions, **one} if np.ptp(one["tags"]) else None

    def confusion(self, predictions: Predictions) -> None:
        """None: no tag is taken for another."""

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str] | None:
        """The tags, and those given; None where an earlier version did not store them."""
        if "tags" not in predictions:
            return None
        given = predictions["probabilities"][row] >= _GIVEN
        return self._joined(predictions["tags"][row] > 0), self._joined(given)

    def _joined(self, chosen: np.ndarray) -> str:
        names = [tag for tag, has in zip(self.output_names, chosen, strict=True) if has]
        return "+".join(names) or "none"
