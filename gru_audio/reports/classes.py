"""The difference of two variants for each class or tag."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gru_audio.reports.comparison import (
    Comparison,
    ScoredTestSet,
    Variant,
    difference_of_pairs,
    score,
)
from gru_audio.reports.results import Run
from gru_audio.reports.statistics import Estimate
from gru_audio.reports.verdicts import Difference, Pair, conclude
from gru_audio.tasks.task import Task

SHOWN = 12


@dataclass(frozen=True)
class ClassDifference:
    """The scores of two variants on one class or tag.

    Attributes:
        name: name of the class.
        values: each variant's `Task.output_metric`, such as recall, over the replicates that both
            have.
        pair: the first minus the second; the p-value is adjusted for the number of classes.
    """

    name: str
    values: tuple[float, float]
    pair: Pair

    @property
    def difference(self) -> Estimate:
        """The difference with its interval."""
        return self.pair.difference


def class_differences(comparison: Comparison) -> tuple[ClassDifference, ...]:
    """Compares the best variant with the second on each class. The largest difference comes first.

    Returns () without classes, or if the variants have no common replicate.
    """
    task, variants = comparison.results.task, comparison.variants[:2]
    if len(variants) < 2:
        return ()
    found: list[tuple[str, tuple[float, float], Difference]] = []
    for output, name in enumerate(task.output_names):
        runs = {variant.name: _runs_of_output(task, variant, output) for variant in variants}
        if not all(runs.values()):
            continue
        test_sets = score(task.output_metric, runs)
        for difference in difference_of_pairs(list(runs), test_sets):
            common = [
                (part, keys)
                for part in test_sets
                if (keys := part.replicates(difference.first, difference.second))
            ]
            values = (_mean(difference.first, common), _mean(difference.second, common))
            found.append((name, values, difference))
    pairs = conclude(
        [difference for *_, difference in found],
        margin=task.output_metric.margin_at(1.0),
        higher_is_better=task.output_metric.higher_is_better,
    )
    differences = [
        ClassDifference(name, values, pair)
        for (name, values, _), pair in zip(found, pairs, strict=True)
    ]
    return tuple(sorted(differences, key=lambda each: each.difference.value, reverse=True))


def most_different(found: tuple[ClassDifference, ...]) -> tuple[ClassDifference, ...]:
    """Returns the `SHOWN` classes with the largest differences, in the same order."""
    largest = sorted(found, key=lambda each: abs(each.difference.value), reverse=True)[:SHOWN]
    return tuple(each for each in found if each in largest)


def _runs_of_output(task: Task, variant: Variant, output: int) -> list[Run]:
    """Returns a variant's runs with the predictions for one output; runs without are left out."""
    predictions = ((run, task.of_output(run.predictions, output)) for run in variant.runs)
    return [replace(run, predictions=found) for run, found in predictions if found is not None]


def _mean(variant: str, common: Sequence[tuple[ScoredTestSet, list[str]]]) -> float:
    """Returns a variant's mean metric over the replicates that both variants of a pair have."""
    return float(np.mean([part.take(variant, keys).mean() for part, keys in common]))
