"""Metrics: numbers that say how good predictions are, and what each example contributes to them.

Predictions are what `Task.score` keeps: a mapping from names to arrays with one row per example.

The contribution of example i is V + N dV/dw_i, where V is the value, N the number of examples, and
w_i the weight of the example, which is 1. It is the empirical influence function (Hampel 1974), or
infinitesimal jackknife (Jaeckel 1972). The mean of the contributions is V. The variance of their
mean estimates the variance of V, so the test of differences takes any metric for a mean
(`reporting/statistics.py`).

A metric is a subclass of `Mean` where it is a weighted mean of one number per example, else of
`Metric`, which differentiates `value` numerically where there is no `contributions` of its own.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gru_audio.config import UserError, nearest
from gru_audio.tasks.scale import PERCENT, PLAIN, Scale

Predictions = Mapping[str, np.ndarray]
Weights = np.ndarray | None  # of the examples (N,), at least 0; None: 1 each

_STEP = 1e-4  # of a weight, for numerical derivatives
_GROUPS = 1000  # of examples, at most, whose weights are varied together
_SLOPE_WIDTH = 2.0  # standard errors of misses less false alarms; see `EqualErrorRate`


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
        return _around(self.value(predictions), derivative[group])


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
        return answers(predictions) == predictions["label"], None


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
        label, answer = predictions["label"], answers(predictions)
        derivative = np.where(answer == label, by_found[label], 0.0)
        derivative += by_there[label] + by_taken[answer]
        return _around(float(scores[present].mean()), derivative / present.sum())

    def _of_classes(
        self, predictions: Predictions, weights: Weights
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores (C,), their derivatives (3, C), and which classes count (C,)."""
        label, answer = predictions["label"], answers(predictions)
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


class OverTags(Metric):
    """A mean over tags of what ranks the examples with a tag before those without.

    Tags that all examples have, or none, are not defined and do not count.
    """

    @abc.abstractmethod
    def of_tag(self, ranked: "Ranked") -> float:
        """The score of one tag."""

    @abc.abstractmethod
    def contributions_of_tag(self, ranked: "Ranked") -> np.ndarray:
        """What each example contributes to it (N,), where all weights are 1."""

    def of_tags(self, predictions: Predictions, weights: Weights = None) -> list[float]:
        """The score of each tag; NaN where it is not defined."""
        return [
            self.of_tag(ranked) if ranked.is_defined else math.nan
            for ranked in _ranked_by_tag(predictions, weights)
        ]

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """The mean over tags; NaN without any that is defined."""
        scores = [score for score in self.of_tags(predictions, weights) if not math.isnan(score)]
        return float(np.mean(scores)) if scores else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """The mean over tags."""
        rows = [
            self.contributions_of_tag(ranked)
            for ranked in _ranked_by_tag(predictions, None)
            if ranked.is_defined
        ]
        return np.mean(rows, axis=0) if rows else np.full(len(predictions["tags"]), math.nan)


class Ranked(NamedTuple):
    """The examples from the highest score to the lowest; equal scores share a threshold.

    Attributes:
      true: whether an example has the tag, bool (N,).
      threshold: from which threshold on an example is taken, int (N,); 0 is the strictest.
      hits: weight of the examples with the tag that are taken at each threshold (T,).
      alarms: weight of those without it (T,).
    """

    true: np.ndarray
    threshold: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, true: np.ndarray, weights: Weights = None) -> "Ranked":
        """Ranks examples (N,) by their scores (N,)."""
        order = np.argsort(-scores, kind="stable")
        last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of equal scores
        threshold = np.empty(scores.size, np.int64)
        threshold[order] = np.searchsorted(last, np.arange(scores.size))
        weight = np.ones(scores.size) if weights is None else weights
        hits, alarms = (np.cumsum((weight * kind)[order])[last] for kind in (true, ~true))
        return cls(true, threshold, hits, alarms)

    @property
    def is_defined(self) -> bool:
        """Whether there are examples of both kinds."""
        return bool(self.hits[-1] > 0 and self.alarms[-1] > 0)


class AveragePrecision(OverTags):
    """Precision averaged over recall, without interpolation; the mean over tags is mAP."""

    name = "map"
    title = "mAP"

    def of_tag(self, ranked: Ranked) -> float:
        """The sum over thresholds of the recall gained times the precision."""
        gained = np.diff(ranked.hits, prepend=0.0)
        return float(np.sum(gained * _precision(ranked)) / ranked.hits[-1])

    def contributions_of_tag(self, ranked: Ranked) -> np.ndarray:
        """By the derivatives of hits and alarms at an example's threshold and all after it."""
        value, precision = self.of_tag(ranked), _precision(ranked)
        gained = np.diff(ranked.hits, prepend=0.0)
        gained /= ranked.hits + ranked.alarms
        later_hits, later_taken = (
            np.cumsum(each[::-1])[::-1][ranked.threshold] for each in (gained, gained * precision)
        )
        derivative = np.where(ranked.true, precision[ranked.threshold] + later_hits - value, 0.0)
        return _around(value, (derivative - later_taken) / ranked.hits[-1])


class EqualErrorRate(OverTags):
    """Where misses and false alarms are equally likely, on the lines between thresholds.

    To first order the rate is a mean of the misses and the false alarms at its threshold, weighted
    by the slope of the ROC curve there: where few examples with the tag lie near the threshold,
    moving it costs few misses, so misses count much. The slope is that of the chord over 2 standard
    errors of their difference to both sides, since between two thresholds the curve is flat or
    vertical.
    """

    name = "eer"
    title = "EER"
    higher_is_better = False

    def of_tag(self, ranked: Ranked) -> float:
        """The misses where the ROC curve crosses the diagonal."""
        value, *_ = self._crossing(ranked)
        return value

    def contributions_of_tag(self, ranked: Ranked) -> np.ndarray:
        """Each example's miss or false alarm at the threshold, weighted by the slope."""
        value, after, way, gap, alarm = self._crossing(ranked)
        with_tag, without = ranked.hits[-1], ranked.alarms[-1]
        count = with_tag + without
        variance = (value * (1 - value) + 1 / count) * (1 / with_tag + 1 / without)
        width = min(_SLOPE_WIDTH * math.sqrt(variance), 1.0)
        ends = np.interp([-width, width], gap[::-1], alarm[::-1])
        of_misses = float(ends[0] - ends[1]) / (2 * width)  # the other share is of false alarms
        # The examples at the threshold are taken in part, so that both rates are the value.
        taken = np.where(ranked.threshold < after - 1, 1.0, 0.0)
        taken[ranked.threshold == after - 1] = way
        misses = of_misses * ranked.true * (1 - taken - value) * count / with_tag
        alarms = (1 - of_misses) * ~ranked.true * (taken - value) * count / without
        return value + misses + alarms

    @staticmethod
    def _crossing(ranked: Ranked) -> tuple[float, int, float, np.ndarray, np.ndarray]:
        """The rate, where it is on the curve, and the curve.

        Returns:
          The rate; the first point of the curve with as many false alarms as misses; how far from
          the point before it to it the curve crosses; misses less false alarms, and false alarms,
          from the point where nothing is taken to the point where all is taken (T + 1,).
        """
        miss = np.concatenate([[1.0], 1 - ranked.hits / ranked.hits[-1]])
        alarm = np.concatenate([[0.0], ranked.alarms / ranked.alarms[-1]])
        after = int(np.argmax(alarm >= miss))
        gap = miss - alarm
        way = float(gap[after - 1] / (gap[after - 1] - gap[after]))
        value = float(miss[after - 1] + way * (miss[after] - miss[after - 1]))
        return value, after, way, gap, alarm


ACCURACY, LOSS = Accuracy(), Loss()
MACRO_F1, UAR = MacroF1(), UnweightedAverageRecall()
MAP, EER = AveragePrecision(), EqualErrorRate()


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


def answers(predictions: Predictions) -> np.ndarray:
    """The most probable class of each example, int (N,)."""
    return predictions["probabilities"].argmax(axis=-1)


def take(predictions: Predictions, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The predictions of some examples, by their rows or a mask."""
    return {name: array[rows] for name, array in predictions.items()}


def linearized(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Contributions (..., N) whose mean is a ratio of sums over N, by the delta method."""
    ratio = numerator.sum(-1, keepdims=True) / denominator.sum(-1, keepdims=True)
    return ratio + (numerator - ratio * denominator) / denominator.mean(-1, keepdims=True)


def _around(value: float, derivative: np.ndarray) -> np.ndarray:
    """Contributions from derivatives by the weights; rounding aside their sum is zero."""
    return value + derivative.size * (derivative - derivative.mean())


def _precision(ranked: Ranked) -> np.ndarray:
    taken = ranked.hits + ranked.alarms
    return np.divide(ranked.hits, taken, out=np.zeros_like(taken), where=taken > 0)


def _ranked_by_tag(predictions: Predictions, weights: Weights) -> list[Ranked]:
    columns = zip(predictions["probabilities"].T, predictions["tags"].T, strict=True)
    return [Ranked.of(scores, true > 0, weights) for scores, true in columns]


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
