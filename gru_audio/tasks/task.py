"""What every task offers: it turns features into a problem, and outputs into losses and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.fields import Field, Values
from gru_audio.tasks.metrics import LOSS, Mean, Metric, Predictions

Row = dict[str, Any]  # of a table: column -> text, count, share, or None where undefined


@dataclass(frozen=True)
class Stored:
    """An array that a task keeps of predictions, as it must be in a file.

    Attributes:
      kinds: letters of NumPy's `dtype.kind`.
      shape: of one example.
      below: what its values, from 0, must be below; None for any finite value.
    """

    kinds: str
    shape: tuple[int, ...] = ()
    below: int | None = None


class InputsAndTargets(NamedTuple):
    """What a model is given, and what is asked of it.

    Attributes:
      inputs: (B, T, F).
      frames: valid ones (B,).
      targets: as the task's loss takes them; of a task per frame each leaf begins (B, T, ...).
    """

    inputs: jax.Array
    lengths: jax.Array
    targets: Any


class Task(Protocol):
    """A task of some number of outputs.

    Attributes:
      needs: the type of field that it learns from; None where the signal tells all.
      answers: what the probabilities of an example are of; () where it has none.
      causal: whether no output may depend on later frames, as where the next frame is predicted.
      several: whether an example may have several of the answers at once.
      per_frame: whether there is an output for every frame, or one for the whole example.
      metrics: what is measured of predictions, the loss among it. The first is primary: variants
        are compared by it. A config may select on any.
      answer_metric: how well one of `answers` is found; see `of_answer`.
      example_metric: how well a single example is answered.
      answer_words: what one of `answers` is, and several are: ("class", "classes").
      as_stored: whether the features must be the values of the data set, not normalised ones.
      trivial: the name of the predictor that ignores its input; see `trivial_outputs`.
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
        """The task's labels of N examples, a tree of arrays (N, ...), from the values of its field.

        This runs once, on the host. Batches carry the labels of their examples.
        """

    def soft_labels(self, labels: Any, smoothing: jax.Array | float = 0.0) -> Any:
        """What mixup may mix of the labels of a batch: a tree of arrays (B, ...)."""

    def class_weights(self, labels: Any) -> Any:
        """Weights of classes in the loss of training, a tree of arrays; None if all count alike.

        Args:
          labels: of a run's training examples, a tree of arrays (N, ...).
        """

    def weighted(self, soft: Any, labels: Any, weights: Any) -> Any:
        """The soft labels of a batch times the weights of its examples, which mixup may mix.

        Args:
          soft: what `soft_labels` made of the labels.
          labels: of the batch.
          weights: from `class_weights`.
        """

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: Any
    ) -> InputsAndTargets:
        """The problem that normalised features (B, T, F), frames (B,) and soft labels pose."""

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Of each example the sum of what is lost (B,), and how many terms the sum has (B,).

        The loss of a batch, or of a split, is the one summed over the other.

        Args:
          outputs: of the model, (B, outputs), or (B, T, outputs) of a task per frame.
          targets: of the problem.
          frames: valid ones (B,).
        """

    def score(self, outputs: jax.Array, targets: Any, lengths: jax.Array) -> dict[str, jax.Array]:
        """What an evaluation keeps of every example (B, ...): all that the metrics need."""

    @property
    def stored(self) -> Mapping[str, Stored]:
        """What `score` keeps, by name."""

    def table(self, predictions: Predictions) -> list[Row]:
        """A row for each of `answers`: its name, its number of examples, then shares."""

    def of_output(self, predictions: Predictions, answer: int) -> Predictions | None:
        """What of predictions tells how well one of `answers` is found; None if nothing does.

        `answer_metric` measures it.
        """

    def confusion(self, predictions: Predictions) -> np.ndarray | None:
        """Counts by true and given answer, if each example has one of each."""

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str] | None:
        """What is true of an example, and what the model answered; None without answers."""

    def target_sums(self, targets: Any, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sums of targets over the examples of a batch, and the number of targets summed.

        Over the training examples they give the mean target, which is all that a predictor needs
        that ignores its input.
        """

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Outputs, as of a model, of the predictor that ignores its input.

        Args:
          mean: of the training targets.
          frames: valid ones (B,).
          steps: T, of a task per frame.

        Returns:
          (B, outputs), or (B, T, outputs) of a task per frame.
        """

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Outputs (M, outputs) of a linear model; only tasks with answers have one.

        Args:
          training: vectors (N, D), finite.
          labels: of them (N, ...).
          test: vectors (M, D), finite.
        """


class SelfSupervised:
    """What tasks have in common that ask for something the signal itself tells: no labels."""

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
        """True: what the signal tells is read off its values."""
        return True

    def labels(self, values: Values) -> tuple[()]:
        """None: the signal tells all."""
        return ()

    def soft_labels(self, labels: Any, smoothing: jax.Array | float = 0.0) -> Any:
        """None, as there are no labels."""
        return labels

    def class_weights(self, labels: Any) -> None:
        """None: there are no classes."""

    def weighted(self, soft: Any, labels: Any, weights: Any) -> Any:
        """As `Task.weighted`."""
        raise NotImplementedError

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """As `Task.loss`."""
        raise NotImplementedError

    def score(self, outputs: jax.Array, targets: Any, lengths: jax.Array) -> dict[str, jax.Array]:
        """The mean of an example's terms, and how many it has."""
        loss, terms = self.loss(outputs, targets, lengths)
        return {"loss": loss / jnp.maximum(terms, 1), "weight": terms}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """As `score` keeps them."""
        return {"loss": Stored("f"), "weight": Stored("f")}

    def table(self, predictions: Predictions) -> list[Row]:
        """Empty."""
        return []

    def of_output(self, predictions: Predictions, answer: int) -> None:
        """None."""

    def confusion(self, predictions: Predictions) -> None:
        """None."""

    def in_words(self, predictions: Predictions, row: int) -> None:
        """None."""

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """As `Task.linear_outputs`."""
        raise NotImplementedError


CLASS_WEIGHTS = ("none", "balanced")


def balanced(counts: np.ndarray) -> np.ndarray:
    """Weights inversely proportional to the frequencies of classes, with mean one over examples.

    Where classes are present, these are scikit-learn's "balanced" weights.

    Args:
      counts: examples of each class (..., C).

    Returns:
      float32 (..., C); 0 for a class without examples.
    """
    present = (counts > 0).sum(-1, keepdims=True)
    weights = counts.sum(-1, keepdims=True) / np.maximum(present * counts, 1)
    return np.where(counts > 0, weights, 0).astype(np.float32)


def over_frames(losses: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Losses (B, T) summed over valid frames (B,), and how many those are (B,)."""
    counted = jnp.arange(losses.shape[1]) < lengths[:, None]
    return jnp.sum(losses, axis=1, where=counted), counted.sum(1, dtype=jnp.float32)


def log_odds(probability: jax.Array) -> jax.Array:
    """Logits of probabilities; of 0 and 1 those of almost 0 and almost 1."""
    almost = 1e-6
    p = jnp.clip(probability, almost, 1 - almost)
    return jnp.log(p) - jnp.log1p(-p)
