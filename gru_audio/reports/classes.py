"""How two variants differ class by class, or tag by tag."""

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
    """How well two variants find one class, or one tag.

    Attributes:
        name: of the class.
        values: of `Task.answer_metric` of each variant, such as recall, over the replicates of
          both.
        pair: the difference of the first less the second; its p-value is adjusted for the number
            of classes.
    """

    name: str
    values: tuple[float, float]
    pair: Pair

    @property
    def difference(self) -> Estimate:
        """The difference with its interval."""
        return self.pair.difference


def class_differences(comparison: Comparison) -> tuple[ClassDifference, ...]:
    """The best variant against the second on each class, from its strongest class to its weakest.

    There are none without classes, or where the variants have no replicate in common.
    """
    task, variants = comparison.results.task, comparison.variants[:2]
    if len(variants) < 2:
        return ()
    found: list[tuple[str, tuple[float, float], Difference]] = []
    for answer, name in enumerate(task.output_names):
        runs = {variant.name: _of_answer(task, variant, answer) for variant in variants}
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
    """Those with the largest differences, in the same order."""
    largest = sorted(found, key=lambda each: abs(each.difference.value), reverse=True)[:SHOWN]
    return tuple(each for each in found if each in largest)


def _of_answer(task: Task, variant: Variant, answer: int) -> list[Run]:
    """The runs of a variant with what tells of one class; runs that tell nothing are left out."""
    of_runs = ((run, task.of_output(run.predictions, answer)) for run in variant.runs)
    return [replace(run, predictions=told) for run, told in of_runs if told is not None]


def _mean(variant: str, common: Sequence[tuple[ScoredTestSet, list[str]]]) -> float:
    """The metric of a variant over the replicates that both variants of a pair have."""
    return float(np.mean([part.take(variant, keys).mean() for part, keys in common]))
