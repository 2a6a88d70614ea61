"""Detectors of onsets: chosen on some recordings, tested on others.

A detector computes a score of every frame from levels: energy, mel bands, gates, or anything else
that has a value in every frame. The score is the level itself, or its rise, half-wave rectified.
The mean rise of logarithmic mel bands is the spectral flux (Bello et al. 2005, "A tutorial on onset
detection in music signals", IEEE TSAP 13(5)). Times are in seconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.ndimage
import scipy.signal
import scipy.stats


@dataclass(frozen=True)
class Detector:
    """How levels become a score of frames.

    Attributes:
        sign: 1, or -1 where onsets go with low or falling levels.
        span: frames over which a level's rise is measured; 0: the level itself.
        smooth: frames that are averaged, an odd number.
        lag: frames by which the levels come after what they tell of; below zero: before.
        column: the only level that counts; None: the mean of all.
    """

    sign: int = 1
    span: int = 0
    smooth: int = 1
    lag: int = 0
    column: int | None = None

    def __call__(self, levels: np.ndarray) -> np.ndarray:
        """The score (frames,) of levels (frames, levels); at the ends they stay as they are."""
        levels = self.sign * (levels if self.column is None else levels[:, [self.column]])
        if self.span:
            levels = rise(levels, self.span)
        score = scipy.ndimage.uniform_filter1d(levels.mean(axis=1), self.smooth, mode="nearest")
        frames = np.arange(len(score)) + self.lag
        return score[np.clip(frames, 0, len(score) - 1)]


def rise(levels: np.ndarray, span: int) -> np.ndarray:
    """By how much levels (frames, ...) have risen in so many; 0 where they fell, and at first."""
    risen = np.zeros_like(levels)
    risen[span:] = np.maximum(levels[span:] - levels[:-span], 0)
    return risen


@dataclass(frozen=True)
class Recording:
    """What is annotated.

    Attributes:
        times: of the frames' centres, (frames,), in seconds.
        onsets: (onsets,), in seconds, ascending.
    """

    times: np.ndarray
    onsets: np.ndarray


@dataclass(frozen=True)
class Choice:
    """A detector, and how well it did on the recordings that it was chosen on.

    Attributes:
        detector: the best of those to choose from.
        value: of the measure, the mean over recordings.
        threshold: of the score, above which a peak is an onset; None where none is needed.
    """

    detector: Detector
    value: float
    threshold: float | None = None


Levels = Sequence[np.ndarray]  # (frames, levels) of each recording


class Measure(Protocol):
    """How well a detector does on a recording."""

    def choose(
        self, detectors: Iterable[Detector], levels: Levels, recordings: Sequence[Recording]
    ) -> Choice:
        """The best detector on these recordings; of equals the first."""

    def of(self, choice: Choice, levels: Levels, recordings: Sequence[Recording]) -> np.ndarray:
        """What a choice made elsewhere gives on each of these recordings (recordings,)."""


@dataclass(frozen=True)
class Auc:
    """The area under the ROC of a frame's score, for "an onset lies within so many seconds"."""

    within: float

    def choose(
        self, detectors: Iterable[Detector], levels: Levels, recordings: Sequence[Recording]
    ) -> Choice:
        """See `Measure`."""
        positive = [near(one.times, one.onsets, self.within) for one in recordings]
        tried = (Choice(d, float(_aucs(d, levels, positive).mean())) for d in detectors)
        return max(tried, key=lambda choice: choice.value)

    def of(self, choice: Choice, levels: Levels, recordings: Sequence[Recording]) -> np.ndarray:
        """See `Measure`."""
        positive = [near(one.times, one.onsets, self.within) for one in recordings]
        return _aucs(choice.detector, levels, positive)


@dataclass(frozen=True)
class F1:
    """The F-measure of a score's peaks above a threshold.

    Attributes:
        tolerance: seconds from a peak to the onset that it is paired with.
        distance: frames between peaks, at least.
        thresholds: to choose from, as quantiles of the heights of all peaks.
    """

    tolerance: float
    distance: int
    thresholds: tuple[float, ...]

    def choose(
        self, detectors: Iterable[Detector], levels: Levels, recordings: Sequence[Recording]
    ) -> Choice:
        """See `Measure`."""
        tried = (self._best_threshold(d, levels, recordings) for d in detectors)
        return max(tried, key=lambda choice: choice.value)

    def of(self, choice: Choice, levels: Levels, recordings: Sequence[Recording]) -> np.ndarray:
        """See `Measure`."""
        scores = [choice.detector(one) for one in levels]
        found = [peaks(score, self.distance) for score in scores]
        return self._at(choice.threshold, scores, found, recordings)

    def _best_threshold(self, detector, levels, recordings) -> Choice:
        scores = [detector(one) for one in levels]
        found = [peaks(score, self.distance) for score in scores]
        heights = np.concatenate([score[at] for score, at in zip(scores, found, strict=True)])
        if not heights.size:
            return Choice(detector, 0.0, np.inf)
        tried = (
            Choice(detector, float(self._at(t, scores, found, recordings).mean()), float(t))
            for t in np.quantile(heights, self.thresholds)
        )
        return max(tried, key=lambda choice: choice.value)

    def _at(self, threshold, scores, found, recordings) -> np.ndarray:
        return np.array(
            [
                f_measure(one.times[at[score[at] >= threshold]], one.onsets, self.tolerance)
                for score, at, one in zip(scores, found, recordings, strict=True)
            ]
        )


def _aucs(detector: Detector, levels: Levels, positive: Sequence[np.ndarray]) -> np.ndarray:
    return np.array(
        [area_under_roc(detector(one), p) for one, p in zip(levels, positive, strict=True)]
    )


def near(times: np.ndarray, onsets: np.ndarray, tolerance: float) -> np.ndarray:
    """Whether an onset lies within the tolerance of each time, bool (times,)."""
    return (np.abs(times[:, None] - onsets) <= tolerance).any(axis=1)


def area_under_roc(score: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive frame has a higher score than another; ties count half.

    Args:
        score: (frames,).
        positive: bool (frames,), some true and some false.
    """
    positives = int(positive.sum())
    negatives = positive.size - positives
    ranks = scipy.stats.rankdata(score)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def peaks(score: np.ndarray, distance: int) -> np.ndarray:
    """Frames in which a score has its peaks; of any nearer than `distance` frames the highest."""
    return scipy.signal.find_peaks(score, distance=distance)[0]


def matches(found: np.ndarray, onsets: np.ndarray, tolerance: float) -> int:
    """How many found times can be paired with onsets, one to one, within the tolerance.

    Both ascend. To pair the earliest that can be paired is then as good as any other way.
    """
    times, others = found.tolist(), onsets.tolist()  # of which single values are read faster
    pairs = i = j = 0
    while i < len(times) and j < len(others):
        if abs(times[i] - others[j]) <= tolerance:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif times[i] < others[j]:
            i += 1
        else:
            j += 1
    return pairs


def f_measure(found: np.ndarray, onsets: np.ndarray, tolerance: float) -> float:
    """The harmonic mean of precision and recall of found times; both arrays ascend."""
    return 2 * matches(found, onsets, tolerance) / max(len(found) + len(onsets), 1)
