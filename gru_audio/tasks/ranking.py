"""Metrics of tags: how well scores separate examples with a tag from examples without it."""

import abc
import math
from typing import NamedTuple

import numpy as np

from gru_audio.tasks.metrics import Metric, Predictions, Weights, around

_SLOPE_WIDTH = 2.0  # standard errors of misses minus false alarms; see `EqualErrorRate`


class OverTags(Metric):
    """A mean over tags of a score of the ranking of the examples.

    Tags that all examples have, or that none has, are left out: their score is undefined.
    """

    @abc.abstractmethod
    def of_tag(self, ranked: "Ranked") -> float:
        """Returns the score of one tag."""

    @abc.abstractmethod
    def contributions_of_tag(self, ranked: "Ranked") -> np.ndarray:
        """Returns each example's contribution to the score (N,), if all weights are 1."""

    def of_tags(self, predictions: Predictions, weights: Weights = None) -> list[float]:
        """Returns the score of each tag; NaN where it is undefined."""
        return [
            self.of_tag(ranked) if ranked.is_defined else math.nan
            for ranked in _ranked_by_tag(predictions, weights)
        ]

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the mean over tags; NaN if no tag has a score."""
        scores = [score for score in self.of_tags(predictions, weights) if not math.isnan(score)]
        return float(np.mean(scores)) if scores else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """Returns the mean over tags of each example's contributions (N,)."""
        rows = [
            self.contributions_of_tag(ranked)
            for ranked in _ranked_by_tag(predictions, None)
            if ranked.is_defined
        ]
        return np.mean(rows, axis=0) if rows else np.full(len(predictions["tags"]), math.nan)


class Ranked(NamedTuple):
    """Examples ranked by score. Each distinct score is a threshold, and 0 is the strictest one.

    Attributes:
      true: whether an example has the tag, bool (N,).
      threshold: the strictest threshold at which an example is detected, int (N,).
      hits: weight of the detected examples with the tag at each threshold (T,).
      alarms: weight of the detected examples without the tag at each threshold (T,).
    """

    true: np.ndarray
    threshold: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, true: np.ndarray, weights: Weights = None) -> "Ranked":
        """Ranks examples by their scores (N,)."""
        order = np.argsort(-scores, kind="stable")
        last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # last of equal scores
        threshold = np.empty(scores.size, np.int64)
        threshold[order] = np.searchsorted(last, np.arange(scores.size))
        weight = np.ones(scores.size) if weights is None else weights
        hits, alarms = (np.cumsum((weight * kind)[order])[last] for kind in (true, ~true))
        return cls(true, threshold, hits, alarms)

    @property
    def is_defined(self) -> bool:
        """Whether there are examples with the tag and examples without it."""
        return bool(self.hits[-1] > 0 and self.alarms[-1] > 0)


class AveragePrecision(OverTags):
    """Average precision: precision averaged over recall, without interpolation."""

    name = "map"
    title = "mAP"

    def of_tag(self, ranked: Ranked) -> float:
        """Returns the sum over thresholds of precision times increase in recall."""
        gained = np.diff(ranked.hits, prepend=0.0)
        return float(np.sum(gained * _precision(ranked)) / ranked.hits[-1])

    def contributions_of_tag(self, ranked: Ranked) -> np.ndarray:
        """Returns contributions by the derivatives at an example's and all later thresholds."""
        value, precision = self.of_tag(ranked), _precision(ranked)
        gained = np.diff(ranked.hits, prepend=0.0)
        gained /= ranked.hits + ranked.alarms
        later_hits, later_detected = (
            np.cumsum(terms[::-1])[::-1][ranked.threshold] for terms in (gained, gained * precision)
        )
        derivative = np.where(ranked.true, precision[ranked.threshold] + later_hits - value, 0.0)
        return around(value, (derivative - later_detected) / ranked.hits[-1])


class EqualErrorRate(OverTags):
    """The rate at which misses and false alarms are equally frequent.

    It is interpolated linearly between thresholds. To first order it is a weighted mean of the
    misses and the false alarms at its threshold. The weights follow from the slope of the ROC curve
    there. Between two thresholds the curve is flat or vertical. So the slope is that of a chord,
    which extends 2 standard errors of the difference of the two rates to either side.
    """

    name = "eer"
    title = "EER"
    higher_is_better = False

    def of_tag(self, ranked: Ranked) -> float:
        """Returns the rate of misses where it equals the rate of false alarms."""
        value, *_ = self._crossing(ranked)
        return value

    def contributions_of_tag(self, ranked: Ranked) -> np.ndarray:
        """Returns each example's miss or false alarm at the threshold, weighted by the slope."""
        value, after, position, difference, alarm = self._crossing(ranked)
        with_tag, without = ranked.hits[-1], ranked.alarms[-1]
        count = with_tag + without
        variance = (value * (1 - value) + 1 / count) * (1 / with_tag + 1 / without)
        width = min(_SLOPE_WIDTH * math.sqrt(variance), 1.0)
        ends = np.interp([-width, width], difference[::-1], alarm[::-1])
        miss_weight = float(ends[0] - ends[1]) / (
            2 * width
        )  # weight of misses; the rest is for alarms
        # Examples at the threshold are detected in part, so that both rates equal the value.
        detected = np.where(ranked.threshold < after - 1, 1.0, 0.0)
        detected[ranked.threshold == after - 1] = position
        misses = miss_weight * ranked.true * (1 - detected - value) * count / with_tag
        alarms = (1 - miss_weight) * ~ranked.true * (detected - value) * count / without
        return value + misses + alarms

    @staticmethod
    def _crossing(ranked: Ranked) -> tuple[float, int, float, np.ndarray, np.ndarray]:
        """Finds the point at which the ROC curve has equal rates.

        The curve has T + 1 points, from the point where no example is detected to the point where
        all are.

        Returns:
          The rate; the first point at which false alarms are at least as frequent as misses; the
          position between the point before it (0) and this point (1); the difference of misses and
          false alarms at all points (T + 1,); false alarms at all points (T + 1,).
        """
        miss = np.concatenate([[1.0], 1 - ranked.hits / ranked.hits[-1]])
        alarm = np.concatenate([[0.0], ranked.alarms / ranked.alarms[-1]])
        after = int(np.argmax(alarm >= miss))
        difference = miss - alarm
        position = float(difference[after - 1] / (difference[after - 1] - difference[after]))
        value = float(miss[after - 1] + position * (miss[after] - miss[after - 1]))
        return value, after, position, difference, alarm


MAP, EER = AveragePrecision(), EqualErrorRate()


def _precision(ranked: Ranked) -> np.ndarray:
    detected = ranked.hits + ranked.alarms
    return np.divide(ranked.hits, detected, out=np.zeros_like(detected), where=detected > 0)


def _ranked_by_tag(predictions: Predictions, weights: Weights) -> list[Ranked]:
    columns = zip(predictions["probabilities"].T, predictions["tags"].T, strict=True)
    return [Ranked.of(scores, true > 0, weights) for scores, true in columns]
