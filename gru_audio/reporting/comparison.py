"""From the runs of a sweep to what is said about its arms: choose the draws, then compare."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.config import UserError, nearest
from gru_audio.reporting import statistics
from gru_audio.reporting.results import Predictions, Results, Run
from gru_audio.sweeping.halving import merit

SIGNIFICANCE = 0.05


def _correct(predictions: Predictions) -> np.ndarray:
    assert predictions.probabilities is not None  # a task without classes has no accuracy
    return predictions.probabilities.argmax(axis=-1) == predictions.label


# A metric of the test split is the weighted mean of one of these over examples, so that it can be
# resampled.
SCORES: dict[str, Callable[[Predictions], np.ndarray]] = {
    "accuracy": _correct,
    "loss": lambda predictions: predictions.loss,
}
BOUNDS = {"accuracy": (0.0, 1.0), "loss": (0.0, math.inf)}  # of their means


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
    estimate: statistics.Estimate


@dataclass(frozen=True)
class Pair:
    """The paired difference `first - second` of the test metric over the replicates both arms have.

    Attributes:
        replicates: how many those are.
        p: two-sided, adjusted for the number of pairs; p_alone: of this pair by itself.
        better: the arm that the difference favours, or None where none is shown.
    """

    first: str
    second: str
    difference: statistics.Estimate
    replicates: int
    p: float
    p_alone: float
    better: str | None


@dataclass(frozen=True)
class Sampled:
    """What was resampled in one test set.

    Attributes:
        replicates, examples: how many.
        units: how many things were drawn: clusters if `clustered`, else examples.
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
    """All that is said about a sweep. Arms come best first, pairs in the order of the arms.

    Attributes:
        left_out: runs that are not compared since another arm lacks their replicate.
    """

    results: Results
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    test_sets: tuple[Sampled, ...]
    left_out: int


def compare(
    results: Results, *, seed: int = 0, resamples: int = statistics.RESAMPLES
) -> Comparison:
    """Chooses a draw for each arm and compares the arms on the test split.

    Raises:
        UserError: the sweep's metric is not a mean over examples, or arms share no test examples.
    """
    if results.metric not in SCORES:
        raise UserError(
            f'No report can be made about "{results.metric}".{nearest(results.metric, SCORES)}'
        )
    chosen = {arm: _choose_draw(results, arm) for arm in results.arms}
    # A run may have predicted and then failed before it was done.
    usable = {
        arm: [r for r in runs if r.result and r.predictions.example.size]
        for arm, runs in chosen.items()
    }
    usable, left_out = _in_common({arm: runs for arm, runs in usable.items() if runs})
    resampled = resample(results.metric, usable, seed=seed, resamples=resamples)

    observed = {
        place: float(part.measured.observed[column])
        for part in resampled
        for place, column in part.columns.items()
    }
    arms = []
    for name, runs in usable.items():
        measured = [part.take(name, keys) for part in resampled if (keys := part.replicates(name))]
        value, means = _resampled_mean(measured, seed)
        arms.append(
            Arm(
                name=name,
                draw=runs[0].draw,
                draws=_count_draws(results, name, lambda run: True),
                judged=_count_draws(results, name, lambda run: bool(run.result)),
                survivors=_count_draws(
                    results, name, lambda r: bool(r.result) and not r.result.get("stopped_at_rung")
                ),
                runs=tuple(runs),
                values=tuple(observed[name, _key(run.replicate)] for run in runs),
                planned=len(chosen[name]),
                estimate=statistics.estimate(value, means, BOUNDS[results.metric]),
            )
        )
    arms.sort(key=lambda arm: arm.estimate.value, reverse=results.higher_is_better)
    return Comparison(
        results=results,
        arms=tuple(arms),
        pairs=compare_pairs([arm.name for arm in arms], resampled, results.higher_is_better, seed),
        test_sets=tuple(part.sampled for part in resampled),
        left_out=left_out,
    )


def better_of(
    first: str, second: str, difference: float, p: float, higher_is_better: bool
) -> str | None:
    """Which of two arms the difference `first - second` shows to be better; None if neither."""
    if p >= SIGNIFICANCE:
        return None
    return first if (difference > 0) == higher_is_better else second


@dataclass(frozen=True)
class Resampled:
    """A test set and the runs that share it: (arm, replicate) -> column of `measured`."""

    measured: statistics.Measured
    columns: Mapping[tuple[str, str], int]
    sampled: Sampled

    def replicates(self, *arms: str) -> list[str]:
        """Keys of the replicates that all of `arms` have."""
        keys = dict.fromkeys(key for _, key in self.columns)
        return [key for key in keys if all((arm, key) in self.columns for arm in arms)]

    def take(self, arm: str, replicates: Sequence[str]) -> statistics.Measured:
        """What an arm reached in some replicates."""
        return self.measured.take([self.columns[arm, key] for key in replicates])


def _key(setting: Mapping[str, Any]) -> str:
    return json.dumps(setting, sort_keys=True)


def _count_draws(results: Results, arm: str, counts: Callable[[Run], bool]) -> int:
    """How many draws of an arm have a run that counts."""
    return len({_key(run.draw) for run in results.runs if run.arm == arm and counts(run)})


def _in_common(arms: dict[str, list[Run]]) -> tuple[dict[str, list[Run]], int]:
    """The runs of replicates that all arms have, and how many others there are.

    Else an arm could win by having finished the easier folds first. If there is no such replicate,
    all runs stay, each arm for itself.
    """
    replicates = [{_key(run.replicate) for run in runs} for runs in arms.values()]
    common = set.intersection(*replicates) if replicates else set()
    if not common:
        return arms, 0
    kept = {
        arm: [run for run in runs if _key(run.replicate) in common] for arm, runs in arms.items()
    }
    return kept, sum(map(len, arms.values())) - sum(map(len, kept.values()))


def _choose_draw(results: Results, arm: str) -> list[Run]:
    """The runs of the draw with the best validation metric over replicates; see `merit`."""
    draws: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.arm == arm:
            draws.setdefault(_key(run.draw), []).append(run)

    def rank(runs: list[Run]) -> tuple[int, float]:
        metrics = (run.metric(results.selection) for run in runs)
        return merit(metrics, results.selection_higher_is_better)

    return max(draws.values(), key=rank)


def resample(
    metric: str, arms: Mapping[str, Sequence[Run]], *, seed: int, resamples: int
) -> list[Resampled]:
    """Groups the runs of all arms by test set, and resamples each once for all of them."""
    examples: dict[str, np.ndarray] = {}
    predicted: dict[str, int] = {}
    for run in itertools.chain.from_iterable(arms.values()):
        key, ids = _key(run.replicate), run.predictions.example
        examples[key] = np.intersect1d(examples.get(key, ids), ids)
        predicted[key] = max(predicted.get(key, 0), ids.size)

    test_sets: dict[bytes, list[str]] = {}
    for key, ids in examples.items():
        if not ids.size:
            raise UserError(f"The runs of replicate {key} have no test example in common.")
        test_sets.setdefault(ids.tobytes(), []).append(key)

    resampled = []
    for index, keys in enumerate(test_sets.values()):
        runs = [(arm, run) for arm, rs in arms.items() for run in rs if _key(run.replicate) in keys]
        ids = examples[keys[0]]
        scores = np.stack([_aligned(SCORES[metric](run.predictions), run, ids) for _, run in runs])
        _, any_run = runs[0]
        cluster = _aligned(any_run.predictions.cluster, any_run, ids)
        weight = _aligned(any_run.predictions.weight, any_run, ids)
        units, clustered = statistics.sampling_units(cluster)
        resampled.append(
            Resampled(
                measured=statistics.resample_examples(
                    scores, cluster, weight, seed=seed + index, resamples=resamples
                ),
                columns={(arm, _key(run.replicate)): i for i, (arm, run) in enumerate(runs)},
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
    return resampled


def _resampled_mean(measured: Sequence[statistics.Measured], seed: int) -> tuple[float, np.ndarray]:
    value, means = statistics.resample_mean(measured, seed=seed)
    return value, statistics.widened(value, means, statistics.freedom(measured))


def _aligned(values: np.ndarray, run: Run, ids: np.ndarray) -> np.ndarray:
    """The rows of `values` that belong to the examples `ids`, which the run has all predicted."""
    return values[np.searchsorted(run.predictions.example, ids)]


def compare_pairs(
    arms: Sequence[str], resampled: Sequence[Resampled], higher_is_better: bool, seed: int
) -> tuple[Pair, ...]:
    """Every pair of arms that has a replicate in common."""
    found = []
    for first, second in itertools.combinations(arms, 2):
        common = [(part, keys) for part in resampled if (keys := part.replicates(first, second))]
        if not common:
            continue
        differences = [part.take(first, keys) - part.take(second, keys) for part, keys in common]
        value, means = _resampled_mean(differences, seed)
        replicates = sum(len(keys) for _, keys in common)
        p_alone = statistics.two_sided_p(means)
        found.append((first, second, statistics.estimate(value, means), replicates, p_alone))

    adjusted = statistics.holm([p_alone for *_, p_alone in found])
    pairs = []
    for (first, second, difference, replicates, p_alone), p in zip(found, adjusted, strict=True):
        better = better_of(first, second, difference.value, p, higher_is_better)
        pairs.append(Pair(first, second, difference, replicates, p, p_alone, better))
    return tuple(pairs)
