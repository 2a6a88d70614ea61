import math

import numpy as np
import pytest
import scipy.stats

from gru_audio.reports import statistics
from gru_audio.reports.statistics import (
    Scores,
    components,
    components_of_values,
    sampling_units,
)


def on_one_test_set(scores, units=None):
    scores = np.asarray(scores, np.float64)
    units = np.arange(scores.shape[1]) if units is None else units
    return components([Scores(scores, units, tuple(map(str, range(len(scores)))))])


def folds(scores, seeds=("0",)):
    """Scores (folds, seeds, examples), each fold with examples of its own."""
    count = scores.shape[2]
    return components(
        [Scores(each, 1000 * i + np.arange(count), seeds) for i, each in enumerate(scores)]
    )


def test_replicates_alone_are_tested_by_student_s_t():
    values = np.random.default_rng(0).normal(0.1, 0.1, 5)
    ours = components_of_values(values)
    reference = scipy.stats.ttest_1samp(values, 0)
    interval = reference.confidence_interval(0.95)
    estimate = ours.estimate()
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert ours.p() == pytest.approx(reference.pvalue, rel=1e-6)


@pytest.mark.parametrize("count", [3, 4, 7, 30])
@pytest.mark.parametrize("t", [0.1, 2.0, 8.0])
def test_the_integral_is_exact_for_any_number_of_replicates(count, t):
    values = np.arange(count) - (count - 1) / 2
    values = values / (values.std(ddof=1) / math.sqrt(count)) + t
    expected = 2 * scipy.stats.t.sf(t, count - 1)
    assert components_of_values(values).p() == pytest.approx(expected, rel=1e-5)


def test_examples_alone_are_tested_by_the_normal_distribution():
    row = np.random.default_rng(0).normal(0.1, 1, 5000)
    ours = on_one_test_set(np.tile(row, (3, 1)))
    error = row.std(ddof=1) / math.sqrt(row.size)
    assert ours.p() == pytest.approx(2 * scipy.stats.norm.sf(abs(row.mean()) / error), rel=1e-3)


def test_both_are_tested_by_the_behrens_fisher_integral():
    """Against a simulation of the integral."""
    rng = np.random.default_rng(1)
    scores = 0.5 + 0.4 * rng.normal(size=(4, 1)) + 2.0 * rng.normal(size=(1, 30))
    ours = on_one_test_set(scores)
    between = scores.mean(axis=1).var(ddof=1) / 4
    examples = scores.mean(axis=0).var(ddof=1) / 30
    trials = 400_000
    variance = between * 3 / rng.chisquare(3, trials) + examples * 29 / rng.chisquare(29, trials)
    expected = 2 * scipy.stats.norm.sf(abs(scores.mean()) / np.sqrt(variance)).mean()
    assert ours.p() == pytest.approx(expected, rel=0.01)


def anova(scores):
    """Variance components of replicates, examples and both, as in a textbook."""
    rows, columns = scores.shape
    both = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    between = columns * scores.mean(1).var(ddof=1)
    across = rows * scores.mean(0).var(ddof=1)
    rest = (both**2).sum() / ((rows - 1) * (columns - 1))
    return (between - rest) / columns, (across - rest) / rows, rest


def test_the_parts_are_those_of_the_analysis_of_variance():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(5, 1)) + 2 * rng.normal(size=(1, 40)) + rng.normal(size=(5, 40))
    replicate, example, both = anova(scores)
    ours = on_one_test_set(scores)
    assert ours.between == pytest.approx(replicate / 5 + both / 200)
    assert ours.examples == pytest.approx(example / 40 + both / 200)
    assert ours.interaction == pytest.approx(both / 200)
    assert ours.degrees == pytest.approx(39)


def test_examples_of_a_cluster_stay_together():
    cluster = np.arange(200) % 8
    effect = np.random.default_rng(1).normal(size=8)
    ours = on_one_test_set(np.tile(effect[cluster], (3, 1)), cluster)
    assert ours.examples == pytest.approx(effect.var(ddof=1) / 8)
    assert ours.degrees == pytest.approx(7)


def test_clusters_of_unequal_size_agree_with_the_jackknife():
    rng = np.random.default_rng(3)
    cluster = np.repeat(np.arange(6), rng.integers(3, 40, 6))
    scores = np.tile(rng.normal(size=6)[cluster] + rng.normal(size=cluster.size), (3, 1))
    without = np.array([scores[0, cluster != g].mean() for g in range(6)])
    expected = 5 / 6 * ((without - scores[0].mean()) ** 2).sum()
    assert on_one_test_set(scores, cluster).examples == pytest.approx(expected)


def test_one_cluster_has_fewer_degrees_where_others_are_small():
    cluster = np.array([0] * 90 + [1] * 5 + [2] * 5)
    scores = np.random.default_rng(0).normal(size=(3, 100))
    assert on_one_test_set(scores, cluster).degrees == 1.0


def test_folds_are_tested_over_their_means():
    scores = np.random.default_rng(4).normal(0.2, 1, (5, 3, 60))
    ours = folds(scores, ("0", "1", "2"))
    means = scores.mean(axis=(1, 2))
    assert ours.replicates == 5
    assert ours.between == pytest.approx(means.var(ddof=1) / 5)
    assert ours.examples == ours.interaction  # examples are nested in folds


def test_seeds_that_all_folds_share_add_their_variance():
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(1, 4, 1))
    scores = np.tile(shared, (3, 1, 10)) + 1e-6 * rng.normal(size=(3, 4, 10))
    assert folds(scores, ("a", "b", "c", "d")).seeds == pytest.approx(
        shared.var(ddof=1) / 4, rel=1e-4
    )
    one_by_one = [
        Scores(each, 1000 * i + np.arange(10), tuple(f"{i}{s}" for s in "abcd"))
        for i, each in enumerate(scores)
    ]
    assert components(one_by_one).seeds == 0.0


def test_agreement_of_replicates_is_no_certainty_about_examples():
    rng = np.random.default_rng(6)
    scores = 0.1 + rng.normal(size=100) + 1e-9 * rng.normal(size=(3, 100))
    error = scores[0].std(ddof=1) / 10
    expected = 2 * scipy.stats.t.sf(abs(scores.mean()) / error, 99)
    assert on_one_test_set(scores).p() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_below_three_replicates_there_is_a_range_and_no_p(count):
    ours = components_of_values([8.5, 8.7][:count])
    estimate = ours.estimate()
    assert (estimate.low, estimate.high) == (8.5, [8.5, 8.7][count - 1])
    assert not estimate.is_interval
    assert ours.p() is ours.p_equivalent(0.1) is None


@pytest.mark.parametrize("seed", range(20))
def test_interval_and_p_agree(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.3, 1, (3, 1)) + rng.normal(size=(3, 50))
    ours = on_one_test_set(scores)
    interval = ours.estimate()
    assert (ours.p() < 0.05) == (not interval.low <= 0 <= interval.high)
    edge = on_one_test_set(scores - interval.low)
    assert edge.p() == pytest.approx(0.05, rel=1e-6)


def test_equivalence_is_two_one_sided_tests():
    values = np.array([0.02, -0.01, 0.015, 0.005])
    t = (0.1 - abs(values.mean())) / (values.std(ddof=1) / 2)
    ours = components_of_values(values)
    assert ours.p_equivalent(0.1) == pytest.approx(scipy.stats.t.sf(t, 3), rel=1e-5)
    assert ours.p_equivalent(0.001) > 0.5


def test_intervals_stay_within_the_possible():
    scores = np.ones((3, 20))
    scores[0, :3] = 0
    assert on_one_test_set(scores).estimate((0.0, 1.0)).high == 1.0
    assert on_one_test_set(scores).estimate().high > 1.0


def test_agreement_on_a_small_test_set_is_not_certain():
    estimate = on_one_test_set(np.ones((5, 40))).estimate((0.0, 1.0))
    assert estimate.value == 1 and 0.9 < estimate.low < 1


def test_identical_variants_differ_by_nothing():
    ours = on_one_test_set(np.zeros((3, 100)))
    assert ours.p() == 1 and ours.mean == 0
    losses = on_one_test_set(np.full((3, 1), 0.0))
    assert abs(losses.estimate().low) < 1e-100 and losses.p() == 1


def test_the_needed_replicates_have_the_stated_power():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 4)
    values = 0.8 + (values - values.mean()) / values.std(ddof=1)
    needed = components_of_values(values).replicates_needed(0.05)
    shown = np.mean(
        [scipy.stats.ttest_1samp(rng.normal(0.8, 1, needed), 0).pvalue < 0.05 for _ in range(2000)]
    )
    assert 0.77 < shown < 0.86  # the smallest number that has 80 %


def test_no_number_of_replicates_makes_up_for_a_small_test_set():
    rng = np.random.default_rng(0)
    row = rng.normal(0, 1, 30)
    scores = np.tile(row - row.mean() + 0.05, (4, 1)) + 0.01 * rng.normal(size=(4, 1))
    assert on_one_test_set(scores).replicates_needed(0.05) is None


@pytest.mark.parametrize(
    ("cluster", "units", "clustered"),
    [
        ([-1, -1, -1], [-11, -12, -13], False),
        ([4, 4, 4], [-11, -12, -13], False),
        ([4, 4, -1], [-11, -12, -13], False),
        ([7, 2, 7], [7, 2, 7], True),
        ([7, 2, -1], [7, 2, -13], True),
    ],
)
def test_sampling_units(cluster, units, clustered):
    found, is_clustered = sampling_units(np.array(cluster), np.array([10, 11, 12]))
    assert found.tolist() == units
    assert is_clustered is clustered


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        # 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 raised to the one before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.9, 0.5, 0.6], [1.0, 1.0, 1.0]),
    ],
)
def test_holm_by_hand(p, adjusted):
    np.testing.assert_allclose(statistics.holm(p), adjusted, rtol=1e-12)
