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


class _Counted(RatioOfSums):
    """Base class of metrics from counts of segments or of events."""

    _events: bool  # events, or segments

    def __init__(self, tolerance: Tolerance | None = None, segment_seconds: float = 1.0):
        """Sets when events match, and the duration of segments in seconds."""
        self._tolerance, self._segment = tolerance or Tolerance(), segment_seconds

    def _counts(self, predictions: Predictions) -> list[tuple[Counts, int]]:
        classes = predictions["threshold"].shape[-1]
        return [
            metrics.event_counts(reference, system, classes, self._tolerance)
            if self._events
            else metrics.segment_counts(reference, system, classes, self._segment)
            for reference, system in _recordings(predictions)
        ]

    def _by_class(self, predictions: Predictions) -> np.ndarray:
        """Returns hits, units in the reference and in the output, float64 (3, C, N)."""
        counts = [(c.hits, c.reference, c.system) for c, _ in self._counts(predictions)]
        return np.array(counts, np.float64).transpose(1, 2, 0)


class _ErrorRate(_Counted):
    bounds = (0.0, math.inf)

    def sums(self, predictions: Predictions) -> np.ndarray:
        rows = [(errors, c.reference.sum()) for c, errors in self._counts(predictions)]
        errors, units = np.array(rows, np.float64).T
        return np.stack([errors, units, units])[:, None]


class _MacroErrorRate(_Counted):
    bounds = (0.0, math.inf)

    def sums(self, predictions: Predictions) -> np.ndarray:
        hits, reference, system = self._by_class(predictions)
        return np.stack([reference + system - 2 * hits, reference, reference])


class _F1(_Counted):
    higher_is_better = True
    over_classes: bool = False

    def sums(self, predictions: Predictions) -> np.ndarray:
        hits, reference, system = self._by_class(predictions)
        sums = np.stack([2 * hits, reference + system, reference])
        return sums if self.over_classes else sums.sum(axis=1, keepdims=True)

    def of_classes(self, predictions: Predictions) -> np.ndarray:
        """Returns the score of each class (C,); NaN for a class without reference."""
        hits, reference, system = self._by_class(predictions).sum(axis=-1)
        return Counts(hits, reference, system, 0).f1


class SegmentErrorRate(_ErrorRate):
    """Substitutions, deletions and insertions per active class and segment of the reference."""

    name = "segment_error_rate"
    title = "segment-based error rate"
    _events = False


class SegmentMacroErrorRate(_MacroErrorRate):
    """The mean over classes of deletions and insertions per segment of the reference."""

    name = "segment_macro_error_rate"
    title = "segment-based macro error rate"
    _events = False


class SegmentF1(_F1):
    """F1 of active classes in segments."""

    name = "segment_f1"
    title = "segment-based F1"
    _events = False


class SegmentMacroF1(SegmentF1):
    """The mean over classes of `SegmentF1`."""

    name = "segment_macro_f1"
    title = "segment-based macro-F1"
    over_classes = True


class EventErrorRate(_ErrorRate):
    """Substitutions, deletions and insertions per event of the reference."""

    name = "event_error_rate"
    title = "event-based error rate"
    _events = True


class EventMacroErrorRate(_MacroErrorRate):
    """The mean over classes of deletions and insertions per event of the reference."""

    name = "event_macro_error_rate"
    title = "event-based macro error rate"
    _events = True


class EventF1(_F1):
    """F1 of events."""

    name = "event_f1"
    title = "event-based F1"
    _events = True


class EventMacroF1(EventF1):
    """The mean over classes of `EventF1`."""

    name = "event_macro_f1"
    title = "event-based macro-F1"
    over_classes = True


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
