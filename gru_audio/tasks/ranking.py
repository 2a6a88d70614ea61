"""Metrics of tags: how well scores rank the examples with a tag before those without."""

import abc
import math
from typing import NamedTuple

import numpy as np

from gru_audio.tasks.metrics import Metric, Predictions, Weights, around

_SLOPE_WIDTH = 2.0  # standard errors of misses less false alarms; see `EqualErrorRate`


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
        return around(value, (derivative - later_taken) / ranked.hits[-1])


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


MAP, EER = AveragePrecision(), EqualErrorRate()


def _precision(ranked: Ranked) -> np.ndarray:
    taken = ranked.hits + ranked.alarms
    return np.divide(ranked.hits, taken, out=np.zeros_like(taken), where=taken > 0)


def _ranked_by_tag(predictions: Predictions, weights: Weights) -> list[Ranked]:
    columns = zip(predictions["probabilities"].T, predictions["tags"].T, strict=True)
    return [Ranked.of(scores, true > 0, weights) for scores, true in columns]
