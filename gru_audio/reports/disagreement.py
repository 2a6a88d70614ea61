"""The test examples on which the variants differ most."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.results import Run
from gru_audio.tasks.metrics import Predictions
from gru_audio.tasks.task import Task

SHOWN = 6


@dataclass(frozen=True)
class VariantPrediction:
    """The predictions of a variant's runs for one example.

    Attributes:
        variant: name of the variant.
        runs: number of runs that were tested on the example.
        value: mean of `Task.example_metric` over these runs.
        right: number of runs with the right answer; None if the task has no answers.
        answer: the most frequent answer in words; None if the task has no answers.
    """

    variant: str
    runs: int
    value: float
    right: int | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Disagreement:
    """An example, and the predictions of each variant for it.

    Attributes:
        example: id of the example.
        truth: the true answer in words; None if the task has no answers.
        cluster: speaker or recording of the example; -1 if unknown.
        by_variant: one for each variant, in the order of the variants.
    """

    example: int
    truth: str | None
    cluster: int
    by_variant: tuple[VariantPrediction, ...]

    @property
    def spread(self) -> float:
        """Difference between the largest and the smallest value of the variants."""
        values = [prediction.value for prediction in self.by_variant]
        return max(values) - min(values)


def disagreements(comparison: Comparison, count: int = SHOWN) -> tuple[Disagreement, ...]:
    """Returns the examples with the largest spread between variants, the largest first.

    No true answer is shown twice before each other one is shown once. Returns () if fewer than two
    variants have finished runs, or if all variants agree.
    """
    task, variants = comparison.results.task, comparison.variants
    if len(variants) < 2:
        return ()
    values = [_mean_by_example(task, variant.runs) for variant in variants]
    common = [example for example in values[0] if all(example in value for value in values)]
    table = np.array([[value[example] for value in values] for example in common])
    spread = np.ptp(table, axis=1) if common else np.zeros(0)
    ranked = [common[i] for i in np.argsort(-spread, kind="stable") if spread[i] > 0]
    ranked = _different_first(ranked, _truths(task, variants[0].runs, ranked))[:count]
    found = [_disagreement(task, variants, example) for example in ranked]
    return tuple(sorted(found, key=lambda d: d.spread, reverse=True))


def _values(task: Task, predictions: Predictions) -> np.ndarray:
    return task.example_metric.terms(predictions)[0]


def _mean_by_example(task: Task, runs: Sequence[Run]) -> dict[int, float]:
    """Returns the mean value of each example, by id, over the runs that were tested on it."""
    ids = np.concatenate([run.predictions["example"] for run in runs])
    values = np.concatenate([_values(task, run.predictions) for run in runs]).astype(np.float64)
    examples, row = np.unique(ids, return_inverse=True)
    means = np.bincount(row, weights=values) / np.bincount(row)
    return dict(zip(examples.tolist(), means.tolist(), strict=True))


def _truths(task: Task, runs: Sequence[Run], examples: Sequence[int]) -> list[str | None]:
    """Returns the true answer of each example in words; None if the task has no answers."""
    places = {
        int(example): (run.predictions, row)
        for run in runs
        for row, example in enumerate(run.predictions["example"])
    }
    words = (task.in_words(*places[example]) for example in examples)
    return [pair and pair[0] for pair in words]


def _different_first(examples: Sequence[int], truths: Sequence[str | None]) -> list[int]:
    """Reorders examples: the first of each truth comes before the second of any, and so on."""
    seen: Counter[str | None] = Counter()
    turns = []
    for truth in truths:
        turns.append(seen[truth])
        seen[truth] += 1
    order = np.argsort(turns, kind="stable")
    return [examples[i] for i in order]


def _disagreement(task: Task, variants: Sequence[Variant], example: int) -> Disagreement:
    by_variant = tuple(_prediction(task, variant, example) for variant in variants)
    predictions, row = _tested(variants[0], example)[0]
    words = task.in_words(predictions, row)
    cluster = int(predictions["cluster"][row])
    return Disagreement(example, words and words[0], cluster, by_variant)


def _prediction(task: Task, variant: Variant, example: int) -> VariantPrediction:
    tested = _tested(variant, example)
    value = float(np.mean([_values(task, predictions)[row] for predictions, row in tested]))
    answers = [words for place in tested if (words := task.in_words(*place))]
    if not answers:
        return VariantPrediction(variant.name, len(tested), value)
    right = sum(answer == truth for truth, answer in answers)
    answer, _ = Counter(answer for _, answer in answers).most_common(1)[0]
    return VariantPrediction(variant.name, len(tested), value, right, answer)


def _tested(variant: Variant, example: int) -> list[tuple[Predictions, int]]:
    """Returns the predictions that contain an example, and the example's row in each."""
    return [
        (run.predictions, int(np.searchsorted(run.predictions["example"], example)))
        for run in variant.runs
        if example in run.predictions["example"]
    ]
