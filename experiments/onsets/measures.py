"""How well onsets of events are told: by a score of every frame, and by single times.

Times are in seconds.
"""

import numpy as np
import scipy.signal
import scipy.stats


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
