"""Metrics: the quality of predictions, and the contribution of each example to it.

Predictions are the result of `Task.score`: a mapping from names to arrays with a row per example.

The contribution of example i is V + N dV/dw_i, where V is the value, N the number of examples, and
w_i = 1 the weight of the example. This is the empirical influence function (Hampel 1974), or
infinitesimal jackknife (Jaeckel 1972). The mean of the contributions is V, and the variance of
their mean estimates the variance of V. So `reports/statistics.py` can treat any metric as a mean.

A metric that is a weighted mean of one number per example is a subclass of `Mean`. Other metrics
are subclasses of `Metric`, which differentiates `value` numerically by default. Metrics of tags
are in `ranking.py`.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.settings import UserError, nearest
from gru_audio.tasks.scale import PERCENT, PLAIN, Scale

Predictions = Mapping[str, np.ndarray]
Weights = np.ndarray | None  # weights of the examples (N,), at least 0; None: all 1

_STEP = 1e-4  # change of a weight, for numerical derivatives
_GROUPS = 1000  # groups of examples whose weights are varied together


class Metric(abc.ABC):
    """A measure of the quality of predictions. Subclasses set the attributes.

    Attributes:
      name: name in configs, flags and files, such as "macro_f1".
      title: name in sentences, such as "macro-F1"; by default `name` with spaces.
      higher_is_better: whether larger values are better.
      bounds: smallest and largest possible value.
      margin: default of the smallest relevant difference.
      margin_is_relative: whether `margin` is a fraction of the better score.
      scale: how values are printed.
      costly: whether evaluations in training leave it out, unless it selects the best weights.
    """

    name: str
    title: str
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    margin: float = 0.01
    margin_is_relative: bool = False
    scale: Scale = PERCENT
    costly: bool = False

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.name.replace("_", " ")

    @property
    def perfect(self) -> float:
        """The best possible value."""
        return self.bounds[1] if self.higher_is_better else self.bounds[0]

    def margin_at(self, score: float) -> float:
        """Returns the smallest relevant difference if the better variant has this score."""
        return self.margin * abs(score) if self.margin_is_relative else self.margin

    @abc.abstractmethod
    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the metric of predictions, in float64; NaN where it is undefined."""

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """Returns the contribution of each example, float64 (N,). Their mean is the value.

        This implementation uses central differences of the weights, accurate to about 6 digits.
        More than 1,000 examples are divided into groups within clusters. The weights of a group
        change together, and its examples get the same contribution.
        """
        count = len(next(iter(predictions.values())))
        group = _groups(predictions.get("cluster", np.zeros(count, np.int64)))
        derivative = np.empty(group.max() + 1)
        for i in range(derivative.size):
            members = group == i
            up, down = (self.value(predictions, 1.0 + step * members) for step in (_STEP, -_STEP))
            derivative[i] = (up - down) / (2 * _STEP * members.sum())
        return around(self.value(predictions), derivative[group])


class Mean(Metric):
    """A weighted mean of one number per example, such as the loss or errors per word."""

    @abc.abstractmethod
    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """Returns a number per example (N,) and its weight, such as the number of words (N,)."""

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the weighted mean; NaN if all weights are zero."""
        values, own = self.terms(predictions)
        if own is None and weights is None:
            return float(values.mean(dtype=np.float64))
        weight = np.ones(values.size) if own is None else own.astype(np.float64)
        if weights is not None:
            weight = weight * weights
        whole = float(weight.sum())
        return float((values * weight).sum()) / whole if whole else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """Returns the numbers themselves if all weights are equal, else by the delta method."""
        values, own = self.terms(predictions)
        values = values.astype(np.float64)
        if own is None or (own == own[0]).all():
            return values
        return linearized(values * own.astype(np.float64), own.astype(np.float64))


class Accuracy(Mean):
    """The fraction of examples whose most probable class is the true class."""

    name = "accuracy"

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """Returns True for correct predictions."""
        return chosen(predictions) == predictions["label"], None


class Recall(Accuracy):
    """The accuracy on the examples of one class."""

    name = "recall"


class Loss(Mean):
    """The mean loss, weighted by each example's number of terms if predictions contain it."""

    name = "loss"
    higher_is_better = False
    bounds = (0.0, math.inf)
    margin_is_relative = True
    scale = PLAIN

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """Returns each example's mean loss (N,) and its number of terms (N,)."""
        weight = predictions.get("weight")
        return predictions["loss"], None if weight is None else weight.astype(np.float64)


class TrueProbability(Mean):
    """The mean predicted probability of the true class."""

    name = "probability"
    title = "probability of the true class"

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """Returns the probability of each example's label (N,)."""
        label = predictions["label"]
        return predictions["probabilities"][np.arange(label.size), label], None


class OverClasses(Metric):
    """A mean over classes; classes without an example are left out.

    The score of a class is a function of three sums of weights: `hits`, the examples of the class
    that are predicted correctly; `actual`, all examples of the class; and `predicted`, all examples
    for which the class is predicted.
    """

    @abc.abstractmethod
    def of_class(self, hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Returns the scores, and their derivatives by the three sums (C,), as an array (4, C)."""

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the mean over classes; NaN if no class has an example."""
        scores, _, present = self._of_classes(predictions, weights)
        return float(scores[present].mean()) if present.any() else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """Returns the contributions by the chain rule through the three sums."""
        scores, (by_hits, by_actual, by_predicted), present = self._of_classes(predictions, None)
        label, prediction = predictions["label"], chosen(predictions)
        derivative = np.where(prediction == label, by_hits[label], 0.0)
        derivative += by_actual[label] + by_predicted[prediction]
        return around(float(scores[present].mean()), derivative / present.sum())

    def _of_classes(
        self, predictions: Predictions, weights: Weights
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns scores (C,), their derivatives (3, C), and which classes have examples (C,)."""
        label, prediction = predictions["label"], chosen(predictions)
        weight = np.ones(label.size) if weights is None else weights
        count = predictions["probabilities"].shape[-1]
        hits, actual, predicted = (
            np.bincount(label, weight * (prediction == label), count),
            np.bincount(label, weight, count),
            np.bincount(prediction, weight, count),
        )
        present = actual > 0
        sums = (np.where(present, each, 1.0) for each in (hits, actual, predicted))
        scores, *derivatives = self.of_class(*sums)
        return scores, np.where(present, derivatives, 0.0), present


class MacroF1(OverClasses):
    """The mean over classes of F1, the harmonic mean of precision and recall."""

    name = "macro_f1"
    title = "macro-F1"

    def of_class(self, hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Returns `2 hits / (actual + predicted)` and its derivatives."""
        total = actual + predicted
        scores = 2 * hits / total
        return np.stack([scores, 2 / total, -scores / total, -scores / total])


class UnweightedAverageRecall(OverClasses):
    """The mean over classes of recall, also called balanced accuracy."""

    name = "uar"
    title = "unweighted average recall"

    def of_class(self, hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Returns `hits / actual` and its derivatives."""
        scores = hits / actual
        return np.stack([scores, 1 / actual, -scores / actual, np.zeros_like(predicted)])


ACCURACY, LOSS = Accuracy(), Loss()
MACRO_F1, UAR = MacroF1(), UnweightedAverageRecall()


METRICS: dict[str, Metric] = {}  # metrics of experiment files, in addition to those of tasks


def metrics_of(task: Any) -> tuple[Metric, ...]:
    """Returns the metrics of a task, the primary one first, and of the experiment file."""
    return (*task.metrics, *METRICS.values())


def measure(metrics: Sequence[Metric], predictions: Predictions) -> dict[str, float]:
    """Returns the value of each metric by name."""
    return {metric.name: metric.value(predictions) for metric in metrics}


def named(metrics: Sequence[Metric], name: str | None, where: str) -> Metric:
    """Returns the metric `name`, or the first one if the name is None.

    Raises:
      UserError: no metric has this name. The message begins with `where`, such as "--metric".
    """
    known = {metric.name: metric for metric in metrics}
    if name is None:
        return metrics[0]
    if name not in known:
        raise UserError(f'{where}="{name}" is unknown.{nearest(name, known)}')
    return known[name]


def selected(metrics: Sequence[Metric], select: str) -> Metric:
    """Returns the metric that `config.train.select` names, such as "validation/loss".

    Raises:
      UserError: there is no such metric.
    """
    valid = {f"validation/{metric.name}": metric for metric in metrics}
    if select not in valid:
        raise UserError(f'config.train.select="{select}" is unknown.{nearest(select, valid)}')
    return valid[select]


def chosen(predictions: Predictions) -> np.ndarray:
    """Returns the most probable class of each example, int (N,)."""
    return predictions["probabilities"].argmax(axis=-1)


def linearized(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns contributions (..., N) whose mean is a ratio of sums over N, by the delta method."""
    ratio = numerator.sum(-1, keepdims=True) / denominator.sum(-1, keepdims=True)
    return ratio + (numerator - ratio * denominator) / denominator.mean(-1, keepdims=True)


def around(value: float, derivative: np.ndarray) -> np.ndarray:
    """Returns contributions from derivatives by the weights, whose sum is zero but for rounding."""
    return value + derivative.size * (derivative - derivative.mean())


def _groups(cluster: np.ndarray) -> np.ndarray:
    """Returns the group of each example (N,): about `_GROUPS` groups, each in one cluster."""
    if cluster.size <= _GROUPS:
        return np.arange(cluster.size)
    order = np.argsort(cluster, kind="stable")
    new = np.diff(cluster[order], prepend=cluster[order[0]]) != 0
    new |= np.arange(cluster.size) % -(-cluster.size // _GROUPS) == 0
    group = np.empty(cluster.size, np.int64)
    group[order] = np.cumsum(new) - 1
    return group
