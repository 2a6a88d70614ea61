"""Compares the variants of a sweep, each at its best trial."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.data.fields import take
from gru_audio.reports import statistics, verdicts
from gru_audio.reports.baselines import NO_BASELINES, Baselines
from gru_audio.reports.results import Results, Run, setting_key
from gru_audio.reports.statistics import Components, Estimate, Scores
from gru_audio.reports.verdicts import Difference, Pair, at_baseline
from gru_audio.settings import UserError
from gru_audio.sweeps.halving import rank_trials
from gru_audio.tasks.metrics import Metric


@dataclass(frozen=True)
class Variant:
    """A variant at its chosen trial.

    Attributes:
        name: name of the variant.
        trial: the setting that the validation split chose.
        trials: number of trials in the sweep.
        judged: number of trials with a finished run, among which validation chose.
        survivors: number of trials that successive halving did not drop.
        runs: the compared runs of the chosen trial, in the order of the sweep.
        values: test metric of each of `runs`.
        planned: number of runs that the sweep plans for the trial.
        estimate: the test metric over `runs`.
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
        replicates, examples: number of replicates and examples.
        units: number of clusters if `clustered`, else of examples.
        clustered: whether the sampling units are clusters.
        one_cluster: whether all examples belong to one known speaker or recording.
        dropped: number of examples left out, since not every run has predicted them.
    """

    replicates: int
    examples: int
    units: int
    clustered: bool
    one_cluster: bool
    dropped: int


@dataclass(frozen=True)
class Comparison:
    """The conclusions from a sweep. The best variant comes first; pairs follow the same order.

    Attributes:
        results: the sweep's runs.
        variants: the variants with finished runs.
        differences: the paired differences behind `pairs`, in the same order.
        pairs: the verdict on each pair of variants.
        test_sets: the size of each test set.
        margin: the smallest difference that matters.
        baselines: scores of simple predictors on the same test splits.
        left_out: number of runs left out, since another variant lacks their replicate.
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
        """Test metric of the predictor that ignores its input; None if unknown."""
        return self.baselines.chance

    @property
    def damaged(self) -> tuple[Run, ...]:
        """Finished runs whose predictions cannot be used."""
        return tuple(run for run in self.results.runs if run.damage)


@dataclass(frozen=True)
class ScoredTestSet:
    """A test set and the scores of the runs that share it.

    Attributes:
        scores: float (runs, examples); the mean of a row is the run's metric.
        units: int (examples,), as in `statistics.Scores`.
        rows: (variant, replicate) -> row of `scores`.
        sampled: the size of the test set.
    """

    scores: np.ndarray
    units: np.ndarray
    rows: Mapping[tuple[str, str], int]
    sampled: Sampled

    def replicates(self, *variants: str) -> list[str]:
        """Returns the keys of the replicates that all of `variants` have."""
        keys = dict.fromkeys(key for _, key in self.rows)
        return [key for key in keys if all((variant, key) in self.rows for variant in variants)]

    def take(self, variant: str, replicates: Sequence[str]) -> np.ndarray:
        """Returns a variant's scores in some replicates, float (replicates, examples)."""
        return self.scores[[self.rows[variant, key] for key in replicates]]


def compare(results: Results, baselines: Baselines = NO_BASELINES) -> Comparison:
    """Chooses a trial for each variant and compares the variants on the test split.

    Args:
        results: the sweep's results.
        baselines: the sweep's baselines. Two variants that both stay at the trivial baseline get no
            verdict.

    Raises:
        UserError: the variants have no common test example in a replicate.
    """
    metric = results.metric
    chosen = chosen_runs(results)
    # A run may fail after it has written its predictions.
    usable = {
        variant: [r for r in runs if r.result and r.predictions["example"].size]
        for variant, runs in chosen.items()
    }
    usable, left_out = _in_common({variant: runs for variant, runs in usable.items() if runs})
    test_sets = score(metric, usable)
    variants = [
        _variant(results, name, runs, chosen[name], test_sets) for name, runs in usable.items()
    ]
    variants.sort(
        key=lambda variant: rank_trials([variant.estimate.value], metric.higher_is_better),
        reverse=True,
    )

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
    """Groups the runs of all variants by test set, and scores each example.

    A score is the example's contribution to the metric.

    Raises:
        UserError: the variants have no common test example in a replicate.
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
            raise UserError(f"The runs of replicate {key} have no common test example.")
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
    """Returns the difference of each pair of variants with a common replicate."""
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
    """Returns the mean of a variant's metric and the components of its variance."""
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


def _in_common(variants: dict[str, list[Run]]) -> tuple[dict[str, list[Run]], int]:
    """Keeps the runs of replicates that all variants have. Returns them and the number left out.

    Otherwise a variant could win because it has finished the easier folds first. If there is no
    common replicate, all runs are kept.
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
    """Returns the runs of each variant at the trial that validation chooses."""
    return {variant: _choose_trial(results, variant) for variant in results.variants}


def _choose_trial(results: Results, variant: str) -> list[Run]:
    """Returns the runs of a variant's best trial on validation; see `rank_trials`."""
    trials: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.variant == variant:
            trials.setdefault(setting_key(run.trial), []).append(run)

    def rank(runs: list[Run]) -> tuple[int, float]:
        metrics = (run.metric(results.selection) for run in runs)
        return rank_trials(metrics, results.metric_of(results.selection).higher_is_better)

    return max(trials.values(), key=rank)
