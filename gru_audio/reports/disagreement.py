"""On which test examples the variants differ most."""

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
class Opinion:
    """What a variant's runs make of one example.

    Attributes:
        variant: its name.
        runs: those that were tested on the example.
        value: the mean over them of `Task.example_metric`.
        right: how many answer what is true; None without answers.
        answer: what most of them answer, in words; None without answers.
    """

    variant: str
    runs: int
    value: float
    right: int | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Disagreement:
    """An example, and what each variant makes of it.

    Attributes:
        example: its id.
        truth: what is true of it, in words; None without answers.
        cluster: its speaker or recording; -1 where unknown.
        opinions: in the order of the variants.
    """

    example: int
    truth: str | None
    cluster: int
    opinions: tuple[Opinion, ...]

    @property
    def spread(self) -> float:
        """How far the variants lie apart."""
        values = [opinion.value for opinion in self.opinions]
        return max(values) - min(values)


def disagreements(comparison: Comparison, count: int = SHOWN) -> tuple[Disagreement, ...]:
    """The examples with the largest spread between variants, the largest first.

    No truth comes a second time while another has an example to show. There are none where a single
    variant has finished runs, or where all variants say the same.
    """
    task, variants = comparison.results.task, comparison.variants
    if len(variants) < 2:
        return ()
    values = [_mean_by_example(task, variant.runs) for variant in variants]
    common = [example for example in values[0] if all(example in value for value in values)]
    of_example = np.array([[value[example] for value in values] for example in common])
    spread = np.ptp(of_example, axis=1) if common else np.zeros(0)
    ranked = [common[i] for i in np.argsort(-spread, kind="stable") if spread[i] > 0]
    ranked = _different_first(ranked, _truths(task, variants[0].runs, ranked))[:count]
    found = [_disagreement(task, variants, example) for example in ranked]
    return tuple(sorted(found, key=lambda d: d.spread, reverse=True))


def _values(task: Task, predictions: Predictions) -> np.ndarray:
    return task.example_metric.terms(predictions)[0]


def _mean_by_example(task: Task, runs: Sequence[Run]) -> dict[int, float]:
    """The mean value of each example over the runs that were tested on it."""
    ids = np.concatenate([run.predictions["example"] for run in runs])
    values = np.concatenate([_values(task, run.predictions) for run in runs]).astype(np.float64)
    examples, row = np.unique(ids, return_inverse=True)
    means = np.bincount(row, weights=values) / np.bincount(row)
    return dict(zip(examples.tolist(), means.tolist(), strict=True))


def _truths(task: Task, runs: Sequence[Run], examples: Sequence[int]) -> list[str | None]:
    """What is true of each example, in words."""
    places = {
        int(example): (run.predictions, row)
        for run in runs
        for row, example in enumerate(run.predictions["example"])
    }
    words = (task.in_words(*places[example]) for example in examples)
    return [told and told[0] for told in words]


def _different_first(examples: Sequence[int], truths: Sequence[str | None]) -> list[int]:
    """The examples, the first of each truth before the second of any, and so on."""
    seen: Counter[str | None] = Counter()
    turns = []
    for truth in truths:
        turns.append(seen[truth])
        seen[truth] += 1
    order = np.argsort(turns, kind="stable")
    return [examples[i] for i in order]


def _disagreement(task: Task, variants: Sequence[Variant], example: int) -> Disagreement:
    opinions = tuple(_opinion(task, variant, example) for variant in variants)
    predictions, row = _tested(variants[0], example)[0]
    told = task.in_words(predictions, row)
    cluster = int(predictions["cluster"][row])
    return Disagreement(example, told and told[0], cluster, opinions)


def _opinion(task: Task, variant: Variant, example: int) -> Opinion:
    tested = _tested(variant, example)
    value = float(np.mean([_values(task, predictions)[row] for predictions, row in tested]))
    said = [told for place in tested if (told := task.in_words(*place))]
    if not said:
        return Opinion(variant.name, len(tested), value)
    right = sum(answer == truth for truth, answer in said)
    answer, _ = Counter(answer for _, answer in said).most_common(1)[0]
    return Opinion(variant.name, len(tested), value, right, answer)


def _tested(variant: Variant, example: int) -> list[tuple[Predictions, int]]:
    """The predictions of a variant's runs that hold an example, and the row where they do."""
    every = [run.predictions for run in variant.runs]
    return [
        (each, int(np.searchsorted(each["example"], example)))
        for each in every
        if example in each["example"]
    ]
