import numpy as np
import pytest
import scipy.stats

from gru_audio.reporting import statistics
from gru_audio.reporting.statistics import Measured


def unknown(many):
    return np.full(many, -1)


def interval_of_mean(scores, cluster, seed=0, resamples=4000):
    measured = statistics.resample_examples(scores, cluster, seed=seed, resamples=resamples)
    return statistics.estimate(*statistics.resample_mean([measured], seed=seed))


def test_examples_alone_agree_with_scipy():
    rng = np.random.default_rng(0)
    for scores in (rng.random(400) < 0.9, rng.gamma(1.0, 1.0, 300)):
        scores = scores.astype(np.float64)
        ours = interval_of_mean(scores[None], unknown(scores.size), resamples=10_000)
        reference = scipy.stats.bootstrap(
            (scores,), np.mean, n_resamples=10_000, method="percentile", rng=1
        )
        tolerance = 0.1 * reference.standard_error
        np.testing.assert_allclose(ours.low, reference.confidence_interval.low, atol=tolerance)
        np.testing.assert_allclose(ours.high, reference.confidence_interval.high, atol=tolerance)
        assert ours.value == scores.mean()


def resampled_one_by_one(test_sets, rng):
    """A resampled mean in plain loops: [(scores (replicates, examples), cluster)] -> float."""

    def draw(items):
        return [items[i] for i in rng.integers(len(items), size=max(len(items) - 1, 1))]

    means = []
    for scores, cluster in draw(test_sets):
        replicates = draw(list(scores))
        examples = [i for c in draw(np.unique(cluster)) for i in np.flatnonzero(cluster == c)]
        means.append(np.mean([np.mean(replicate[examples]) for replicate in replicates]))
    return np.mean(means)


def test_all_levels_agree_with_plain_loops():
    rng = np.random.default_rng(3)
    test_sets = []
    for _ in range(4):
        cluster = rng.integers(0, 7, 60)
        effects = rng.normal(size=7)[cluster] + rng.normal(size=(3, 1)) + rng.normal()
        test_sets.append((effects + rng.normal(size=(3, 60)), cluster))
    reference = [resampled_one_by_one(test_sets, rng) for _ in range(4000)]
    measured = [
        statistics.resample_examples(scores, cluster, seed=i, resamples=8000)
        for i, (scores, cluster) in enumerate(test_sets)
    ]
    value, means = statistics.resample_mean(measured, seed=0)
    assert value == pytest.approx(np.mean([scores.mean() for scores, _ in test_sets]))
    assert means.std() == pytest.approx(np.std(reference), rel=0.05)
    spread = np.std(reference)
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    np.testing.assert_allclose(
        np.quantile(means, quantiles), np.quantile(reference, quantiles), atol=0.12 * spread
    )


@pytest.mark.parametrize("replicates", [2, 3, 5, 20])
def test_variance_over_few_replicates_is_unbiased(replicates):
    scores = np.random.default_rng(replicates).normal(size=(replicates, 1)) * np.ones((1, 50))
    measured = statistics.resample_examples(scores, unknown(50), seed=0, resamples=20_000)
    _, means = statistics.resample_mean([measured], seed=0)
    assert means.var() == pytest.approx(scores[:, 0].var(ddof=1) / replicates, rel=0.05)


def test_examples_of_a_cluster_stay_together():
    cluster = np.arange(200) % 8
    scores = np.random.default_rng(1).normal(size=8)[cluster][None]
    measured = statistics.resample_examples(scores, cluster, seed=0, resamples=20_000)
    by_cluster = scores[0, :8].var(ddof=1) / 8
    assert measured.resampled.var() == pytest.approx(by_cluster, rel=0.05)


def test_clusters_of_unequal_size_weigh_by_their_examples():
    cluster = np.array([0] * 30 + [1] * 10)
    measured = statistics.resample_examples((cluster == 0)[None], cluster, seed=0, resamples=1000)
    assert measured.observed == pytest.approx([0.75])
    assert set(measured.resampled[:, 0]) == {0.0, 1.0}  # one of two clusters is drawn


def weighted_directly(scores, cluster, weight, drawn):
    """The weighted mean over the examples of drawn clusters, one by one."""
    total, weights = 0.0, 0.0
    for unit in drawn:
        for example in np.flatnonzero(cluster == unit):
            total += scores[example] * weight[example]
            weights += weight[example]
    return total / weights


def test_weighted_means_agree_with_a_direct_computation():
    rng = np.random.default_rng(5)
    cluster, weight = np.array([0, 0, 1, 1, 1, 2]), np.array([5.0, 1.0, 2.0, 8.0, 3.0, 40.0])
    scores = rng.normal(size=(2, 6))
    measured = statistics.resample_examples(scores, cluster, weight, seed=0, resamples=2000)
    for run, row in enumerate(scores):
        expected = weighted_directly(row, cluster, weight, [0, 1, 2])
        assert measured.observed[run] == pytest.approx(expected)
        # Two of three clusters are drawn, with replacement: every pair must turn up.
        pairs = [(a, b) for a in range(3) for b in range(a + 1)]
        possible = sorted(weighted_directly(row, cluster, weight, pair) for pair in pairs)
        found = np.unique(measured.resampled[:, run].round(9))
        np.testing.assert_allclose(found, possible, atol=1e-8)


def test_a_weight_counts_like_repetition():
    rng = np.random.default_rng(6)
    scores, cluster, weight = rng.normal(size=(2, 30)), np.arange(30) % 7, rng.integers(1, 5, 30)
    weighted = statistics.resample_examples(scores, cluster, weight, seed=0, resamples=100)
    repeated = statistics.resample_examples(
        scores.repeat(weight, axis=1), cluster.repeat(weight), seed=0, resamples=100
    )
    np.testing.assert_allclose(weighted.observed, repeated.observed)
    np.testing.assert_allclose(weighted.resampled, repeated.resampled)


@pytest.mark.parametrize(
    ("cluster", "units", "clustered"),
    [
        ([-1, -1, -1], [0, 1, 2], False),
        ([4, 4, 4], [0, 1, 2], False),
        ([4, 4, -1], [0, 1, 2], False),
        ([7, 2, 7, 2], [1, 0, 1, 0], True),
        ([7, 2, -1, 7, -1], [1, 0, 2, 1, 3], True),
    ],
)
def test_sampling_units(cluster, units, clustered):
    found, is_clustered = statistics.sampling_units(np.array(cluster))
    assert found.tolist() == units
    assert is_clustered is clustered


def simulated_difference(rng, replicates=5, examples=150, speakers=30):
    """Paired differences whose true mean is 0: effects of seed, speaker, example, and chance."""
    cluster = np.arange(examples) % speakers
    by_example = 0.2 * rng.normal(size=speakers)[cluster] + rng.normal(size=examples)
    by_seed = 0.1 * rng.normal(size=(replicates, 1))
    return by_example + by_seed + 0.5 * rng.normal(size=(replicates, examples)), cluster


@pytest.mark.parametrize("weighted", [False, True])
def test_coverage_and_false_alarms_of_paired_differences(weighted):
    covered, alarms, trials = 0, 0, 300
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        difference, cluster = simulated_difference(rng)
        weight = rng.gamma(2.0, 1.0, cluster.size) if weighted else None
        measured = statistics.resample_examples(
            difference, cluster, weight, seed=trial, resamples=400
        )
        value, means = statistics.resample_mean([measured], seed=trial)
        interval = statistics.estimate(value, means)
        covered += interval.low <= 0 <= interval.high
        alarms += statistics.two_sided_p(means) < 0.05
    # Three standard errors of a share of 300 around 95 %; more than 95 % errs on the safe side.
    assert covered / trials >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)
    assert alarms / trials <= 0.05 + 3 * np.sqrt(0.95 * 0.05 / trials)


@pytest.mark.parametrize(("seeds", "folds"), [(2, 1), (3, 1), (5, 1), (1, 3), (1, 6), (3, 6)])
def test_coverage_where_few_units_make_all_the_difference(seeds, folds):
    """Seeds or folds differ, examples hardly: the case in which a plain bootstrap is too sure."""
    covered, trials = 0, 400
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        test_sets = []
        for fold in range(folds):
            effect = rng.normal() * (folds > 1) + rng.normal(size=(seeds, 1)) * (seeds > 1)
            scores = effect + 0.1 * rng.normal(size=(seeds, 40))
            test_sets.append(
                statistics.resample_examples(scores, unknown(40), seed=fold, resamples=400)
            )
        value, means = statistics.resample_mean(test_sets, seed=trial)
        means = statistics.widened(value, means, statistics.freedom(test_sets))
        interval = statistics.estimate(value, means)
        covered += interval.low <= 0 <= interval.high
    # Two or three units make a bootstrap of few steps, which t quantiles do not wholly mend.
    nominal = 0.95 if max(seeds, folds) > 3 else 0.91
    assert covered / trials >= nominal - 3 * np.sqrt(0.95 * 0.05 / trials)


def test_many_units_need_no_widening():
    scores = np.random.default_rng(0).normal(size=(200, 300))
    measured = statistics.resample_examples(scores, unknown(300), seed=0, resamples=400)
    assert statistics.freedom([measured]) > 150
    _, means = statistics.resample_mean([measured], seed=0)
    widened = statistics.widened(0.0, means, statistics.freedom([measured]))
    np.testing.assert_allclose(widened, means, rtol=0.02)


def test_degrees_of_freedom_of_either_level_alone():
    rng = np.random.default_rng(0)
    seeds_alone = np.repeat(rng.normal(size=(4, 1)), 50, axis=1)
    examples_alone = np.repeat(rng.normal(size=(1, 50)), 4, axis=0)
    for scores, degrees in ((seeds_alone, 3), (examples_alone, 49)):
        measured = statistics.resample_examples(scores, unknown(50), seed=0, resamples=400)
        assert statistics.freedom([measured]) == pytest.approx(degrees)


def test_intervals_stay_within_the_possible():
    scores = np.array([[1.0] * 19 + [0.0]])
    measured = statistics.resample_examples(scores, unknown(20), seed=0, resamples=400)
    value, means = statistics.resample_mean([measured], seed=0)
    means = statistics.widened(value, means, 1.0)
    assert statistics.estimate(value, means, (0.0, 1.0)).high == 1.0
    assert statistics.estimate(value, means).high > 1.0


def test_student_s_interval_agrees_with_scipy():
    values = np.random.default_rng(0).normal(8.5, 0.1, 5)
    ours = statistics.student(values)
    test = scipy.stats.ttest_1samp(values, 0)
    reference = test.confidence_interval(0.95)
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high))
    assert statistics.student_p(values) == pytest.approx(test.pvalue, rel=1e-6)


def test_one_value_has_no_spread():
    only = statistics.student([8.5])
    assert (only.value, only.low, only.high) == (8.5, 8.5, 8.5)


@pytest.mark.parametrize(("values", "p"), [([8.5], 1.0), ([2, 2, 2], 0.0), ([0, 0], 1.0)])
def test_what_student_s_t_says_of_values_without_spread(values, p):
    assert statistics.student_p(values) == p


def test_a_real_difference_is_found():
    difference, cluster = simulated_difference(np.random.default_rng(0))
    measured = statistics.resample_examples(difference + 1.0, cluster, seed=0)
    _, means = statistics.resample_mean([measured], seed=0)
    assert statistics.two_sided_p(means) < 0.001


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=400)
    scores = np.stack([hardness + 0.1 * rng.normal(size=400) for _ in range(2)])
    both = statistics.resample_examples(scores, unknown(400), seed=0)
    paired = statistics.resample_mean([both.take([0]) - both.take([1])], seed=0)[1]
    alone = statistics.resample_mean([both.take([0])], seed=0)[1]
    assert paired.std() < 0.2 * alone.std()


def test_identical_arms_differ_by_nothing():
    rng = np.random.default_rng(0)
    scores = np.tile(rng.random((3, 100)) < 0.9, (2, 1))
    both = statistics.resample_examples(scores, unknown(100), seed=0)
    value, means = statistics.resample_mean([both.take([0, 1, 2]) - both.take([3, 4, 5])], seed=0)
    interval = statistics.estimate(value, means)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)
    assert statistics.two_sided_p(means) == 1


def test_differences_that_cancel_do_not_count_as_shown():
    observed = np.array([0.1, -0.1])
    measured = Measured(observed, np.tile([0.1 + 1e-17, -0.1], (1000, 1)), 1)
    assert statistics.two_sided_p(measured.resampled.sum(axis=1)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 1)])
def test_perfect_scores_have_no_spread(shape):
    interval = interval_of_mean(np.ones(shape), unknown(shape[1]), resamples=200)
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


def test_the_same_seed_gives_the_same_numbers():
    scores, cluster = np.random.default_rng(0).random((2, 50)), np.arange(50) % 5
    once, again, other = (
        statistics.resample_examples(scores, cluster, seed=seed, resamples=50).resampled
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_large_test_sets_are_drawn_in_chunks(monkeypatch):
    scores = np.random.default_rng(0).random((2, 300))
    whole = statistics.resample_examples(scores, unknown(300), seed=0, resamples=64)
    monkeypatch.setattr(statistics, "_CHUNK", 300 * 10)
    chunked = statistics.resample_examples(scores, unknown(300), seed=0, resamples=64)
    np.testing.assert_allclose(chunked.resampled, whole.resampled, rtol=1e-12)


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
