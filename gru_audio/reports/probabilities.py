"""What the probabilities of a classifier are worth: calibration, ROC and precision-recall curves.

Replicates are pooled. With two classes the curves are those of the second class. With more they are
micro-averaged: each pair of an example and a class is a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.svg import MUTED, STYLE, Drawing, canvas, variant_colour
from gru_audio.tasks.metrics import Predictions

_BINS = 10
_POINTS = 150  # of a curve; more are not visible
_SIDE = 280  # of a figure


@dataclass(frozen=True)
class Calibration:
    """Confidence, the highest probability of an example, against accuracy.

    Attributes:
      confidence, accuracy, count: of the bins with examples, by confidence (bins,).
      error: expected calibration error with 10 bins of equal width (Guo et al. 2017, arXiv
        1706.04599).
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    error: float


@dataclass(frozen=True)
class ProbabilityFigures:
    """The figures, and for each variant its name and three numbers.

    Attributes:
      drawings: calibration, ROC and precision-recall curves.
      rows: (name, expected calibration error, area under the ROC curve, average precision).
    """

    drawings: tuple[Drawing, ...]
    rows: tuple[tuple[str, float, float, float], ...]


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Returns the calibration of probabilities (N, C) of classes, for labels (N,)."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    number = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    count = np.bincount(number, minlength=_BINS)
    there = count > 0
    mean = np.bincount(number, confidence, _BINS)[there] / count[there]
    accuracy = np.bincount(number, correct, _BINS)[there] / count[there]
    error = float((count[there] * np.abs(accuracy - mean)).sum() / count.sum())
    return Calibration(mean, accuracy, count[there], error)


def decisions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each decision is true, bool (M,), and its probability (M,)."""
    if probabilities.shape[1] == 2:
        return labels == 1, probabilities[:, 1]
    return (labels[:, None] == np.arange(probabilities.shape[1])).ravel(), probabilities.ravel()


def draw_probabilities(comparison: Comparison) -> ProbabilityFigures | None:
    """Draws the figures; returns None if the task has no classes with probabilities."""
    found = [(v, pooled) for v in comparison.variants if (pooled := _pooled(v))]
    if not found:
        return None
    import sklearn.metrics  # takes a second

    with matplotlib.rc_context(STYLE):
        drawings = [
            _square("calibration", "accuracy", "confidence", "Accuracy against confidence"),
            _square("roc", "true positive rate", "false positive rate", "ROC curves"),
            _square("precision-recall", "precision", "recall", "Precision against recall"),
        ]
        for _, axes in drawings[:2]:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        rows = []
        for variant, (probabilities, labels) in found:
            colour = variant_colour(comparison.results.variants.index(variant.name))
            calibrated = calibration(probabilities, labels)
            true, score = decisions(probabilities, labels)
            false_rate, true_rate, _ = sklearn.metrics.roc_curve(true, score)
            precision, recall, _ = sklearn.metrics.precision_recall_curve(true, score)
            curves: Sequence[tuple[np.ndarray, np.ndarray, dict[str, Any]]] = (
                (calibrated.confidence, calibrated.accuracy, {"marker": "o", "markersize": 5}),
                (*_thinned(false_rate, true_rate), {}),
                (*_thinned(recall[-2::-1], precision[-2::-1]), {}),  # the last is no threshold
            )
            for (_, axes), (x, y, style) in zip(drawings, curves, strict=True):
                axes.plot(x, y, color=colour, linewidth=1.8, clip_on=False, **style)
            area = float(sklearn.metrics.auc(false_rate, true_rate))
            average = float(sklearn.metrics.average_precision_score(true, score))
            rows.append((variant.name, calibrated.error, area, average))
        return ProbabilityFigures(tuple(drawing for drawing, _ in drawings), tuple(rows))


def _pooled(variant: Variant) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns probabilities (N, C) and labels (N,) of all replicates; None if there are none."""
    of_runs: list[Predictions] = [run.predictions for run in variant.runs]
    for predictions in of_runs:
        probabilities, labels = predictions.get("probabilities"), predictions.get("label")
        if probabilities is None or labels is None or (probabilities.ndim, labels.ndim) != (2, 1):
            return None
    probabilities = np.concatenate([each["probabilities"] for each in of_runs])
    labels = np.concatenate([each["label"] for each in of_runs])
    true, _ = decisions(probabilities, labels)
    return (probabilities, labels) if 0 < true.sum() < true.size else None


def _square(name: str, title: str, label: str, about: str) -> tuple[Drawing, Axes]:
    figure, axes = canvas(_SIDE, left=46, bottom=40, right=14, width=_SIDE + 60)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=label)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.grid()
    axes.set_title(title, loc="left", fontsize=12, x=-36 / _SIDE, pad=10)
    return Drawing(name, about, figure), axes


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points of a curve that are evenly spaced along it."""
    if x.size <= _POINTS:
        return x, y
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    at = np.linspace(0, along[-1], _POINTS)
    kept = np.unique(np.searchsorted(along, at).clip(0, x.size - 1))
    return x[kept], y[kept]
