"""On which test examples the arms differ most."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gru_audio.reporting.comparison import Arm, Comparison
from gru_audio.reporting.results import Predictions, Run

SHOWN = 6


@dataclass(frozen=True)
class Opinion:
    """What an arm's runs make of one example.

    Attributes:
        arm: its name.
        runs: those that were tested on the example.
        value: the mean over them of the probability of the true class, or of the loss where there
            are no classes.
        right: how many take the example for its true class; None without classes.
        answer: the class that most of them take it for; None without classes.
    """

    arm: str
    runs: int
    value: float
    right: int | None = None
    answer: int | None = None


@dataclass(frozen=True)
class Disagreement:
    """An example, and what each arm makes of it.

    Attributes:
        example: its id.
        label: its true class; None without classes.
        cluster: its speaker or recording; -1 where unknown.
        opinions: in the order of the arms.
    """

    example: int
    label: int | None
    cluster: int
    opinions: tuple[Opinion, ...]

    @property
    def spread(self) -> float:
        """How far the arms lie apart."""
        values = [opinion.value for opinion in self.opinions]
        return max(values) - min(values)


def disagreements(comparison: Comparison, count: int = SHOWN) -> tuple[Disagreement, ...]:
    """The examples with the largest spread between arms, the largest first.

    No class comes a second time while another has an example to show. There are none where a single
    arm has finished runs, or where all arms say the same.
    """
    arms = comparison.arms
    if len(arms) < 2:
        return ()
    values = [_mean_by_example(arm.runs) for arm in arms]
    common = [example for example in values[0] if all(example in value for value in values)]
    of_example = np.array([[value[example] for value in values] for example in common])
    spread = np.ptp(of_example, axis=1) if common else np.zeros(0)
    ranked = [common[i] for i in np.argsort(-spread, kind="stable") if spread[i] > 0]
    labels = _labels([run for arm in arms for run in arm.runs])
    ranked = _different_first(ranked, [labels.get(example) for example in ranked])[:count]
    found = [_disagreement(arms, example) for example in ranked]
    return tuple(sorted(found, key=lambda d: d.spread, reverse=True))


def _value(predictions: Predictions) -> np.ndarray:
    """The probability of the true class (examples,), or the loss where there are no classes."""
    if predictions.label is None or predictions.probabilities is None:
        return predictions.loss
    return predictions.probabilities[np.arange(predictions.label.size), predictions.label]


def _mean_by_example(runs: Sequence[Run]) -> dict[int, float]:
    """Of each example the mean value over the runs that were tested on it."""
    ids = np.concatenate([run.predictions.example for run in runs])
    values = np.concatenate([_value(run.predictions) for run in runs]).astype(np.float64)
    examples, row = np.unique(ids, return_inverse=True)
    means = np.bincount(row, weights=values) / np.bincount(row)
    return dict(zip(examples.tolist(), means.tolist(), strict=True))


def _labels(runs: Sequence[Run]) -> dict[int, int]:
    """The true class of each example; of none without classes."""
    return {
        example: label
        for run in runs
        if run.predictions.label is not None
        for example, label in zip(
            run.predictions.example.tolist(), run.predictions.label.tolist(), strict=True
        )
    }


def _different_first(examples: Sequence[int], labels: Sequence[int | None]) -> list[int]:
    """The examples, the first of each label before the second of any, and so on."""
    seen: Counter[int | None] = Counter()
    turns = []
    for label in labels:
        turns.append(seen[label])
        seen[label] += 1
    order = np.argsort(turns, kind="stable")
    return [examples[i] for i in order]


def _disagreement(arms: Sequence[Arm], example: int) -> Disagreement:
    opinions = tuple(_opinion(arm, example) for arm in arms)
    run = next(run for run in arms[0].runs if example in run.predictions.example)
    row = np.searchsorted(run.predictions.example, example)
    label = None if run.predictions.label is None else int(run.predictions.label[row])
    return Disagreement(example, label, int(run.predictions.cluster[row]), opinions)


def _opinion(arm: Arm, example: int) -> Opinion:
    tested = [run.predictions for run in arm.runs if example in run.predictions.example]
    rows = [int(np.searchsorted(predictions.example, example)) for predictions in tested]
    values = [_value(predictions)[row] for predictions, row in zip(tested, rows, strict=True)]
    opinion = Opinion(arm.name, len(tested), float(np.mean(values)))
    said = [
        (int(predictions.probabilities[row].argmax()), int(predictions.label[row]))
        for predictions, row in zip(tested, rows, strict=True)
        if predictions.probabilities is not None and predictions.label is not None
    ]
    if not said:
        return opinion
    right = sum(answer == label for answer, label in said)
    answer, _ = Counter(answer for answer, _ in said).most_common(1)[0]
    return Opinion(opinion.arm, opinion.runs, opinion.value, right, answer)
