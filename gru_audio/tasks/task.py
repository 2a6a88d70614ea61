"""The interface of tasks, and helpers that several tasks use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.fields import Field, Values
from gru_audio.tasks.metrics import LOSS, Mean, Metric, Predictions

Row = dict[str, Any]  # of a table: column -> text, count or fraction; None where undefined


@dataclass(frozen=True)
class Stored:
    """The description of an array of stored predictions, for checks of files.

    Attributes:
      kinds: allowed letters of NumPy's `dtype.kind`.
      shape: shape of one example.
      below: values must be in [0, below); None: any finite value is allowed.
    """

    kinds: str
    shape: tuple[int, ...] = ()
    below: int | None = None


class InputsAndTargets(NamedTuple):
    """Inputs and targets of a model.

    Attributes:
      inputs: (B, T, F).
      lengths: number of valid frames (B,).
      targets: a tree of arrays (B, ...), or (B, T, ...) if the task is per frame.
    """

    inputs: jax.Array
    lengths: jax.Array
    targets: Any


class Task(Protocol):
    """A task.

    Attributes:
      needs: type of the target field; None for a self-supervised task.
      causal: whether outputs must not depend on later frames.
      output_names: names of the classes or tags; () if the outputs have no names.
      several: whether an example may have several of `output_names` at once.
      per_frame: whether the model has an output for every frame, not one for the whole example.
      metrics: metrics of predictions, including the loss. Variants are compared by the first one.
        A config may select the best weights by any of them.
      output_metric: metric of one of `output_names`; see `of_output`.
      example_metric: metric of a single example.
      output_words: singular and plural of what `output_names` are: ("class", "classes").
      requires_raw_values: whether features must not be normalised.
      trivial: name of the predictor that ignores its input; see `trivial_outputs`.
    """

    needs: ClassVar[type[Field] | None]
    causal: ClassVar[bool]
    several: ClassVar[bool]
    per_frame: ClassVar[bool]
    output_metric: ClassVar[Metric]
    example_metric: ClassVar[Mean]
    output_words: ClassVar[tuple[str, str]]
    trivial: ClassVar[str]

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    @property
    def requires_raw_values(self) -> bool: ...

    @property
    def outputs(self) -> int:
        """Width of the model's output."""

    def labels(self, values: Values) -> Any:
        """Returns the labels of N examples, a tree of arrays (N, ...), from the field's values.

        This runs once, on the host. A batch contains the labels of its examples.
        """

    def soft_labels(self, labels: Any, smoothing: jax.Array | float = 0.0) -> Any:
        """Returns labels that mixup can average, a tree of float arrays (B, ...)."""

    def class_weights(self, labels: Any) -> Any:
        """Returns class weights of the training loss, a tree of arrays; None: equal weights.

        Args:
          labels: labels of the training examples, a tree of arrays (N, ...).
        """

    def weighted(self, soft: Any, labels: Any, weights: Any) -> Any:
        """Returns the soft labels of a batch multiplied by class weights; mixup can average them.

        Args:
          soft: result of `soft_labels`.
          labels: labels of the batch.
          weights: result of `class_weights`.
        """

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: Any
    ) -> InputsAndTargets:
        """Returns inputs and targets from features (B, T, F), lengths (B,) and soft labels.

        Features are normalised if the config says so.
        """

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns each example's summed loss (B,) and its number of terms (B,).

        The loss of a batch, or of a split, is the total loss divided by the total number of terms.

        Args:
          outputs: outputs of the model: (B, outputs), or (B, T, outputs) if the task is per frame.
          targets: as `inputs_and_targets` returns them.
          lengths: number of valid frames (B,).
        """

    def score(self, outputs: jax.Array, targets: Any, lengths: jax.Array) -> dict[str, jax.Array]:
        """Returns the arrays (B, ...) that metrics need of each example."""

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Descriptions of the arrays that `score` returns, by name."""

    def table(self, predictions: Predictions) -> list[Row]:
        """Returns a row for each of `output_names`: name, number of examples, then fractions."""

    def of_output(self, predictions: Predictions, output: int) -> Predictions | None:
        """Returns the predictions to which `output_metric` applies for one of `output_names`.

        The result is None if the metric is undefined.
        """

    def confusion(self, predictions: Predictions) -> np.ndarray | None:
        """Returns counts by true and predicted class, if the task has classes."""

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str] | None:
        """Returns the true and the predicted label of an example; None without `output_names`."""

    def target_sums(self, targets: Any, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns sums of the targets of a batch, and the number of targets.

        The mean target of the training split is the argument of `trivial_outputs`.
        """

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the outputs of the predictor that ignores its input.

        Args:
          mean: mean of the training targets.
          lengths: number of valid frames (B,).
          steps: number of frames T; used only if the task is per frame.

        Returns:
          Outputs (B, outputs), or (B, T, outputs) if the task is per frame.
        """

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Returns the outputs (M, outputs) of a linear model; only for tasks with labels.

        Args:
          training: vectors (N, D), finite.
          labels: their labels (N, ...).
          test: vectors (M, D), finite.
        """


class SelfSupervised:
    """Base class of tasks whose targets are computed from the signal, without labels."""

    needs: ClassVar[type[Field] | None] = None
    output_names: ClassVar[tuple[str, ...]] = ()
    causal: ClassVar[bool] = False
    several: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (LOSS,)
    output_metric: ClassVar[Metric] = LOSS
    example_metric: ClassVar[Mean] = LOSS
    output_words: ClassVar[tuple[str, str]] = ("", "")
    trivial: ClassVar[str] = "mean of the training targets"

    @property
    def requires_raw_values(self) -> bool:
        """True, because the targets are computed from the values of the data set."""
        return True

    def labels(self, values: Values) -> tuple[()]:
        """Returns (), because there are no labels."""
        return ()

    def soft_labels(self, labels: Any, smoothing: jax.Array | float = 0.0) -> Any:
        """Returns the labels, which are ()."""
        return labels

    def class_weights(self, labels: Any) -> None:
        """Returns None, because there are no classes."""

    def weighted(self, soft: Any, labels: Any, weights: Any) -> Any:
        """See `Task.weighted`."""
        raise NotImplementedError

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `Task.loss`."""
        raise NotImplementedError

    def score(self, outputs: jax.Array, targets: Any, lengths: jax.Array) -> dict[str, jax.Array]:
        """Returns each example's mean loss (B,) and its number of terms (B,)."""
        loss, terms = self.loss(outputs, targets, lengths)
        return {"loss": loss / jnp.maximum(terms, 1), "weight": terms}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Description of what `score` returns."""
        return {"loss": Stored("f"), "weight": Stored("f")}

    def table(self, predictions: Predictions) -> list[Row]:
        """Returns an empty table."""
        return []

    def of_output(self, predictions: Predictions, output: int) -> None:
        """Returns None."""

    def confusion(self, predictions: Predictions) -> None:
        """Returns None."""

    def in_words(self, predictions: Predictions, row: int) -> None:
        """Returns None."""

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """See `Task.linear_outputs`."""
        raise NotImplementedError


CLASS_WEIGHTS = ("none", "balanced")


def balanced(counts: np.ndarray) -> np.ndarray:
    """Returns weights that are inversely proportional to class frequencies.

    Their mean over examples is one. For classes with examples they equal scikit-learn's "balanced"
    weights.

    Args:
      counts: number of examples of each class (..., C).

    Returns:
      float32 (..., C); 0 for a class without examples.
    """
    present = (counts > 0).sum(-1, keepdims=True)
    weights = counts.sum(-1, keepdims=True) / np.maximum(present * counts, 1)
    return np.where(counts > 0, weights, 0).astype(np.float32)


def over_frames(losses: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns losses (B, T) summed over valid frames (B,), and the number of valid frames (B,)."""
    valid = jnp.arange(losses.shape[1]) < lengths[:, None]
    return jnp.sum(losses, axis=1, where=valid), valid.sum(1, dtype=jnp.float32)


def log_odds(probability: jax.Array) -> jax.Array:
    """Returns the logits of probabilities, which are clipped to [1e-6, 1 - 1e-6]."""
    p = jnp.clip(probability, 1e-6, 1 - 1e-6)
    return jnp.log(p) - jnp.log1p(-p)
