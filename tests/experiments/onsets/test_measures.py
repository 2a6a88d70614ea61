"""Measures of onsets, against libraries and by brute force."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.metrics import roc_auc_score

from experiments.onsets.measures import area_under_roc, f_measure, matches, near, peaks


def times(rng, count):
    return np.sort(rng.uniform(0, 2, count))


@pytest.mark.parametrize("decimals", [0, 8])  # with ties, and without
def test_area_under_roc(decimals):
    rng = np.random.default_rng(2)
    score, positive = rng.normal(size=200).round(decimals), rng.random(200) < 0.2
    assert area_under_roc(score, positive) == pytest.approx(roc_auc_score(positive, score))


def test_near():
    found = near(np.array([0.0, 0.5, 0.9, 1.3]), np.array([0.6, 1.0]), 0.15)
    assert found.tolist() == [False, True, True, False]
    assert not near(np.array([0.5]), np.zeros(0), 1.0).any()


def test_peaks():
    score = np.array([0, 3, 0, 2, 0, 0, 0, 5, 5, 0])
    assert peaks(score, 1).tolist() == [1, 3, 7]
    assert peaks(score, 3).tolist() == [1, 7]


@pytest.mark.parametrize("seed", range(20))
def test_no_pairing_has_more_matches(seed):
    rng = np.random.default_rng(seed)
    found, onsets = times(rng, rng.integers(30)), times(rng, 25)
    allowed = scipy.sparse.csr_array(np.abs(found[:, None] - onsets) <= 0.05)
    assert matches(found, onsets, 0.05) == (maximum_bipartite_matching(allowed) >= 0).sum()


@pytest.mark.parametrize("seed", range(5))
def test_f_measure_as_mir_eval_has_it(seed):
    mir_eval = pytest.importorskip("mir_eval")
    rng = np.random.default_rng(seed)
    found, onsets = times(rng, 30), times(rng, 20)
    theirs = mir_eval.onset.f_measure(onsets, found, window=0.03)[0]
    assert f_measure(found, onsets, 0.03) == pytest.approx(theirs)


def test_f_measure_of_nothing():
    assert f_measure(np.zeros(0), np.array([1.0]), 0.1) == 0
    assert f_measure(np.array([1.0]), np.zeros(0), 0.1) == 0
