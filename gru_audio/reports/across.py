"""Compares variants across the sweeps of several data sets.

Mean ranks are those of Demsar 2006, "Statistical Comparisons of Classifiers over Multiple Data
Sets". The probability of improvement, averaged over data sets, with an interval from a stratified
bootstrap over replicates, is that of Agarwal et al. 2021 (arXiv 2108.13264).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gru_audio.reports.statistics import Estimate

LEVEL = 0.95
_RESAMPLES = 2000

Scores = Mapping[str, Mapping[str, np.ndarray]]  # sweep -> variant -> scores (replicates,)


@dataclass(frozen=True)
class Improvement:
    """How probably a replicate of one variant beats one of another, on a data set of the sweeps.

    Attributes:
      first, second: names of the variants.
      sweeps: number of sweeps with both.
      probability: that the first is better; ties count half.
    """

    first: str
    second: str
    sweeps: int
    probability: Estimate


@dataclass(frozen=True)
class Across:
    """The conclusions from several sweeps.

    Attributes:
      sweeps: names of the sweeps that have all ranked variants.
      ranks: variant -> its rank in each of `sweeps`, 1 is best; the best mean rank comes first.
      improvements: for each pair of variants that share at least two sweeps.
    """

    sweeps: tuple[str, ...]
    ranks: Mapping[str, np.ndarray]
    improvements: tuple[Improvement, ...]


def across(scores: Scores) -> Across:
    """Compares variants by their names, which must mean the same in all sweeps.

    Args:
      scores: of each replicate; higher is better. Only differences within a sweep count, so sweeps
        may have different metrics.
    """
    from scipy.stats import rankdata  # takes a second to import

    names, sweeps = _most_shared(scores)
    ranks = [rankdata([-scores[sweep][name].mean() for name in names]) for sweep in sweeps]
    by_name = dict(zip(names, np.transpose(ranks), strict=True)) if names else {}
    every = dict.fromkeys(name for variants in scores.values() for name in variants)
    improvements = []
    for first, second in itertools.combinations(every, 2):
        pairs = [(v[first], v[second]) for v in scores.values() if first in v and second in v]
        if len(pairs) >= 2:
            improvement = probability_of_improvement(pairs)
            if improvement.value < 0.5:  # the better one comes first
                first, second = second, first
                improvement = Estimate(
                    1 - improvement.value, 1 - improvement.high, 1 - improvement.low
                )
            improvements.append(Improvement(first, second, len(pairs), improvement))
    return Across(
        sweeps=tuple(sweeps),
        ranks=dict(sorted(by_name.items(), key=lambda item: item[1].mean())),
        improvements=tuple(improvements),
    )


def probability_of_improvement(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Estimate:
    """Returns the probability that a replicate of the first variant beats one of the second.

    Args:
      pairs: for each data set, scores (replicates,) of the first and of the second variant.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    resampled = np.zeros(_RESAMPLES)
    for first, second in pairs:
        wins = _wins(first, second)
        rows = rng.integers(len(first), size=(_RESAMPLES, len(first), 1))
        columns = rng.integers(len(second), size=(_RESAMPLES, 1, len(second)))
        resampled += wins[rows, columns].mean((1, 2)) / len(pairs)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(np.mean([_wins(first, second).mean() for first, second in pairs]))
    return Estimate(value, float(low), float(high))


def _wins(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns 1, 1/2 or 0 for each pair of replicates (of the first, of the second)."""
    return (np.sign(first[:, None] - second[None]) + 1) / 2


def _most_shared(scores: Scores) -> tuple[list[str], list[str]]:
    """Returns the variants that most sweeps share, and these sweeps; [] without two of each.

    Among sets that as many sweeps share, the largest is taken.
    """
    sets = {frozenset(variants) for variants in scores.values()}
    candidates = sets | {one & other for one in sets for other in sets}
    best: tuple[list[str], list[str]] = [], []
    for names in candidates:
        sweeps = [sweep for sweep, variants in scores.items() if names <= variants.keys()]
        if len(names) >= 2 <= len(sweeps) and (len(sweeps), len(names)) > (
            len(best[1]),
            len(best[0]),
        ):
            best = sorted(names), sweeps
    return best
