"""How two arms differ class by class."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from gru_audio.reporting import statistics
from gru_audio.reporting.comparison import (
    Arm,
    Comparison,
    Pair,
    Resampled,
    compare_pairs,
    resample,
)
from gru_audio.reporting.results import Run
from gru_audio.reporting.statistics import Estimate

SHOWN = 12


@dataclass(frozen=True)
class ClassDifference:
    """The recall of one class by two arms.

    Attributes:
        label: the class.
        recalls: of each arm, over the replicates of both.
        difference: of the first less the second, paired.
        p: two-sided, adjusted for the number of classes.
    """

    label: int
    recalls: tuple[float, float]
    difference: Estimate
    p: float


def class_differences(
    comparison: Comparison, *, seed: int = 0, resamples: int = statistics.RESAMPLES
) -> tuple[ClassDifference, ...]:
    """The best arm against the second on each class, from its strongest class to its weakest.

    There are none without classes, or where the arms have no replicate in common.
    """
    if len(comparison.arms) < 2 or not comparison.results.class_names:
        return ()
    found = []
    for label in range(len(comparison.results.class_names)):
        arms = {arm.name: _of_class(arm, label) for arm in comparison.arms[:2]}
        if not all(arms.values()):
            continue
        resampled = resample("accuracy", arms, seed=seed, resamples=resamples)
        for pair in compare_pairs(list(arms), resampled, True, seed):
            recalls = (_recall(pair.first, pair, resampled), _recall(pair.second, pair, resampled))
            found.append(ClassDifference(label, recalls, pair.difference, pair.p))
    adjusted = statistics.holm([difference.p for difference in found])
    found = [replace(each, p=p) for each, p in zip(found, adjusted, strict=True)]
    return tuple(sorted(found, key=lambda each: each.difference.value, reverse=True))


def most_different(found: tuple[ClassDifference, ...]) -> tuple[ClassDifference, ...]:
    """Those with the largest differences, in the same order."""
    largest = sorted(found, key=lambda each: abs(each.difference.value), reverse=True)[:SHOWN]
    return tuple(each for each in found if each in largest)


def _of_class(arm: Arm, label: int) -> list[Run]:
    """The runs of an arm, with the predictions of one class; runs that have none are left out."""
    runs = []
    for run in arm.runs:
        told = run.predictions
        assert told.label is not None  # there are classes
        rows = told.label == label
        columns = {field.name: getattr(told, field.name)[rows] for field in fields(told)}
        if rows.any():
            runs.append(replace(run, predictions=type(told)(**columns)))
    return runs


def _recall(arm: str, pair: Pair, resampled: Sequence[Resampled]) -> float:
    """The recall of an arm over the replicates that both arms of the pair have."""
    common = [
        (part, keys) for part in resampled if (keys := part.replicates(pair.first, pair.second))
    ]
    return float(np.mean([part.take(arm, keys).observed.mean() for part, keys in common]))
