"""From the runs of a sweep to a comparison of its variants, each at its best trial."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.reports import statistics, verdicts
from gru_audio.reports.baselines import NO_BASELINES, Baselines
from gru_audio.reports.results import Results, Run, setting_key
from gru_audio.reports.statistics import Components, Estimate, Scores
from gru_audio.reports.verdicts import Difference, Pair, at_baseline
from gru_audio.settings import UserError
from gru_audio.sweeps.halving import rank_trials
from gru_audio.tasks.metrics import Metric, take


@dataclass(frozen=True)
class Variant:
    """A variant at its chosen trial.

    Attributes:
        draw: the setting that validation chose.
        trials: how many the sweep plans; judged: those with a finished run, among which it chose;
            survivors: those that no rung of halving has dropped.
        runs: the compared runs of that trial, in the order of the sweep; values: test metric of
            each.
        planned: how many runs the sweep plans for the trial.
        estimate: the test metric over all of them.
    """

    name: str
    trial: Mapping[str, Any]
    trials: int
    judged: int
    survivors: int
    runs: tuple[Run, ...]
    values: tuple[float, ...]
    planned: int
    estimate: Estimate


@dataclass(frozen=True)
class Sampled:
    """The size of one test set.

    Attributes:
        replicates, examples: how many.
        units: how many clusters if `clustered`, else examples.
        one_cluster: all examples are of one known speaker or recording.
        dropped: examples that not every run of the test set has predicted.
    """

    replicates: int
    examples: int
    units: int
    clustered: bool
    one_cluster: bool
    dropped: int


@dataclass(frozen=True)
class Comparison:
    """All that is concluded from a sweep. Variants come best first, pairs in that order.

    Attributes:
        differences: what `pairs` were concluded from, in the same order.
        margin: the smallest difference that matters.
        baselines: what simple predictors score on the same test splits.
        left_out: runs that are not compared since another variant lacks their replicate.
    """

    results: Results
    variants: tuple[Variant, ...]
    differences: tuple[Difference, ...]
    pairs: tuple[Pair, ...]
    test_sets: tuple[Sampled, ...]
    margin: float
    baselines: Baselines
    left_out: int

    @property
    def baseline(self) -> float | None:
        """The test metric of a predictor that ignores its input; None if unknown."""
        return self.baselines.chance

    @property
    def damaged(self) -> tuple[Run, ...]:
        """Finished runs whose predictions cannot be used."""
        return tuple(run for run in self.results.runs if run.damage)


@dataclass(frozen=True)
class ScoredTestSet:
    """A test set and the scores of the runs that share it.

    Attributes:
        scores: (runs, examples); the mean of a row is the run's metric.
        units: (examples,), as in `statistics.Scores`.
        rows: (variant, replicate) -> row of `scores`.
        sampled: its size.
    """

    scores: np.ndarray
    units: np.ndarray
    rows: Mapping[tuple[str, str], int]
    sampled: Sampled

    def replicates(self, *variants: str) -> list[str]:
        """Keys of the replicates that all of `variants` have."""
        keys = dict.fromkeys(key for _, key in self.rows)
        return [key for key in keys if all((variant, key) in self.rows for variant in variants)]

    def take(self, variant: str, replicates: Sequence[str]) -> np.ndarray:
        """The scores of a variant in some replicates, (replicates, examples)."""
        return self.scores[[self.rows[variant, key] for key in replicates]]


def compare(results: Results, baselines: Baselines = NO_BASELINES) -> Comparison:
    """Chooses a trial for each variant and compares the variants on the test split.

    Args:
        results: of the sweep.
        baselines: of the sweep. There is no verdict on two variants that stay at the trivial one.

    Raises:
        UserError: variants share no test example of a replicate.
    """
    metric = results.metric
    chosen = chosen_runs(results)
    # A run may have predicted and then failed before it was done.
    usable = {
        variant: [r for r in runs if r.result and r.predictions["example"].size]
        for variant, runs in chosen.items()
    }
    usable, left_out = _in_common({variant: runs for variant, runs in usable.items() if runs})
    test_sets = score(metric, usable)
    variants = [
        _variant(results, name, runs, chosen[name], test_sets) for name, runs in usable.items()
    ]
    variants.sort(key=lambda variant: _rank(variant, metric.higher_is_better))

    differences = difference_of_pairs([variant.name for variant in variants], test_sets)
    best = variants[0].estimate.value if variants else 0.0
    margin = results.margin or metric.margin_at(best)
    damaged = {
        variant: f"run {run.name} is damaged"
        for variant, runs in chosen.items()
        for run in runs
        if run.damage
    }
    chance = baselines.chance
    stuck = {
        variant.name for variant in variants if at_baseline(metric, variant.estimate.value, chance)
    }

    def withheld(first: str, second: str) -> str:
        if {first, second} <= stuck:
            return "both stay at the trivial baseline"
        return damaged.get(first) or damaged.get(second) or ""

    return Comparison(
        results=results,
        variants=tuple(variants),
        differences=differences,
        pairs=verdicts.conclude(
            differences,
            margin=margin,
            higher_is_better=metric.higher_is_better,
            withheld=withheld,
        ),
        test_sets=tuple(part.sampled for part in test_sets),
        margin=margin,
        baselines=baselines,
        left_out=left_out,
    )


def score(metric: Metric, variants: Mapping[str, Sequence[Run]]) -> list[ScoredTestSet]:
    """Groups the runs of all variants by test set; scores are what examples contribute to a metric.

    Raises:
        UserError: variants share no test example of a replicate.
    """
    examples: dict[str, np.ndarray] = {}
    predicted: dict[str, int] = {}
    for run in itertools.chain.from_iterable(variants.values()):
        key, ids = setting_key(run.replicate), run.predictions["example"]
        examples[key] = np.intersect1d(examples.get(key, ids), ids)
        predicted[key] = max(predicted.get(key, 0), ids.size)

    shared: dict[bytes, list[str]] = {}
    for key, ids in examples.items():
        if not ids.size:
            raise UserError(f"The runs of replicate {key} have no test example in common.")
        shared.setdefault(ids.tobytes(), []).append(key)

    test_sets = []
    for keys in shared.values():
        runs = [
            (variant, run)
            for variant, rs in variants.items()
            for run in rs
            if setting_key(run.replicate) in keys
        ]
        ids = examples[keys[0]]
        predictions = [
            take(run.predictions, np.searchsorted(run.predictions["example"], ids))
            for _, run in runs
        ]
        cluster = predictions[0]["cluster"]
        units, clustered = statistics.sampling_units(cluster, ids)
        test_sets.append(
            ScoredTestSet(
                scores=np.stack([metric.contributions(each) for each in predictions]),
                units=units,
                rows={
                    (variant, setting_key(run.replicate)): i
                    for i, (variant, run) in enumerate(runs)
                },
                sampled=Sampled(
                    replicates=len(keys),
                    examples=ids.size,
                    units=np.unique(units).size,
                    clustered=clustered,
                    one_cluster=bool(cluster[0] >= 0 and np.all(cluster == cluster[0])),
                    dropped=max(predicted[key] for key in keys) - ids.size,
                ),
            )
        )
    return test_sets


def difference_of_pairs(
    variants: Sequence[str], test_sets: Sequence[ScoredTestSet]
) -> tuple[Difference, ...]:
    """The difference of every pair of variants that has a replicate in common."""
    found = []
    for first, second in itertools.combinations(variants, 2):
        scores = [
            _scores(part, keys, part.take(first, keys) - part.take(second, keys))
            for part in test_sets
            if (keys := part.replicates(first, second))
        ]
        if scores:
            found.append(Difference(first, second, statistics.components(scores)))
    return tuple(found)


def components_of(variant: str, test_sets: Sequence[ScoredTestSet]) -> Components:
    """The mean of a variant's metric, and the parts of its variance."""
    return statistics.components(
        [
            _scores(part, keys, part.take(variant, keys))
            for part in test_sets
            if (keys := part.replicates(variant))
        ]
    )


def _scores(test_set: ScoredTestSet, replicates: Sequence[str], values: np.ndarray) -> Scores:
    seeds = tuple(str(json.loads(key).get("seed", key)) for key in replicates)
    return Scores(values, test_set.units, seeds)


def _variant(
    results: Results,
    name: str,
    runs: Sequence[Run],
    planned: Sequence[Run],
    test_sets: Sequence[ScoredTestSet],
) -> Variant:
    means = {
        place: part.scores[row].mean() for part in test_sets for place, row in part.rows.items()
    }

    def trials(counts: Callable[[Run], bool]) -> int:
        return len(
            {setting_key(run.trial) for run in results.runs if run.variant == name and counts(run)}
        )

    return Variant(
        name=name,
        trial=runs[0].trial,
        trials=trials(lambda run: True),
        judged=trials(lambda run: bool(run.result)),
        survivors=trials(lambda run: bool(run.result) and not run.result.get("stopped_at_rung")),
        runs=tuple(runs),
        values=tuple(float(means[name, setting_key(run.replicate)]) for run in runs),
        planned=len(planned),
        estimate=components_of(name, test_sets).estimate(results.metric.bounds),
    )


def _rank(variant: Variant, higher_is_better: bool) -> float:
    """The lower, the better; what is not finite comes last."""
    value = variant.estimate.value
    if not math.isfinite(value):
        return math.inf
    return -value if higher_is_better else value


def _in_common(variants: dict[str, list[Run]]) -> tuple[dict[str, list[Run]], int]:
    """The runs of replicates that all variants have, and how many others there are.

    Else a variant could win by having finished the easier folds first. If there is no such
    replicate, all runs stay, each variant for itself.
    """
    replicates = [{setting_key(run.replicate) for run in runs} for runs in variants.values()]
    common = set.intersection(*replicates) if replicates else set()
    if not common:
        return variants, 0
    kept = {
        variant: [run for run in runs if setting_key(run.replicate) in common]
        for variant, runs in variants.items()
    }
    return kept, sum(map(len, variants.values())) - sum(map(len, kept.values()))


def chosen_runs(results: Results) -> dict[str, list[Run]]:
    """The runs of each variant at the trial that validation chooses."""
    return {variant: _choose_trial(results, variant) for variant in results.variants}


def _choose_trial(results: Results, variant: str) -> list[Run]:
    """The runs of the trial with the best validation metric over replicates; see `merit`."""
    trials: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.variant == variant:
            trials.setdefault(setting_key(run.trial), []).append(run)

    def rank(runs: list[Run]) -> tuple[int, float]:
        metrics = (run.metric(results.selection) for run in runs)
        return rank_trials(metrics, results.metric_of(results.selection).higher_is_better)

    return max(trials.values(), key=rank)
