"""The base class of tasks, and helpers that several tasks use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gru_audio.data.fields import Field, Values
from gru_audio.tasks.metrics import LOSS, Mean, Metric, Predictions

Row = dict[str, Any]  # of a table: column -> text, count or fraction; None where undefined


@dataclass(frozen=True)
class Stored:
    """The description of an array of stored predictions, for checks of files.

    Attributes:
      kinds: allowed letters of NumPy's `dtype.kind`.
      shape: shape of one example; None: any size, such as a number of frames.
      below: values must be in [0, below); None: any finite value is allowed.
    """

    kinds: str
    shape: tuple[int | None, ...] = ()
    below: int | None = None

    def fits(self, shape: tuple[int, ...], examples: int) -> bool:
        """Returns whether an array of this shape may hold the values of `examples` examples."""
        wanted = (examples, *self.shape)
        return len(shape) == len(wanted) and all(
            size is None or size == found for size, found in zip(wanted, shape, strict=True)
        )


class InputsAndTargets(NamedTuple):
    """Inputs and targets of a model.

    Attributes:
      inputs: (B, T, F).
      lengths: number of valid frames (B,).
      targets: a tree of arrays (B, ...), or (B, T, ...) if the task is per frame.
      reference: arrays (B, ...) that predictions contain beside the results of `Task.score`.
    """

    inputs: jax.Array
    lengths: jax.Array
    targets: Any
    reference: Mapping[str, jax.Array] | tuple[()] = ()


class FrameTimes(NamedTuple):
    """The times of a model's output frames.

    Attributes:
      first: centre of the first frame, in seconds from the beginning of the signal.
      step: seconds from one frame to the next.
    """

    first: float
    step: float

    def centres(self, count: int) -> jax.Array:
        """Returns the centres of `count` frames in seconds, float32 (count,)."""
        return self.first + self.step * jnp.arange(count, dtype=jnp.float32)


class Task:
    """Base class of tasks. Methods without a default implementation are abstract.

    Attributes:
      needs: type of the target field; None for a self-supervised task.
      optional: whether the task can also do without that field.
      of_samples: whether it predicts codes of samples, by a frontend and a model for them.
      causal: whether outputs must not depend on later frames.
      output_names: names of the classes, tags or tokens; () if the outputs have no names.
      several: whether an example may have several of `output_names` at once.
      per_frame: whether the model has an output for every frame, not one for the whole example.
      aligned: whether a task per frame has a target for every frame of the frontend. If not, the
        model may have fewer output frames, and its loss is that of whole examples.
      whole: whether whole examples are evaluated, even if `config.data.crop_seconds` crops those of
        training.
      predicts: what `predict` prints, a key of its `PREDICTORS`; "": nothing.
      mixable: whether mixup can average the soft labels of two examples.
      croppable: whether a part of an example has known labels.
      bottleneck: whether the model must pass all that it knows of an example through one vector.
      output_metric: metric of one of `output_names`; see `of_output`.
      example_metric: metric of a single example.
      output_words: singular and plural of what `output_names` are: ("class", "classes").
      trivial: name of the predictor that ignores its input; see `trivial_outputs`.
      width: required number of values per frame; None: any.
    """

    needs: ClassVar[type[Field] | None] = None
    optional: ClassVar[bool] = False
    of_samples: ClassVar[bool] = False
    causal: ClassVar[bool] = False
    output_names: tuple[str, ...] = ()
    several: ClassVar[bool] = False
    per_frame: ClassVar[bool] = False
    aligned: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    predicts: ClassVar[str] = ""
    mixable: ClassVar[bool] = True
    croppable: ClassVar[bool] = True
    bottleneck: ClassVar[bool] = False
    output_metric: ClassVar[Metric] = LOSS
    example_metric: ClassVar[Mean] = LOSS
    output_words: ClassVar[tuple[str, str]] = ("", "")
    trivial: ClassVar[str] = "mean of the training targets"
    width: ClassVar[int | None] = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of predictions, including the loss. Variants are compared by the first one.

        A config may select the best weights by any of them.
        """
        return (LOSS,)

    @property
    def requires_raw_values(self) -> bool:
        """Whether features must not be normalised."""
        return False

    @property
    def outputs(self) -> int:
        """Width of the model's output."""
        return len(self.output_names)

    @property
    def names_of_outputs(self) -> tuple[str, ...]:
        """The names of all outputs of the model, with those that are not in `output_names`."""
        return self.output_names

    @property
    def activation(self) -> str | None:
        """What makes probabilities of the outputs: "sigmoid" or "softmax"; None without names."""
        if not self.output_names:
            return None
        return "sigmoid" if self.several else "softmax"

    def input_width(self, features: int) -> int:
        """Returns the width of the model's inputs for features of a given width."""
        return features

    @classmethod
    def field_for(cls, field: Any, config: ConfigDict) -> Any:
        """Returns the target field with what this task adds to it, such as the tokens of texts.

        A trained model stores the result.

        Args:
          field: a field of the type `needs`.
          config: the `task` section of a config.
        """
        return field

    def timed(self, times: FrameTimes) -> Self:
        """Returns the task for a model whose output frames have these times."""
        return self

    def labels(self, values: Values) -> Any:
        """Returns the labels of N examples, a tree of arrays (N, ...), from the field's values.

        This runs once, on the host. A batch contains the labels of its examples.
        """
        return values

    def remarks(
        self,
        values: Values,
        labels: Any,
        frames: np.ndarray,
        clips: np.ndarray,
        ids: Mapping[str, np.ndarray],
    ) -> list[str]:
        """Returns notes for the user on the examples of a run, before it trains.

        Args:
          values: the field's values of all N examples.
          labels: their labels, as `labels` returns them.
          frames: their numbers of output frames (N,).
          clips: their names (N,).
          ids: example ids of the run by role.

        Raises:
          UserError: too few of the training examples can be trained on.
        """
        return []

    def soft_labels(self, labels: Any, smoothing: jax.Array | float = 0.0) -> Any:
        """Returns labels that mixup can average, a tree of float arrays (B, ...)."""
        return labels

    def class_weights(self, labels: Any, frames: np.ndarray) -> Any:
        """Returns class weights of the training loss, a tree of arrays; None: equal weights.

        Args:
          labels: labels of the training examples, a tree of arrays (N, ...).
          frames: their numbers of output frames (N,).
        """
        return None

    def weighted(self, soft: Any, labels: Any, weights: Any) -> Any:
        """Returns the soft labels of a batch multiplied by class weights; mixup can average them.

        Args:
          soft: result of `soft_labels`.
          labels: labels of the batch.
          weights: result of `class_weights`.
        """
        raise NotImplementedError

    def moved(self, labels: Any, speed: jax.Array, shift: jax.Array) -> Any:
        """Returns soft labels after a change of time.

        Args:
          labels: soft labels (B, ...).
          speed: factors (B,) by which the signals became faster.
          shift: seconds (B,) by which the signals then moved to later times.
        """
        return labels

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: Any
    ) -> InputsAndTargets:
        """Returns inputs and targets from features (B, T, F), lengths (B,) and soft labels.

        Features are normalised if the config says so. By default they are the inputs, and the
        labels are the targets.
        """
        return InputsAndTargets(features, lengths, labels)

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns each example's summed loss (B,) and its number of terms (B,).

        The loss of a batch, or of a split, is the total loss divided by the total number of terms.

        Args:
          outputs: outputs of the model: (B, outputs), or (B, T, outputs) if the task is per frame.
          targets: as `inputs_and_targets` returns them.
          lengths: number of valid output frames (B,).
        """
        raise NotImplementedError

    def score(self, outputs: jax.Array, targets: Any, lengths: jax.Array) -> dict[str, jax.Array]:
        """Returns the arrays (B, ...) that metrics need of each example.

        By default these are its mean loss and its number of terms. Arrays per frame (B, T, ...) are
        padded with zeros to the longest example of a split.
        """
        loss, terms = self.loss(outputs, targets, lengths)
        return {"loss": loss / jnp.maximum(terms, 1), "weight": terms}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Descriptions of the arrays that `score` and `decoding` return, by name."""
        return {"loss": Stored("f"), "weight": Stored("f")}

    def decoding(self, validation: Predictions | None) -> dict[str, np.ndarray]:
        """Returns parameters of decoding, which predictions then contain for each example.

        Args:
          validation: predictions of the validation split, on which the parameters are chosen; None:
            the defaults.
        """
        return {}

    def table(self, predictions: Predictions) -> list[Row]:
        """Returns a row for each of `output_names`: name, number of examples, then fractions."""
        return []

    def of_output(self, predictions: Predictions, output: int) -> Predictions | None:
        """Returns the predictions to which `output_metric` applies for one of `output_names`.

        The result is None if the metric is undefined.
        """
        return None

    def confusion(self, predictions: Predictions) -> np.ndarray | None:
        """Returns counts by true and predicted class, if the task has classes."""
        return None

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str] | None:
        """Returns the true and the predicted label of an example; None without `output_names`."""
        return None

    def target_sums(self, targets: Any, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns sums of the targets of a batch, and the number of targets.

        The mean target of the training split is the argument of `trivial_outputs`.
        """
        raise NotImplementedError

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the outputs of the predictor that ignores its input.

        Args:
          mean: mean of the training targets.
          lengths: number of valid frames (B,).
          steps: number of frames T; used only if the task is per frame.

        Returns:
          Outputs (B, outputs), or (B, T, outputs) if the task is per frame.
        """
        raise NotImplementedError

    def linear_outputs(
        self, training: np.ndarray, labels: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        """Returns the outputs (M, outputs) of a linear model; only for labels of whole clips.

        Args:
          training: vectors (N, D), finite.
          labels: their labels (N, ...).
          test: vectors (M, D), finite.
        """
        raise NotImplementedError


class SelfSupervised(Task):
    """Base class of tasks whose targets are computed from the signal, without labels."""

    @property
    def requires_raw_values(self) -> bool:
        """True, because the targets are computed from the values of the data set."""
        return True

    def labels(self, values: Values) -> tuple[()]:
        """Returns (), because there are no labels."""
        return ()


def decoded(scores: Predictions, parameters: Predictions) -> dict[str, np.ndarray]:
    """Returns scores (N, ...) and the parameters of `Task.decoding`, repeated for each example."""
    count = len(next(iter(scores.values())))
    repeated = {name: np.repeat(value[None], count, 0) for name, value in parameters.items()}
    return {**scores, **repeated}


def joined(parts: Sequence[Predictions]) -> dict[str, np.ndarray]:
    """Concatenates scores (N, ...) of some examples each.

    Arrays whose other axes differ, such as numbers of frames, are padded with zeros.
    """
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    sizes = np.max([array.shape[1:] for array in arrays], axis=0, initial=0)
    whole = np.zeros((sum(map(len, arrays)), *map(int, sizes)), arrays[0].dtype)
    start = 0
    for array in arrays:
        rows = slice(start, start := start + len(array))
        whole[rows, *(slice(size) for size in array.shape[1:])] = array
    return whole


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
