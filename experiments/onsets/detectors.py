"""Onset detectors, which are chosen on some recordings and tested on others.

A detector computes a score for every frame from levels: energy, mel bands, gates, or other values
per frame. The score is the level itself, or its half-wave rectified rise. The mean rise of
logarithmic mel bands is the spectral flux (Bello et al. 2005, "A tutorial on onset detection in
music signals", IEEE TSAP 13(5)). Times are in seconds.
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
    """Computes a score for every frame from levels.

    Attributes:
        sign: 1, or -1 if levels are low or falling at onsets.
        span: number of frames of a level's rise; 0 takes the level itself.
        smooth: number of frames to average, odd.
        lag: number of frames by which the levels follow the onset; negative if they precede it.
        column: the level to use; None takes the mean of all levels.
    """

    sign: int = 1
    span: int = 0
    smooth: int = 1
    lag: int = 0
    column: int | None = None

    def __call__(self, levels: np.ndarray) -> np.ndarray:
        """Returns the score (frames,) of levels (frames, levels), extended at the ends."""
        levels = self.sign * (levels if self.column is None else levels[:, [self.column]])
        if self.span:
            levels = rise(levels, self.span)
        score = scipy.ndimage.uniform_filter1d(levels.mean(axis=1), self.smooth, mode="nearest")
        frames = np.arange(len(score)) + self.lag
        return score[np.clip(frames, 0, len(score) - 1)]


def rise(levels: np.ndarray, span: int) -> np.ndarray:
    """Returns the rise of levels (frames, ...) over `span` frames; 0 if they fall, and at first."""
    risen = np.zeros_like(levels)
    risen[span:] = np.maximum(levels[span:] - levels[:-span], 0)
    return risen


@dataclass(frozen=True)
class Recording:
    """The annotation of a recording.

    Attributes:
        times: centres of the frames in seconds, (frames,).
        onsets: annotated onsets in seconds, ascending, (onsets,).
    """

    times: np.ndarray
    onsets: np.ndarray


@dataclass(frozen=True)
class Choice:
    """The best detector, and its value on the recordings that chose it.

    Attributes:
        detector: the best detector.
        value: mean of the measure over recordings.
        threshold: score above which a peak counts as an onset; None if the measure needs none.
    """

    detector: Detector
    value: float
    threshold: float | None = None


Levels = Sequence[np.ndarray]  # (frames, levels) of each recording


class Measure(Protocol):
    """A measure of the quality of a detector on a recording."""

    def choose(
        self, detectors: Iterable[Detector], levels: Levels, recordings: Sequence[Recording]
    ) -> Choice:
        """Returns the best detector on these recordings; the first of equals."""

    def of(self, choice: Choice, levels: Levels, recordings: Sequence[Recording]) -> np.ndarray:
        """Returns the measure of a chosen detector on each recording (recordings,)."""


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve; frames with an onset within `within` seconds are positive."""

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
    """F-measure of a score's peaks above a threshold.

    Attributes:
        tolerance: largest distance in seconds of a peak from its onset.
        distance: smallest distance between peaks in frames.
        thresholds: thresholds to choose from, as quantiles of the heights of all peaks.
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
    """Returns whether an onset is within the tolerance of each time, bool (times,)."""
    return (np.abs(times[:, None] - onsets) <= tolerance).any(axis=1)


def area_under_roc(score: np.ndarray, positive: np.ndarray) -> float:
    """Returns the probability that a positive frame scores above a negative one; ties count half.

    Args:
        score: (frames,).
        positive: bool (frames,), with at least one True and one False.
    """
    positives = int(positive.sum())
    negatives = positive.size - positives
    ranks = scipy.stats.rankdata(score)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def peaks(score: np.ndarray, distance: int) -> np.ndarray:
    """Returns the frames of a score's peaks; of peaks nearer than `distance`, the highest."""
    return scipy.signal.find_peaks(score, distance=distance)[0]


def matches(found: np.ndarray, onsets: np.ndarray, tolerance: float) -> int:
    """Returns the largest number of one-to-one pairs of found times and onsets within `tolerance`.

    Both arrays ascend, so pairing the earliest possible ones is optimal.
    """
    times, others = found.tolist(), onsets.tolist()  # indexing lists is faster
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
    """Returns the harmonic mean of precision and recall of found times; both arrays ascend."""
    return 2 * matches(found, onsets, tolerance) / max(len(found) + len(onsets), 1)
