"""From the runs of a sweep to a comparison of its arms: choose a draw of each, then compare."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.reporting import statistics, verdicts
from gru_audio.reporting.baselines import NO_BASELINES, Baselines
from gru_audio.reporting.results import Results, Run, setting_key
from gru_audio.reporting.statistics import Components, Estimate, Scores
from gru_audio.reporting.verdicts import Difference, Pair, at_baseline
from gru_audio.settings import UserError
from gru_audio.sweeping.halving import merit
from gru_audio.tasks.metrics import Metric, take


@dataclass(frozen=True)
class Arm:
    """An arm at its chosen draw.

    Attributes:
        draw: the setting that validation chose.
        draws: how many the sweep plans; judged: those with a finished run, among which it chose;
            survivors: those that no rung of halving has dropped.
        runs: the compared runs of that draw, in the order of the sweep; values: test metric of
            each.
        planned: how many runs the sweep plans for the draw.
        estimate: the test metric over all of them.
    """

    name: str
    draw: Mapping[str, Any]
    draws: int
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
    """All that is concluded from a sweep. Arms come best first, pairs in the order of the arms.

    Attributes:
        differences: what `pairs` were concluded from, in the same order.
        margin: the smallest difference that matters.
        baselines: what simple predictors score on the same test splits.
        left_out: runs that are not compared since another arm lacks their replicate.
    """

    results: Results
    arms: tuple[Arm, ...]
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
        rows: (arm, replicate) -> row of `scores`.
        sampled: its size.
    """

    scores: np.ndarray
    units: np.ndarray
    rows: Mapping[tuple[str, str], int]
    sampled: Sampled

    def replicates(self, *arms: str) -> list[str]:
        """Keys of the replicates that all of `arms` have."""
        keys = dict.fromkeys(key for _, key in self.rows)
        return [key for key in keys if all((arm, key) in self.rows for arm in arms)]

    def take(self, arm: str, replicates: Sequence[str]) -> np.ndarray:
        """The scores of an arm in some replicates, (replicates, examples)."""
        return self.scores[[self.rows[arm, key] for key in replicates]]


def compare(results: Results, baselines: Baselines = NO_BASELINES) -> Comparison:
    """Chooses a draw for each arm and compares the arms on the test split.

    Args:
        results: of the sweep.
        baselines: of the sweep. There is no verdict on two arms that stay at the trivial one.

    Raises:
        UserError: arms share no test example of a replicate.
    """
    metric = results.metric
    chosen = chosen_runs(results)
    # A run may have predicted and then failed before it was done.
    usable = {
        arm: [r for r in runs if r.result and r.predictions["example"].size]
        for arm, runs in chosen.items()
    }
    usable, left_out = _in_common({arm: runs for arm, runs in usable.items() if runs})
    test_sets = score(metric, usable)
    arms = [_arm(results, name, runs, chosen[name], test_sets) for name, runs in usable.items()]
    arms.sort(key=lambda arm: _rank(arm, metric.higher_is_better))

    differences = difference_of_pairs([arm.name for arm in arms], test_sets)
    best = arms[0].estimate.value if arms else 0.0
    margin = results.margin or metric.margin_at(best)
    damaged = {
        arm: f"run {run.name} is damaged"
        for arm, runs in chosen.items()
        for run in runs
        if run.damage
    }
    chance = baselines.chance
    stuck = {arm.name for arm in arms if at_baseline(metric, arm.estimate.value, chance)}

    def withheld(first: str, second: str) -> str:
        if {first, second} <= stuck:
            return "both stay at the trivial baseline"
        return damaged.get(first) or damaged.get(second) or ""

    return Comparison(
        results=results,
        arms=tuple(arms),
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


def score(metric: Metric, arms: Mapping[str, Sequence[Run]]) -> list[ScoredTestSet]:
    """Groups the runs of all arms by test set; scores are what examples contribute to a metric.

    Raises:
        UserError: arms share no test example of a replicate.
    """
    examples: dict[str, np.ndarray] = {}
    predicted: dict[str, int] = {}
    for run in itertools.chain.from_iterable(arms.values()):
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
            (arm, run)
            for arm, rs in arms.items()
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
                rows={(arm, setting_key(run.replicate)): i for i, (arm, run) in enumerate(runs)},
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
    arms: Sequence[str], test_sets: Sequence[ScoredTestSet]
) -> tuple[Difference, ...]:
    """The difference of every pair of arms that has a replicate in common."""
    found = []
    for first, second in itertools.combinations(arms, 2):
        scores = [
            _scores(part, keys, part.take(first, keys) - part.take(second, keys))
            for part in test_sets
            if (keys := part.replicates(first, second))
        ]
        if scores:
            found.append(Difference(first, second, statistics.components(scores)))
    return tuple(found)


def components_of(arm: str, test_sets: Sequence[ScoredTestSet]) -> Components:
    """The mean of an arm's metric, and the parts of its variance."""
    return statistics.components(
        [
            _scores(part, keys, part.take(arm, keys))
            for part in test_sets
            if (keys := part.replicates(arm))
        ]
    )


def _scores(test_set: ScoredTestSet, replicates: Sequence[str], values: np.ndarray) -> Scores:
    seeds = tuple(str(json.loads(key).get("seed", key)) for key in replicates)
    return Scores(values, test_set.units, seeds)


def _arm(
    results: Results,
    name: str,
    runs: Sequence[Run],
    planned: Sequence[Run],
    test_sets: Sequence[ScoredTestSet],
) -> Arm:
    means = {
        place: part.scores[row].mean() for part in test_sets for place, row in part.rows.items()
    }

    def draws(counts: Callable[[Run], bool]) -> int:
        return len(
            {setting_key(run.draw) for run in results.runs if run.arm == name and counts(run)}
        )

    return Arm(
        name=name,
        draw=runs[0].draw,
        draws=draws(lambda run: True),
        judged=draws(lambda run: bool(run.result)),
        survivors=draws(lambda run: bool(run.result) and not run.result.get("stopped_at_rung")),
        runs=tuple(runs),
        values=tuple(float(means[name, setting_key(run.replicate)]) for run in runs),
        planned=len(planned),
        estimate=components_of(name, test_sets).estimate(results.metric.bounds),
    )


def _rank(arm: Arm, higher_is_better: bool) -> float:
    """The lower, the better; what is not finite comes last."""
    value = arm.estimate.value
    if not math.isfinite(value):
        return math.inf
    return -value if higher_is_better else value


def _in_common(arms: dict[str, list[Run]]) -> tuple[dict[str, list[Run]], int]:
    """The runs of replicates that all arms have, and how many others there are.

    Else an arm could win by having finished the easier folds first. If there is no such replicate,
    all runs stay, each arm for itself.
    """
    replicates = [{setting_key(run.replicate) for run in runs} for runs in arms.values()]
    common = set.intersection(*replicates) if replicates else set()
    if not common:
        return arms, 0
    kept = {
        arm: [run for run in runs if setting_key(run.replicate) in common]
        for arm, runs in arms.items()
    }
    return kept, sum(map(len, arms.values())) - sum(map(len, kept.values()))


def chosen_runs(results: Results) -> dict[str, list[Run]]:
    """The runs of each arm at the draw that validation chooses."""
    return {arm: _choose_draw(results, arm) for arm in results.arms}


def _choose_draw(results: Results, arm: str) -> list[Run]:
    """The runs of the draw with the best validation metric over replicates; see `merit`."""
    draws: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.arm == arm:
            draws.setdefault(setting_key(run.draw), []).append(run)

    def rank(runs: list[Run]) -> tuple[int, float]:
        metrics = (run.metric(results.selection) for run in runs)
        return merit(metrics, results.metric_of(results.selection).higher_is_better)

    return max(draws.values(), key=rank)
