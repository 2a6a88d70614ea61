"""How sure a comparison is: the hierarchical paired bootstrap, in numpy and float64.

A score belongs to an arm, a replicate and a test example. Replicates that were tested on the same
examples (seeds) form one test set, in which replicates and examples are crossed; replicates with
examples of their own (folds, left-out speakers) form one test set each. An example may weigh more
than another (by its frames), as it then does in every mean. One resample draws test sets, in each
of them replicates, and clusters with all their examples (single examples, where fewer than two
clusters are known). All arms see the same resample, which is what pairs them.

Every level of n units draws n - 1 of them. The variance of the resampled mean then estimates that
of the mean without bias; drawing n would make it too small by 1 / n, a third with three seeds
(McCarthy and Snowden 1985; Rao and Wu 1988). What a replicate and an example make together, beyond
what each makes alone, is counted more than once (Owen 2007): where it prevails, the intervals are
up to 1.7 times as wide as need be, which errs on the side of showing no difference.

A variance estimated from few units is itself unsure, and percentiles of a bootstrap know nothing of
that: over five seeds that alone differ they cover 86 % instead of 95 %. So the resampled means are
spread by the ratio of Student's t to the normal quantile (`widened`; Hesterberg 2015, "What
teachers should know about the bootstrap", section 4), with degrees of freedom by Satterthwaite
(1946).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit  # scipy.stats takes longer to load

RESAMPLES = 10_000
LEVEL = 0.95
_CHUNK = 4_000_000  # numbers drawn at a time: bounds memory
_ROUNDING = 1e-12  # equal means summed in another order differ by less


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """A quantity in each replicate of one test set, as observed and on resamples of its examples.

    Attributes:
        observed: float64 (replicates,).
        resampled: float64 (resamples, replicates); a row is one resample of the examples.
        units: how many clusters or examples were drawn from.
    """

    observed: np.ndarray
    resampled: np.ndarray
    units: int

    def take(self, columns: Sequence[int]) -> "Measured":
        """The replicates at `columns`."""
        return Measured(self.observed[columns], self.resampled[:, columns], self.units)

    def __sub__(self, other: "Measured") -> "Measured":
        """The paired difference, replicate by replicate and resample by resample."""
        observed, resampled = self.observed - other.observed, self.resampled - other.resampled
        return Measured(observed, resampled, self.units)


def sampling_units(cluster: np.ndarray) -> tuple[np.ndarray, bool]:
    """What is drawn together: clusters if at least two are known, else each example by itself.

    Args:
        cluster: int (examples,), -1 where unknown; such an example is drawn by itself.

    Returns:
        The unit of each example, int (examples,), counted from 0; and whether clusters are drawn.
    """
    known = cluster >= 0
    clustered = np.unique(cluster[known]).size >= 2
    if not clustered:
        return np.arange(cluster.size), False
    alone = cluster.max() + 1 + np.arange(cluster.size)
    return np.unique(np.where(known, cluster, alone), return_inverse=True)[1], True


def resample_examples(
    scores: np.ndarray,
    cluster: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Measured:
    """The mean score of each run on resamples of the test set that the runs share.

    Args:
        scores: (runs, examples), what each run scored on each example.
        cluster: int (examples,), the speaker or recording of an example; -1 where unknown.
        weight: (examples,), of an example in the mean; all weigh the same if None.
        seed: of the resampling.
        resamples: how many to draw.
    """
    scores = np.asarray(scores, np.float64)
    unit = sampling_units(cluster)[0]
    weight = np.ones(unit.size) if weight is None else np.asarray(weight, np.float64)
    sizes = np.bincount(unit, weights=weight)
    sums = np.stack([np.bincount(unit, weights=row) for row in scores * weight])
    rng = np.random.default_rng(seed)
    resampled = np.concatenate(
        [
            (counts @ sums.T) / (counts @ sizes)[:, None]
            for counts in _draws(rng, sizes.size, resamples)
        ]
    )
    return Measured(np.average(scores, axis=1, weights=weight), resampled, sizes.size)


def resample_mean(test_sets: Sequence[Measured], *, seed: int) -> tuple[float, np.ndarray]:
    """The mean over test sets of the mean over replicates, and that mean on every resample.

    Returns:
        The observed mean, and the resampled means, float64 (resamples,).
    """
    rng = np.random.default_rng(seed)
    value = float(np.mean([measured.observed.mean() for measured in test_sets]))
    means = np.stack([_resample_replicates(measured.resampled, rng) for measured in test_sets])
    count, resamples = means.shape
    if count == 1:
        return value, means[0]
    drawn = rng.integers(count, size=(resamples, count - 1))
    # A test set drawn twice must bring two independent resamples of its examples.
    row = rng.integers(resamples, size=(resamples, count - 1))
    return value, means[drawn, row].mean(axis=1)


def freedom(test_sets: Sequence[Measured]) -> float:
    """Degrees of freedom of the variance of `resample_mean`.

    Of several test sets, one fewer than there are. Within one, replicates and examples each bring
    a variance with its own degrees (Satterthwaite 1946).
    """
    if len(test_sets) > 1:
        return len(test_sets) - 1
    (measured,) = test_sets
    replicates = measured.observed.size
    parts = [(measured.resampled.mean(axis=1).var(), max(measured.units - 1, 1))]
    if replicates > 1:
        parts.append((measured.observed.var(ddof=1) / replicates, replicates - 1))
    unsure = sum(variance**2 / degrees for variance, degrees in parts)
    return sum(variance for variance, _ in parts) ** 2 / unsure if unsure else np.inf


def widened(value: float, resampled: np.ndarray, degrees: float) -> np.ndarray:
    """Resampled means, spread around the value as far as t quantiles lie beyond normal ones."""
    upper = (1 + LEVEL) / 2
    return value + stdtrit(degrees, upper) / ndtri(upper) * (resampled - value)


def estimate(
    value: float, resampled: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """The value with its percentile interval, cut at the bounds of what is possible."""
    tail = (1 - LEVEL) / 2
    low, high = np.clip(np.quantile(resampled, [tail, 1 - tail]), *bounds)
    return Estimate(value, float(low), float(high))


def student(values: Sequence[float], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """The mean of independent values with its 95 % interval by Student's t, cut at the bounds.

    A single value has an interval without width: nothing is known of how such values differ.
    """
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Estimate(mean, mean, mean)
    error = float(np.std(values, ddof=1)) / count**0.5
    reach = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    low, high = np.clip([mean - reach, mean + reach], *bounds)
    return Estimate(mean, float(low), float(high))


def student_p(values: Sequence[float]) -> float:
    """The p-value of "the mean is zero" by Student's t; 1 of a single value."""
    mean, count = float(np.mean(values)), len(values)
    if count == 1 or mean == 0:
        return 1.0
    error = float(np.std(values, ddof=1)) / count**0.5
    return float(2 * stdtr(count - 1, -abs(mean) / error)) if error else 0.0


def two_sided_p(resampled: np.ndarray) -> float:
    """The p-value of "no difference": twice the share of resamples on the rarer side of zero."""
    rarer = min(np.sum(resampled <= _ROUNDING), np.sum(resampled >= -_ROUNDING))
    return float(min(1.0, 2 * (rarer + 1) / (resampled.size + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def _draws(rng: np.random.Generator, units: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn: float64 (chunk, units), chunks of `resamples` rows in all."""
    size = max(units - 1, 1)
    rows = max(1, _CHUNK // units)
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        drawn = rng.integers(units, size=(chunk, size)) + units * np.arange(chunk)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=chunk * units)
        yield counts.reshape(chunk, units).astype(np.float64)


def _resample_replicates(resampled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean over replicates drawn anew in every row, (resamples,)."""
    resamples, replicates = resampled.shape
    drawn = rng.integers(replicates, size=(resamples, max(replicates - 1, 1)))
    return np.take_along_axis(resampled, drawn, axis=1).mean(axis=1)
