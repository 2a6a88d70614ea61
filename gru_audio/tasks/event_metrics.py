"""Metrics of sound events that are decoded from the probabilities of frames.

Predictions have a row for each recording:

  frames           float (N, T, C) or, with a background class 0, (N, T, C + 1): probabilities
  frame_count      int32 (N,), the number of valid frames
  step, first      float32 (N,), duration of a frame and beginning of the first frame in seconds
  times, classes, counts   the events of the reference, as in `gru_audio.data.fields.EventsField`
  threshold        float32 (N, C); and median, duration, gap: float32 (N,). The parameters of
                   `gru_audio.events.decode.Decoder`, the same in each row

Counts are summed over recordings before a ratio is taken. A class without an event in the reference
has no score, and is left out of means over classes.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from gru_audio.events import metrics
from gru_audio.events.decode import Decoder, Events
from gru_audio.events.metrics import Counts, Tolerance
from gru_audio.tasks.metrics import Metric, Predictions, Weights, linearized
from gru_audio.tasks.scale import PLAIN, Scale
from gru_audio.tasks.task import decoded

THRESHOLDS = tuple(i / 50 for i in range(1, 50))  # operating points of PSDS

# The values among which `choose` chooses, the default first. All but thresholds in seconds.
GRID: dict[str, tuple[float, ...]] = {
    "threshold": (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9, 0.95),
    "median": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    "duration": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    "gap": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
}

SEGMENT, EVENT = "segment", "event"  # units that `Counted` counts
F1, ERROR_RATE = "f1", "error_rate"

_PSDS_SUMS = ("points", "events", "seconds", "total")  # arguments of `metrics.Psds.score`


class RatioOfSums(Metric):
    """A ratio of sums over recordings, or the mean over classes of such ratios."""

    higher_is_better = False

    @abc.abstractmethod
    def sums(self, predictions: Predictions) -> np.ndarray:
        """Returns three rows for each class and recording, float64 (3, C, N).

        These are the numerator; the denominator; and the number of units in the reference, without
        which a class has no score. A ratio over all classes has C = 1.
        """

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the mean of the ratios; NaN if no class has a score."""
        sums = self.sums(predictions)
        numerator, denominator, reference = sums @ (
            np.ones(sums.shape[-1]) if weights is None else weights
        )
        present = reference > 0
        ratios = numerator[present] / denominator[present]
        return float(ratios.mean()) if ratios.size else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """Returns the mean over classes of contributions by the delta method."""
        numerator, denominator, reference = self.sums(predictions)
        present = reference.sum(axis=-1) > 0
        if not present.any():
            return np.full(numerator.shape[-1], math.nan)
        return linearized(numerator[present], denominator[present]).mean(axis=0)


class FrameError(RatioOfSums):
    """The share of frames whose active classes are not those of the reference at their centres.

    Frames are not decoded: the most probable class is active or, if events may overlap, the classes
    above their thresholds.
    """

    name = "frame_error"
    margin = 0.1  # a tenth of the smaller error, which may be below one percent
    margin_is_relative = True

    def sums(self, predictions: Predictions) -> np.ndarray:
        count = predictions["threshold"].shape[-1]
        rows = []
        for row, frames in enumerate(predictions["frame_count"].tolist()):
            given = predictions["frames"][row, :frames]
            if given.shape[-1] > count:
                found = np.eye(count + 1, dtype=bool)[given.argmax(axis=-1), 1:]
            else:
                found = given >= predictions["threshold"][row]
            place = _place(predictions, row)
            wrong = metrics.active(_reference(predictions, row), count, frames, *place) != found
            rows.append((wrong.any(axis=1).sum(), frames, frames))
        return np.array(rows, np.float64).T[:, None]


class AnnotatedSyllableErrorRate(RatioOfSums):
    """The edit distance of the classes in the order of their onsets, per event of the reference."""

    name = "annotated_syllable_error_rate"
    bounds = (0.0, math.inf)

    def sums(self, predictions: Predictions) -> np.ndarray:
        rows = []
        for row, (reference, system) in enumerate(_recordings(predictions)):
            wanted = self._sequence(reference, predictions, row)
            rows.append((Levenshtein.distance(wanted, system.in_order()), len(wanted)))
        edits, lengths = np.array(rows, np.float64).T
        return np.stack([edits, lengths, lengths])[:, None]

    def _sequence(self, reference: Events, predictions: Predictions, row: int) -> list[int]:
        return reference.in_order()


class SyllableErrorRate(AnnotatedSyllableErrorRate):
    """The same, but the reference is decoded from the classes that are active in its frames.

    Cohen et al. 2022 (doi 10.7554/eLife.63853) define it so, and call it the syllable error rate.
    Repeated events of one class are one event if no frame lies between them. This rate does not
    count them as errors, but `AnnotatedSyllableErrorRate` does.
    """

    name = "syllable_error_rate"

    def _sequence(self, reference: Events, predictions: Predictions, row: int) -> list[int]:
        classes, place = predictions["threshold"].shape[-1], _place(predictions, row)
        frames = int(predictions["frame_count"][row])
        active = metrics.active(reference, classes, frames, *place)
        frames_of = np.concatenate([~active.any(axis=1, keepdims=True), active], axis=1)
        return Decoder((0.0,) * classes, exclusive=True).decode(frames_of, *place).in_order()


class Counted(RatioOfSums):
    """The error rate or F1 of segments or of events (Mesaros et al. 2016, doi 10.3390/app6060162).

    The error rate is the number of substitutions, deletions and insertions per unit of the
    reference. A macro-average is the mean over classes. There are no substitutions within a class,
    so its errors are deletions and insertions.

    Attributes:
      unit: `SEGMENT` or `EVENT`, what is counted.
      score: `F1` or `ERROR_RATE`.
      macro: whether the value is the mean over classes, or that of all units.
    """

    def __init__(
        self,
        unit: str,
        score: str,
        macro: bool = False,
        tolerance: Tolerance | None = None,
        segment_seconds: float = 1.0,
    ):
        """Sets the attributes, when events match, and the duration of segments in seconds."""
        words = {F1: ("F1", "macro-F1"), ERROR_RATE: ("error rate", "macro error rate")}
        self.name = f"{unit}_macro_{score}" if macro else f"{unit}_{score}"
        self.title = f"{unit}-based {words[score][macro]}"
        self.higher_is_better = score == F1
        self.bounds = (0.0, 1.0 if score == F1 else math.inf)
        self.unit, self.score, self.macro = unit, score, macro
        self._tolerance, self._segment = tolerance or Tolerance(), segment_seconds

    def sums(self, predictions: Predictions) -> np.ndarray:
        sums, errors = self._of_classes(predictions)
        if self.macro:
            return sums
        summed = sums.sum(axis=1, keepdims=True)
        if self.score == ERROR_RATE:
            summed[0] = errors  # a substitution is one error, not a deletion and an insertion
        return summed

    def of_classes(self, predictions: Predictions) -> np.ndarray:
        """Returns the score of each class (C,); NaN for a class without reference."""
        numerator, denominator, reference = self._of_classes(predictions)[0].sum(axis=-1)
        scores = np.full(len(reference), math.nan)
        return np.divide(numerator, denominator, out=scores, where=reference > 0)

    def _of_classes(self, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sums of each class (3, C, N), see `sums`, and the number of errors (N,)."""
        counted = [self._counts(*pair, predictions) for pair in _recordings(predictions)]
        rows = [(counts.hits, counts.reference, counts.system) for counts, _ in counted]
        hits, reference, system = np.array(rows, np.float64).transpose(1, 2, 0)
        if self.score == F1:
            sums = 2 * hits, reference + system, reference
        else:
            sums = reference + system - 2 * hits, reference, reference
        return np.stack(sums), np.array([errors for _, errors in counted], np.float64)

    def _counts(
        self, reference: Events, system: Events, predictions: Predictions
    ) -> tuple[Counts, int]:
        classes = predictions["threshold"].shape[-1]
        if self.unit == EVENT:
            return metrics.event_counts(reference, system, classes, self._tolerance)
        return metrics.segment_counts(reference, system, classes, self._segment)


def counted(
    unit: str, tolerance: Tolerance | None = None, segment_seconds: float = 1.0
) -> tuple[Counted, ...]:
    """Returns F1, the error rate and their macro-averages of segments or events; see `Counted`."""
    return tuple(
        Counted(unit, score, macro, tolerance, segment_seconds)
        for macro in (False, True)
        for score in (F1, ERROR_RATE)
    )


class PolyphonicScore(Metric):
    """PSDS over the operating points `THRESHOLDS`; see `gru_audio.events.metrics.Psds`.

    At each point all classes have the same threshold. The other parameters of the decoder are
    those of the predictions.
    """

    name = "psds"
    title = "PSDS"
    costly = True
    scale: Scale = PLAIN

    def __init__(self, parameters: metrics.Psds | None = None):
        """Sets the criteria and costs."""
        self._psds = parameters or metrics.Psds()

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the score; NaN if the reference has no event."""
        counted = predictions if "points" in predictions else self._counted(predictions)
        weight = np.ones(len(counted["total"])) if weights is None else weights
        points, events, seconds, total = (np.tensordot(weight, counted[n], 1) for n in _PSDS_SUMS)
        return self._psds.score(points, events, seconds, float(total))

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """See `Metric.contributions`. Each recording is decoded once."""
        cluster = {n: predictions[n] for n in ("cluster",) if n in predictions}
        return super().contributions(self._counted(predictions) | cluster)

    def _counted(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """Returns the arguments of `Psds.score` for each recording."""
        classes = predictions["threshold"].shape[-1]
        rows: list[tuple[Any, ...]] = []
        for row in range(len(predictions["frames"])):
            reference = metrics.merged(_reference(predictions, row))
            decoder, valid = decoder_of(predictions, row), int(predictions["frame_count"][row])
            step, first = _place(predictions, row)
            frames = predictions["frames"][row, :valid]
            points = [
                self._psds.counts(
                    reference,
                    dataclasses.replace(decoder, threshold=(threshold,) * classes).decode(
                        frames, step, first
                    ),
                    classes,
                )
                for threshold in THRESHOLDS
            ]
            durations = reference.times[:, 1] - reference.times[:, 0]
            rows.append(
                (
                    points,
                    np.bincount(reference.classes, minlength=classes),
                    np.bincount(reference.classes, durations, classes),
                    valid * step,
                )
            )
        columns = [np.array(column, np.float64) for column in zip(*rows, strict=True)]
        return dict(zip(_PSDS_SUMS, columns, strict=True))


def decoder_of(predictions: Predictions, row: int = 0) -> Decoder:
    """Returns the decoder whose parameters a row of predictions contains."""
    threshold = predictions["threshold"][row]
    return Decoder(
        tuple(threshold.tolist()),
        predictions["frames"].shape[-1] > len(threshold),
        *(float(predictions[name][row]) for name in ("median", "duration", "gap")),
    )


def parameters_of(decoder: Decoder) -> dict[str, np.ndarray]:
    """Returns the parameters of a decoder, float32: the thresholds (C,), and times ()."""
    names = ("threshold", "median", "duration", "gap")
    return {name: np.array(getattr(decoder, name), np.float32) for name in names}


def with_decoder(predictions: Predictions, decoder: Decoder) -> dict[str, np.ndarray]:
    """Returns predictions with the parameters of a decoder in each row."""
    return decoded(predictions, parameters_of(decoder))


def events_of(predictions: Predictions, row: int) -> tuple[Events, Events]:
    """Returns the events of a recording: those of the reference, and the decoded ones."""
    frames = predictions["frames"][row, : int(predictions["frame_count"][row])]
    system = decoder_of(predictions, row).decode(frames, *_place(predictions, row))
    return _reference(predictions, row), system


def choose(predictions: Predictions, metric: Metric, classes: int) -> Decoder:
    """Chooses the parameters of the decoder for the best value of a metric on validation data.

    One parameter is chosen after the other among the values of `GRID`: a threshold for all classes,
    the median filter, the minimum duration, the minimum gap, and then the threshold of each class.
    The first of equal values is kept. If events exclude each other, all classes have the same
    threshold, which may be 0. A high one separates events of a class that almost touch.

    Args:
      predictions: predictions of the validation split; parameters of a decoder are ignored.
      metric: the metric.
      classes: the number of classes without the background.
    """
    exclusive = predictions["frames"].shape[-1] > classes
    best = Decoder((0.0 if exclusive else GRID["threshold"][0],) * classes, exclusive)

    def best_of(decoders: Sequence[Decoder]) -> Decoder:
        values = np.array([metric.value(with_decoder(predictions, each)) for each in decoders])
        quality = values if metric.higher_is_better else -values
        return decoders[int(np.nan_to_num(quality, nan=-np.inf).argmax())]

    values = (best.threshold[0], *GRID["threshold"])
    best = best_of([dataclasses.replace(best, threshold=(value,) * classes) for value in values])
    best = best_of([dataclasses.replace(best, median=value) for value in GRID["median"]])
    best = best_of([dataclasses.replace(best, duration=value) for value in GRID["duration"]])
    best = best_of([dataclasses.replace(best, gap=value) for value in GRID["gap"]])
    for label in range(0 if exclusive else classes):
        kept = best.threshold
        values = (kept[label], *GRID["threshold"])
        best = best_of(
            [
                dataclasses.replace(best, threshold=(*kept[:label], value, *kept[label + 1 :]))
                for value in values
            ]
        )
    return best


def _place(predictions: Predictions, row: int) -> tuple[float, float]:
    """Returns the duration of a frame and the beginning of the first one in seconds."""
    step, first = (_decimal(predictions[name][row : row + 1]) for name in ("step", "first"))
    return float(step[0]), float(first[0])


def _reference(predictions: Predictions, row: int) -> Events:
    count = max(0, int(predictions["counts"][row]))
    times = _decimal(predictions["times"][row, :count])
    return Events(times, predictions["classes"][row, :count].astype(np.int64))


def _decimal(seconds: np.ndarray) -> np.ndarray:
    """Returns the shortest decimal numbers that round to float32 values, in float64.

    Annotations and steps are decimals, often of 1 ms. Their rounding would decide whether an event
    is active in a frame whose centre is its onset, which is frequent at steps of 2 ms.
    """
    return seconds.astype(np.str_).astype(np.float64)


def _recordings(predictions: Predictions) -> Iterator[tuple[Events, Events]]:
    """Yields the events of each recording: those of the reference, and the decoded ones."""
    return (events_of(predictions, row) for row in range(len(predictions["frames"])))
