"""How two arms differ class by class."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from gru_audio.reporting.comparison import (
    Arm,
    Comparison,
    ScoredTestSet,
    difference_of_pairs,
    score,
)
from gru_audio.reporting.results import Run
from gru_audio.reporting.statistics import Estimate
from gru_audio.reporting.verdicts import MARGINS, Difference, Pair, conclude

SHOWN = 12


@dataclass(frozen=True)
class ClassDifference:
    """The recall of one class by two arms.

    Attributes:
        label: the class.
        recalls: of each arm, over the replicates of both.
        pair: the difference of the first less the second; its p-value is adjusted for the number
            of classes.
    """

    label: int
    recalls: tuple[float, float]
    pair: Pair

    @property
    def difference(self) -> Estimate:
        """The difference in recall."""
        return self.pair.difference


def class_differences(comparison: Comparison) -> tuple[ClassDifference, ...]:
    """The best arm against the second on each class, from its strongest class to its weakest.

    There are none without classes, or where the arms have no replicate in common.
    """
    if len(comparison.arms) < 2 or not comparison.results.class_names:
        return ()
    found: list[tuple[int, tuple[float, float], Difference]] = []
    for label in range(len(comparison.results.class_names)):
        arms = {arm.name: _of_class(arm, label) for arm in comparison.arms[:2]}
        if not all(arms.values()):
            continue
        test_sets = score("accuracy", arms)
        for difference in difference_of_pairs(list(arms), test_sets):
            first, second = difference.first, difference.second
            common = [
                (part, keys) for part in test_sets if (keys := part.replicates(first, second))
            ]
            recalls = (_recall(first, common), _recall(second, common))
            found.append((label, recalls, difference))
    pairs = conclude(
        [difference for *_, difference in found],
        margin=MARGINS["accuracy"](1.0),
        higher_is_better=True,
    )
    differences = [
        ClassDifference(label, recalls, pair)
        for (label, recalls, _), pair in zip(found, pairs, strict=True)
    ]
    return tuple(sorted(differences, key=lambda each: each.difference.value, reverse=True))


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


def _recall(arm: str, common: Sequence[tuple[ScoredTestSet, list[str]]]) -> float:
    """The recall of an arm over the replicates that both arms of a pair have."""
    return float(np.mean([part.take(arm, keys).mean() for part, keys in common]))
