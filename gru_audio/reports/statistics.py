"""Intervals, p-values and equivalence tests of paired differences, from a few replicates.

A score belongs to a replicate (a seed, a fold, or both) and a test example: it is the example's
contribution to a metric (`Metric.contributions`). The scores are those of one variant, or the
differences of two variants on the same replicate and example. The model has crossed random effects:

    score = mean + replicate + example (or cluster) + replicate x example

The variance of the estimated mean is a sum of components, each estimated from the data as in the
analysis of variance (Searle, Casella and McCulloch 1992, "Variance Components", section 4.3):

- between replicates: the variance of their means, with n - 1 degrees of freedom. It includes the
  interaction.
- from examples: the variance that examples (or clusters of them) add to the mean, minus the
  interaction, which the first component already includes. Clusters enter by the delete-one
  jackknife, which allows unequal sizes (MacKinnon, Nielsen and Webb 2023, section 3), with an
  effective number of clusters (Carter, Schnepel and Steigerwald 2017).
- from seeds, if replicates are folds and each seed trained on every fold: the variance of the
  seeds' means over folds, minus the interaction of seeds and folds.

If replicates have test sets of their own (folds), each test set counts as one replicate: the mean
over its seeds.

Each component is estimated from few units and is uncertain. Methods that take the estimates as true
(Satterthwaite 1946, or a bootstrap) reject too often with 3 to 5 replicates. Here the uncertainty
is integrated out: a component with k degrees of freedom is k times its estimate over a chi-squared
variable with k degrees. The p-value is the mean of the normal tail over these variables. This is
the Behrens-Fisher solution for a sum of variances, or a generalized p-value (Weerahandi 1995). With
replicates alone it is Student's t test with n - 1 degrees; with examples alone it is the normal
test. The component from shared seeds is small, and its estimate is taken as true: with two or three
seeds the integral would widen all intervals over folds by 40 %. The interval contains the values
that the same test does not reject, so p-value and interval always agree.

`tests/reports/calibration.py` measures false positives, coverage and power.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit  # scipy.stats takes longer to load

LEVEL = 0.95
FEWEST = 3  # fewest replicates for an interval, a p-value and a verdict

# Nodes of the trapezoidal rule on the normal scale, where it converges exponentially. The lower
# tail is longer, since small chi-squared values matter most.
_NODES = np.linspace(-8.5, 5.5, 57)
_WEIGHTS = np.exp(-(_NODES**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()
_CERTAIN = 200.0  # degrees of freedom from which a variance is taken as known
_MOST_REPLICATES = 1000  # `replicates_needed` does not look further


@dataclass(frozen=True)
class Estimate:
    """A value and its interval of level `LEVEL`.

    Below `FEWEST` replicates there is no interval: `low` and `high` are the smallest and the
    largest replicate, and `is_interval` is False.
    """

    value: float
    low: float
    high: float
    is_interval: bool = True

    def negated(self) -> "Estimate":
        """Returns the estimate of the negative value."""
        return Estimate(-self.value, -self.high, -self.low, self.is_interval)


def wilson(successes: int, count: int) -> Estimate:
    """Returns a proportion with its score interval (Wilson 1927), for independent trials.

    It stays within [0, 1] and is meaningful for few trials, and for none or all successes.
    """
    if not count:
        return Estimate(math.nan, 0.0, 1.0)
    p, z = successes / count, float(ndtri((1 + LEVEL) / 2))
    centre = p + z**2 / (2 * count)
    spread = z * math.sqrt(p * (1 - p) / count + (z / count / 2) ** 2)
    low, high = ((centre + sign * spread) / (1 + z**2 / count) for sign in (-1, 1))
    return Estimate(p, max(low, 0.0), min(high, 1.0))


@dataclass(frozen=True)
class Components:
    """An estimated mean and the components of its variance.

    Attributes:
        mean: the estimate.
        smallest, largest: smallest and largest mean score of a replicate.
        replicates: number of seeds on one test set, or of test sets.
        between: variance of the mean from replicates; NaN for one replicate.
        examples: variance from examples or clusters, including the interaction.
        interaction: variance from the interaction of replicates and examples; `between` includes it
            too.
        degrees: degrees of freedom of `examples`; infinite if it adds nothing to `between`.
        seeds: variance from seeds that folds share.
    """

    mean: float
    smallest: float
    largest: float
    replicates: int
    between: float
    examples: float
    interaction: float
    degrees: float
    seeds: float = 0.0

    def estimate(self, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
        """Returns the mean with its interval, clipped to the bounds of the metric."""
        if self.replicates < FEWEST:
            return Estimate(self.mean, self.smallest, self.largest, is_interval=False)
        reach = _invert(self._tail(), 1 - LEVEL)
        low, high = np.clip([self.mean - reach, self.mean + reach], *bounds)
        return Estimate(self.mean, float(low), float(high))

    def p(self) -> float | None:
        """Returns the two-sided p-value of "the mean is zero"; None below `FEWEST` replicates."""
        if self.replicates < FEWEST:
            return None
        return min(1.0, self._tail()(abs(self.mean)))

    def p_equivalent(self, margin: float) -> float | None:
        """Returns the p-value of "the mean is at least `margin` away from zero"; None as in `p`.

        It combines two one-sided tests (Schuirmann 1987): the means are equivalent at 5 % if the
        90 % interval lies within the margin.
        """
        if self.replicates < FEWEST:
            return None
        inside = margin - abs(self.mean)
        tail = self._tail()(abs(inside)) / 2
        return tail if inside > 0 else 1 - tail

    def replicates_needed(self, alpha: float, power: float = 0.8) -> int | None:
        """Estimates how many replicates would show a true difference as large as the mean.

        The estimate is rough: it takes the estimated variances as true, and assumes that the number
        of shared seeds grows with the number of folds.

        Args:
            alpha: the level of the test, already divided by the number of tests.
            power: the probability of a significant result.

        Returns:
            The number, or None if no number up to 1,000 suffices: the test set is too small.
        """
        if not math.isfinite(self.between):
            return None
        one = (self.between + self.seeds) * self.replicates
        fixed = max(self.examples - self.interaction, 0.0)
        for count in range(FEWEST, _MOST_REPLICATES + 1):
            quantiles = stdtrit(count - 1, 1 - alpha / 2) + stdtrit(count - 1, power)
            if abs(self.mean) >= quantiles * math.sqrt(one / count + fixed):
                return count
        return None

    def _tail(self) -> Callable[[float], float]:
        """Returns the two-sided tail probability of the estimate's distance from the true mean."""
        between, weights = _possible(self.between, self.replicates - 1)
        examples, example_weights = _possible(self.examples, self.degrees)
        added = np.maximum(examples - self.interaction, 0.0) + self.seeds
        variances = np.add.outer(between, added).ravel()
        weights = np.multiply.outer(weights, example_weights).ravel()
        # Replicates may agree by chance: the variance is at least that from the examples alone.
        least, least_weights = _possible(max(self.examples, self.interaction), self.degrees)
        deviations, least_deviations = (
            np.sqrt(np.maximum(each, np.finfo(float).tiny)) for each in (variances, least)
        )

        def tail(distance: float) -> float:
            whole = weights @ ndtr(-distance / deviations)
            of_examples = least_weights @ ndtr(-distance / least_deviations)
            return 2 * float(max(whole, of_examples))

        return tail


@dataclass(frozen=True)
class Scores:
    """Scores on one test set.

    Attributes:
        values: float (replicates, examples).
        units: int (examples,), the cluster of each example, or the example itself. A cluster has
            the same number in all test sets.
        seeds: names of the replicates. Replicates of several test sets with the same name share a
            seed.
    """

    values: np.ndarray
    units: np.ndarray
    seeds: tuple[str, ...]


def components(test_sets: Sequence[Scores]) -> Components:
    """Returns the mean over test sets of the mean over replicates, with its variance components."""
    if len(test_sets) == 1:
        rows = list(test_sets[0].values)
        units = [test_sets[0].units] * len(rows)
    else:
        rows = [scores.values.mean(axis=0) for scores in test_sets]
        units = [scores.units for scores in test_sets]
    means = np.array([row.mean() for row in rows])
    examples, interaction, degrees = _from_examples(rows, units)
    return Components(
        mean=float(means.mean()),
        smallest=float(means.min()),
        largest=float(means.max()),
        replicates=means.size,
        between=float(means.var(ddof=1) / means.size) if means.size > 1 else math.nan,
        examples=examples,
        interaction=interaction,
        degrees=degrees,
        seeds=_from_seeds(test_sets),
    )


def components_of_values(values: Sequence[float]) -> Components:
    """Returns the components of independent values without examples: the test is Student's t."""
    nothing = np.zeros(1, int)
    one_by_one = np.asarray(values, np.float64)[:, None]
    return components([Scores(one_by_one, nothing, tuple(map(str, range(len(one_by_one)))))])


def sampling_units(cluster: np.ndarray, example: np.ndarray) -> tuple[np.ndarray, bool]:
    """Returns the sampling units: clusters if at least two are known, else examples.

    Args:
        cluster: int (examples,), -1 if unknown; such an example is a unit of its own.
        example: int (examples,), ids from 0.

    Returns:
        The unit of each example, int (examples,), and whether there are clusters. Clusters keep
        their numbers. Examples have negative numbers, which are the same in all test sets.
    """
    known = cluster >= 0
    clustered = np.unique(cluster[known]).size >= 2
    alone = -1 - example.astype(np.int64)
    return (np.where(known, cluster, alone) if clustered else alone), clustered


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number (Holm 1979), in the same order."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def _from_examples(
    rows: Sequence[np.ndarray], units: Sequence[np.ndarray]
) -> tuple[float, float, float]:
    """Estimates the variance from examples of the mean over rows (replicates or test sets).

    Returns:
        Variance, interaction and degrees of freedom as in `Components`.
    """
    names, unit = np.unique(np.concatenate(units), return_inverse=True)
    effects, shares = np.zeros((2, len(rows), names.size))
    start = 0
    for index, row in enumerate(rows):
        of = unit[start : start + row.size]
        start += row.size
        effects[index] = np.bincount(of, weights=row - row.mean(), minlength=names.size) / row.size
        shares[index] = np.bincount(of, minlength=names.size) / row.size
    present = (shares > 0).sum(axis=1, keepdims=True)
    # The change of a row's mean if a unit is left out. It is undefined, and set to zero, for a unit
    # that contains all examples of its row.
    rest = 1 - shares
    scale = np.sqrt((present - 1) / present) / len(rows)
    left_out = np.divide(effects * scale, rest, out=np.zeros_like(effects), where=rest > 1e-9)
    nested = not ((shares > 0).sum(axis=0) > 1).any()
    variance = float((left_out.sum(axis=0) ** 2).sum())
    if nested:
        interaction, degrees = variance, math.inf
    else:
        if (shares == shares[0]).all():  # crossed: remove the effect of a unit on all rows
            centred = left_out - left_out.mean(axis=0)
            interaction = float((centred**2).sum()) * len(rows) / (len(rows) - 1)
        else:
            interaction = float((left_out**2).sum())
        weight = shares.mean(axis=0) ** 2
        degrees = max(float(weight.sum() ** 2 / (weight**2).sum()) - 1.0, 1.0)
    scores = np.concatenate(rows)
    if scores.size > len(rows) and np.isin(scores, (-1.0, 0.0, 1.0)).all():
        # Scores are right or wrong. Add one example on which the variants differ, so that agreement
        # on a small test set does not give a variance of zero (Agresti and Min 2005).
        one = 1.0 / sum(row.size for row in rows[: len(rows) if nested else 1]) ** 2
        variance, interaction = variance + one, interaction + (one if nested else 0.0)
    return variance, interaction, degrees


def _from_seeds(test_sets: Sequence[Scores]) -> float:
    """Estimates the variance from seeds that trained on all folds, of the mean over folds."""
    shared = [seed for seed in test_sets[0].seeds if all(seed in t.seeds for t in test_sets[1:])]
    if len(test_sets) == 1 or len(shared) < 2:
        return 0.0
    table = np.array([[t.values[t.seeds.index(s)].mean() for s in shared] for t in test_sets])
    folds, seeds = table.shape
    apart = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    interaction = float((apart**2).sum()) / ((folds - 1) * (seeds - 1) * folds * seeds)
    return max(float(table.mean(axis=0).var(ddof=1)) / seeds - interaction, 0.0)


def _possible(variance: float, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns possible values of a variance, given its estimate, and their weights."""
    if degrees >= _CERTAIN:
        return np.array([variance]), np.ones(1)
    chi_squared = 2 * gammaincinv(degrees / 2, ndtr(_NODES))
    return variance * degrees / chi_squared, _WEIGHTS


def _invert(tail: Callable[[float], float], p: float) -> float:
    """Returns the distance with tail probability p, by bisection on a logarithmic scale."""
    low, high = -300.0, -300.0  # powers of ten
    while tail(10.0**high) > p:
        low, high = high, high + 10.0
    if low == high:
        return 0.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        low, high = (middle, high) if tail(10.0**middle) > p else (low, middle)
    return float(10.0**high)
