"""Metrics: numbers that say how good predictions are, and what each example contributes to them.

Predictions are what `Task.score` keeps: a mapping from names to arrays with one row per example.

The contribution of example i is V + N dV/dw_i, where V is the value, N the number of examples, and
w_i the weight of the example, which is 1. It is the empirical influence function (Hampel 1974), or
infinitesimal jackknife (Jaeckel 1972). The mean of the contributions is V. The variance of their
mean estimates the variance of V, so the test of differences takes any metric for a mean
(`reports/statistics.py`).

A metric is a subclass of `Mean` where it is a weighted mean of one number per example, else of
`Metric`, which differentiates `value` numerically where there is no `contributions` of its own.
Metrics of tags are in `ranking.py`.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.settings import UserError, nearest
from gru_audio.tasks.scale import PERCENT, PLAIN, Scale

Predictions = Mapping[str, np.ndarray]
Weights = np.ndarray | None  # of the examples (N,), at least 0; None: 1 each

_STEP = 1e-4  # of a weight, for numerical derivatives
_GROUPS = 1000  # of examples, at most, whose weights are varied together


class Metric(abc.ABC):
    """A number that says how good predictions are; a subclass sets the attributes.

    Attributes:
      name: in configs, flags and files, such as "macro_f1".
      title: in sentences, such as "macro-F1"; by default the name.
      higher_is_better: its direction.
      bounds: the smallest and the largest value.
      margin: the smallest difference that matters by default.
      margin_is_relative: whether `margin` is a share of the better score.
      scale: how values are written.
    """

    name: str
    title: str
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    margin: float = 0.01
    margin_is_relative: bool = False
    scale: Scale = PERCENT

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.name.replace("_", " ")

    @property
    def perfect(self) -> float:
        """The best value there can be."""
        return self.bounds[1] if self.higher_is_better else self.bounds[0]

    def margin_at(self, score: float) -> float:
        """The smallest difference that matters, where the better variant has this score."""
        return self.margin * abs(score) if self.margin_is_relative else self.margin

    @abc.abstractmethod
    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """The metric of predictions, in float64; NaN where it is not defined."""

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """What each example contributes, float64 (N,); the mean is the value.

        Here by central differences of the weights, to about 6 digits. Of more than 1,000 examples
        those of a group, all of one cluster, are varied together and share what they contribute.
        """
        count = len(next(iter(predictions.values())))
        group = _groups(predictions.get("cluster", np.zeros(count, np.int64)))
        derivative = np.empty(group.max() + 1)
        for each in range(derivative.size):
            chosen = group == each
            up, down = (self.value(predictions, 1.0 + step * chosen) for step in (_STEP, -_STEP))
            derivative[each] = (up - down) / (2 * _STEP * chosen.sum())
        return around(self.value(predictions), derivative[group])


class Mean(Metric):
    """A weighted mean of one number per example, such as a loss, or errors per word."""

    @abc.abstractmethod
    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """The number (N,) of each example, and its weight, such as its number of words."""

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """The weighted mean."""
        values, own = self.terms(predictions)
        if own is None and weights is None:
            return float(values.mean(dtype=np.float64))
        weight = np.ones(values.size) if own is None else own.astype(np.float64)
        if weights is not None:
            weight = weight * weights
        whole = float(weight.sum())
        return float((values * weight).sum()) / whole if whole else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """The numbers themselves, where all weights are equal."""
        values, own = self.terms(predictions)
        values = values.astype(np.float64)
        if own is None or (own == own[0]).all():
            return values
        return linearized(values * own.astype(np.float64), own.astype(np.float64))


class Accuracy(Mean):
    """The share of examples whose most probable class is theirs."""

    name = "accuracy"

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """1 for right, 0 for wrong."""
        return chosen(predictions) == predictions["label"], None


class Recall(Accuracy):
    """The accuracy on the examples of one class."""

    name = "recall"


class Loss(Mean):
    """The mean loss; each example counts by its number of terms, if that is stored."""

    name = "loss"
    higher_is_better = False
    bounds = (0.0, math.inf)
    margin_is_relative = True
    scale = PLAIN

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """The mean loss of the example's terms, and how many those are."""
        weight = predictions.get("weight")
        return predictions["loss"], None if weight is None else weight.astype(np.float64)


class TrueProbability(Mean):
    """The probability that the true class is given."""

    name = "probability"
    title = "probability of the true class"

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """The probability of the label."""
        label = predictions["label"]
        return predictions["probabilities"][np.arange(label.size), label], None


class OverClasses(Metric):
    """A mean over classes; those without an example do not count.

    The score of a class is a function of three sums over examples: those of the class that are
    found, those of the class, and those that are taken for it.
    """

    @abc.abstractmethod
    def of_class(self, found: np.ndarray, there: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Scores and their derivatives by the three sums, (4, classes), of sums (classes,)."""

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """The mean over classes."""
        scores, _, present = self._of_classes(predictions, weights)
        return float(scores[present].mean()) if present.any() else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """By the chain rule through the sums."""
        scores, (by_found, by_there, by_taken), present = self._of_classes(predictions, None)
        label, answer = predictions["label"], chosen(predictions)
        derivative = np.where(answer == label, by_found[label], 0.0)
        derivative += by_there[label] + by_taken[answer]
        return around(float(scores[present].mean()), derivative / present.sum())

    def _of_classes(
        self, predictions: Predictions, weights: Weights
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores (C,), their derivatives (3, C), and which classes count (C,)."""
        label, answer = predictions["label"], chosen(predictions)
        weight = np.ones(label.size) if weights is None else weights
        count = predictions["probabilities"].shape[-1]
        found, there, taken = (
            np.bincount(label, weight * (answer == label), count),
            np.bincount(label, weight, count),
            np.bincount(answer, weight, count),
        )
        present = there > 0
        sums = (np.where(present, each, 1.0) for each in (found, there, taken))
        scores, *derivatives = self.of_class(*sums)
        return scores, np.where(present, derivatives, 0.0), present


class MacroF1(OverClasses):
    """The mean over classes of F1, the harmonic mean of precision and recall."""

    name = "macro_f1"
    title = "macro-F1"

    def of_class(self, found: np.ndarray, there: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Twice those found over those of the class and those taken for it."""
        both = there + taken
        scores = 2 * found / both
        return np.stack([scores, 2 / both, -scores / both, -scores / both])


class UnweightedAverageRecall(OverClasses):
    """The mean over classes of recall, also called balanced accuracy."""

    name = "uar"
    title = "unweighted average recall"

    def of_class(self, found: np.ndarray, there: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Those found over those of the class."""
        scores = found / there
        return np.stack([scores, 1 / there, -scores / there, np.zeros_like(taken)])


ACCURACY, LOSS = Accuracy(), Loss()
MACRO_F1, UAR = MacroF1(), UnweightedAverageRecall()


METRICS: dict[str, Metric] = {}  # of experiment files, beside those of the tasks


def metrics_of(task: Any) -> tuple[Metric, ...]:
    """The metrics of a task, the primary one first, and those of the experiment file."""
    return (*task.metrics, *METRICS.values())


def measure(metrics: Sequence[Metric], predictions: Predictions) -> dict[str, float]:
    """Name -> value of each metric."""
    return {metric.name: metric.value(predictions) for metric in metrics}


def named(metrics: Sequence[Metric], name: str | None, where: str) -> Metric:
    """The metric of a name, or the first if the name is None.

    Raises:
      UserError: there is none; `where` says what named it, such as "--metric".
    """
    known = {metric.name: metric for metric in metrics}
    if name is None:
        return metrics[0]
    if name not in known:
        raise UserError(f'{where}="{name}" is unknown.{nearest(name, known)}')
    return known[name]


def selected(metrics: Sequence[Metric], select: str) -> Metric:
    """The metric that `config.train.select` names, such as "validation/loss".

    Raises:
      UserError: there is none.
    """
    valid = {f"validation/{metric.name}": metric for metric in metrics}
    if select not in valid:
        raise UserError(f'config.train.select="{select}" is unknown.{nearest(select, valid)}')
    return valid[select]


def chosen(predictions: Predictions) -> np.ndarray:
    """The most probable class of each example, int (N,)."""
    return predictions["probabilities"].argmax(axis=-1)


def take(predictions: Predictions, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The predictions of some examples, by their rows or a mask."""
    return {name: array[rows] for name, array in predictions.items()}


def linearized(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Contributions (..., N) whose mean is a ratio of sums over N, by the delta method."""
    ratio = numerator.sum(-1, keepdims=True) / denominator.sum(-1, keepdims=True)
    return ratio + (numerator - ratio * denominator) / denominator.mean(-1, keepdims=True)


def around(value: float, derivative: np.ndarray) -> np.ndarray:
    """Contributions from derivatives by the weights; rounding aside their sum is zero."""
    return value + derivative.size * (derivative - derivative.mean())


def _groups(cluster: np.ndarray) -> np.ndarray:
    """The group (N,) of each example: `_GROUPS` in all, or somewhat more, each of one cluster."""
    if cluster.size <= _GROUPS:
        return np.arange(cluster.size)
    order = np.argsort(cluster, kind="stable")
    new = np.diff(cluster[order], prepend=cluster[order[0]]) != 0
    new |= np.arange(cluster.size) % -(-cluster.size // _GROUPS) == 0
    group = np.empty(cluster.size, np.int64)
    group[order] = np.cumsum(new) - 1
    return group
