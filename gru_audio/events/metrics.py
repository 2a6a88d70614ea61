"""Metrics of sound events: counts for each recording, which are summed over recordings.

Segments and events are counted as by Mesaros, Heittola and Virtanen 2016, "Metrics for Polyphonic
Sound Event Detection" (doi 10.3390/app6060162). Intersections are counted as by Bilen et al. 2020,
"A Framework for the Robust Evaluation of Sound Event Detection" (arXiv 1910.08440).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gru_audio.events.decode import Events

GREEDY, OPTIMAL = "greedy", "optimal"  # ways to match events

_ROUNDING = 1e-4  # seconds; times and steps may have been stored in float32


class Counts(NamedTuple):
    """Counts of one recording.

    Attributes:
      hits: correct detections of each class, int64 (C,).
      reference: segments or events of each class in the reference, int64 (C,).
      system: segments or events of each class in the output of the system, int64 (C,).
      substitutions: detections with a wrong class only.
    """

    hits: np.ndarray
    reference: np.ndarray
    system: np.ndarray
    substitutions: int


def active(events: Events, classes: int, count: int, step: float, first: float = 0) -> np.ndarray:
    """Returns whether each class is active at the centre of each frame, bool (count, classes)."""
    rows = np.zeros((count + 1, classes), np.int64)  # changes of the number of active events
    frames = np.ceil((events.times - first) / step - 0.5 - 1e-6).clip(0, count).astype(np.int64)
    np.add.at(rows, (frames[:, 0], events.classes), 1)
    np.add.at(rows, (frames[:, 1], events.classes), -1)
    return rows.cumsum(axis=0)[:-1] > 0


def segment_counts(
    reference: Events, system: Events, classes: int, seconds: float = 1.0
) -> tuple[Counts, int]:
    """Compares segments of a recording. A class is active in a segment that an event touches.

    Args:
      reference, system: the events.
      classes: the number of classes C.
      seconds: the duration of a segment.

    Returns:
      The counts; and the number of errors: substitutions, deletions and insertions. A segment with
      R active classes in the reference, S in the output and H in both has min(R, S) - H
      substitutions and max(R, S) - H errors.
    """
    last = max(each.times.max(initial=0) for each in (reference, system))
    count = 1 + int(last / seconds)
    wanted, found = (_touched(each, classes, count, seconds) for each in (reference, system))
    hits = wanted & found
    in_reference, in_system, in_both = (each.sum(axis=1) for each in (wanted, found, hits))
    counts = Counts(
        hits.sum(axis=0),
        wanted.sum(axis=0),
        found.sum(axis=0),
        int((np.minimum(in_reference, in_system) - in_both).sum()),
    )
    return counts, int((np.maximum(in_reference, in_system) - in_both).sum())


@dataclass(frozen=True)
class Tolerance:
    """When a detected event matches one of the reference.

    Attributes:
      onset: the largest difference of the onsets in seconds.
      offset: the largest difference of the offsets in seconds; None: offsets are not compared.
      share: a difference of the offsets up to this share of the reference's duration is allowed,
        too.
      matching: "greedy": each event of the reference, in the order of the list, takes the first
        free event that matches. "optimal": the largest number of pairs.
    """

    onset: float = 0.2
    offset: float | None = 0.2
    share: float = 0.5
    matching: str = GREEDY

    def fits(self, reference: Events, system: Events) -> np.ndarray:
        """Returns whether the times of each pair of events match, bool (R, S)."""
        difference = np.abs(reference.times[:, None] - system.times[None])
        fits = difference[..., 0] <= self.onset
        if self.offset is not None:
            duration = reference.times[:, 1] - reference.times[:, 0]
            fits &= difference[..., 1] <= np.maximum(self.offset, self.share * duration)[:, None]
        return fits


def event_counts(
    reference: Events, system: Events, classes: int, tolerance: Tolerance
) -> tuple[Counts, int]:
    """Matches events of a recording; returns the counts and the number of errors.

    A substitution is a pair of other events whose times match. All events without a partner are
    deletions or insertions.
    """
    fits = tolerance.fits(reference, system)
    same = reference.classes[:, None] == system.classes[None]
    rows, columns = _match(fits & same, tolerance.matching)
    left = fits & ~same
    left[rows], left[:, columns] = False, False
    counts = Counts(
        np.bincount(reference.classes[rows], minlength=classes),
        np.bincount(reference.classes, minlength=classes),
        np.bincount(system.classes, minlength=classes),
        len(_match(left, GREEDY)[0]),
    )
    paired = len(rows) + counts.substitutions
    return counts, len(reference.classes) + len(system.classes) - paired - len(rows)


@dataclass(frozen=True)
class Psds:
    """The polyphonic sound event detection score of Bilen et al. 2020.

    A detection is relevant if at least a share `dtc` of it lies in events of its class. An event is
    found if at least a share `gtc` of it lies in relevant detections. A detection that is not
    relevant is a false positive, and also a cross-trigger on another class if at least a share
    `cttc` of it lies in events of that class.

    The criteria are in (0, 1].

    Attributes:
      dtc: detection tolerance criterion.
      gtc: ground truth intersection criterion.
      cttc: cross-trigger tolerance criterion.
      alpha_ct: cost of cross-triggers.
      alpha_st: cost of differences between classes.
      max_efpr: the largest effective rate of false positives, per hour.
    """

    dtc: float = 0.5
    gtc: float = 0.5
    cttc: float = 0.3
    alpha_ct: float = 0.0
    alpha_st: float = 0.0
    max_efpr: float = 100.0

    def counts(self, reference: Events, system: Events, classes: int) -> np.ndarray:
        """Counts the detections of a recording at one operating point.

        Events of one class must not overlap.

        Returns:
          int64 (C, C + 1): found events on the diagonal, cross-triggers of class i on class j, and
          false positives in the last column.
        """
        onset, offset = (
            np.stack(np.meshgrid(system.times[:, i], reference.times[:, i], indexing="ij"))
            for i in (0, 1)
        )
        overlap = (offset.min(axis=0) - onset.max(axis=0)).clip(0)  # (detections, events)
        same = system.classes[:, None] == reference.classes[None]
        duration = system.times[:, 1] - system.times[:, 0]
        shares = overlap / duration[:, None]
        relevant = _reaches((shares * same).sum(axis=1), self.dtc)
        covered = (overlap * same * relevant[:, None]).sum(axis=0)
        whole = reference.times[:, 1] - reference.times[:, 0]
        found = _reaches(covered / whole, self.gtc)
        matrix = np.zeros((classes, classes + 1), np.int64)
        of_class = np.eye(classes)[reference.classes]  # (events, C)
        wrong = system.classes[~relevant]
        np.add.at(matrix[:, :-1], wrong, _reaches(shares[~relevant] @ of_class, self.cttc))
        np.add.at(matrix[:, -1], wrong, 1)
        np.fill_diagonal(matrix, np.bincount(reference.classes[found], minlength=classes))
        return matrix

    def score(
        self, counts: np.ndarray, events: np.ndarray, seconds: np.ndarray, total: float
    ) -> float:
        """Returns the area under the mean of the classes' ROC curves, in [0, 1].

        Classes without an event in the reference are left out; NaN if there is no other class.

        Args:
          counts: sums of `counts` over recordings at each operating point (O, C, C + 1).
          events: number of events in the reference (C,).
          seconds: duration of these events (C,).
          total: duration of all recordings in seconds.
        """
        present = events > 0
        if not present.any() or not total:
            return float("nan")
        counts = counts[:, present][:, :, [*np.flatnonzero(present), -1]].astype(np.float64)
        classes = int(present.sum())
        triggers = counts[..., :-1]
        hits = np.diagonal(triggers, axis1=1, axis2=2) / events[present]  # (O, C)
        crossed = 3600 * triggers * (1 - np.eye(classes)) / seconds[present]
        rates = 3600 * counts[..., -1] / total + self.alpha_ct * crossed.sum(axis=2) / max(
            1, classes - 1
        )
        grid = np.unique(np.concatenate([[0.0, self.max_efpr], rates.ravel()]))
        grid = grid[grid <= self.max_efpr]
        curves = np.array([_best(grid, *each) for each in zip(rates.T, hits.T, strict=True)])
        mean = curves.mean(axis=0) - self.alpha_st * curves.std(axis=0)
        return float((mean.clip(0)[:-1] * np.diff(grid)).sum() / self.max_efpr)


def merged(events: Events) -> Events:
    """Returns events of which those of one class that overlap or touch are joined."""
    order = np.lexsort((events.times[:, 0], events.classes))
    times: list[list[float]] = []
    classes: list[int] = []
    for (onset, offset), label in zip(
        events.times[order].tolist(), events.classes[order].tolist(), strict=True
    ):
        if classes and classes[-1] == label and onset <= times[-1][1]:
            times[-1][1] = max(times[-1][1], offset)
        else:
            times.append([onset, offset])
            classes.append(label)
    return Events(np.array(times, np.float64).reshape(-1, 2), np.array(classes, np.int64))


def _touched(events: Events, classes: int, count: int, seconds: float) -> np.ndarray:
    """Returns whether an event of each class touches each segment, bool (count, classes)."""
    rows = np.zeros((count, classes), bool)
    first = np.floor((events.times[:, 0] + _ROUNDING) / seconds).astype(int)
    last = np.ceil((events.times[:, 1] - _ROUNDING) / seconds).astype(int)
    for start, stop, label in zip(first, last, events.classes, strict=True):
        rows[start:stop, label] = True
    return rows


def _match(possible: np.ndarray, matching: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of pairs among the possible ones, bool (R, S)."""
    if matching == OPTIMAL:
        # SciPy is imported when it is needed: every config imports this module.
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching

        partner = maximum_bipartite_matching(csr_array(possible), perm_type="column")
        rows = np.flatnonzero(partner >= 0)
        return rows, partner[rows]
    free = np.ones(possible.shape[1], bool)
    pairs = []
    for row in np.flatnonzero(possible.any(axis=1)):
        columns = np.flatnonzero(possible[row] & free)
        if columns.size:
            free[columns[0]] = False
            pairs.append((row, columns[0]))
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _reaches(share: np.ndarray, criterion: float) -> np.ndarray:
    return share >= criterion - 1e-9  # sums of times are rounded


def _best(grid: np.ndarray, rates: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Returns the largest fraction of hits at operating points up to each rate of a grid."""
    order = np.argsort(rates, kind="stable")
    best = np.concatenate([[0.0], np.maximum.accumulate(hits[order])])
    return best[np.searchsorted(rates[order], grid, side="right")]
