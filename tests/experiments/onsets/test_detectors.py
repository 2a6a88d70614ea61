"""Onset detectors against librosa and by hand, and the choice among them."""

import itertools

import librosa
import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.metrics import roc_auc_score

from experiments.onsets.detectors import (
    F1,
    Auc,
    Detector,
    Recording,
    area_under_roc,
    f_measure,
    matches,
    near,
    peaks,
    rise,
)

DETECTORS = [
    Detector(sign, span, 1, lag, column)
    for sign, span, lag, column in itertools.product((1, -1), (0, 1), (0, 2), (0, 1))
]


@pytest.mark.parametrize("span", [1, 3])
def test_the_rise_over_bands_is_librosas_spectral_flux(span):
    levels = np.random.default_rng(0).normal(size=(20, 6))
    theirs = librosa.onset.onset_strength(S=levels.T, lag=span, center=False)
    np.testing.assert_allclose(Detector(span=span)(levels), theirs, rtol=1e-6, atol=1e-6)


def test_a_rise_over_more_frames_than_there_are():
    np.testing.assert_array_equal(rise(np.array([3.0, 5.0, 1.0]), 4), [0, 0, 0])


def test_a_detector_frame_by_frame():
    levels = np.random.default_rng(1).normal(size=(12, 3))
    detector = Detector(sign=-1, span=2, smooth=3, lag=1, column=2)
    found = detector(levels)
    for t in range(3, 9):
        around = [max(levels[i - 2, 2] - levels[i, 2], 0) for i in (t, t + 1, t + 2)]
        assert found[t] == pytest.approx(np.mean(around))


def test_a_lag_finds_what_comes_late():
    onset = np.zeros((30, 1))
    onset[10] = 1
    late, early = np.roll(onset, 3), np.roll(onset, -3)
    np.testing.assert_array_equal(Detector(lag=3)(late), onset[:, 0])
    np.testing.assert_array_equal(Detector(lag=-3)(early), onset[:, 0])


def recordings(seed, count=3, frames=200):
    """Recordings whose second level falls two frames after every onset; the first is noise."""
    rng = np.random.default_rng(seed)
    found, levels = [], []
    for _ in range(count):
        at = np.arange(10, frames - 10, 20) + rng.integers(5, size=(frames - 20) // 20)
        found.append(Recording(np.arange(frames) / 100, at / 100))
        both = rng.normal(size=(frames, 2))
        both[:, 1] *= 0.01
        both[at + 2, 1] -= 1
        levels.append(both)
    return levels, found


MEASURES = [Auc(0.004), F1(0.004, 3, tuple(np.linspace(0, 0.99, 300)))]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_detector_is_chosen_that_tells_the_onsets(measure):
    levels, found = recordings(0)
    choice = measure.choose(DETECTORS, levels, found)
    assert (choice.detector.sign, choice.detector.lag, choice.detector.column) == (-1, 2, 1)
    assert choice.value == pytest.approx(1)
    np.testing.assert_allclose(measure.of(choice, levels, found), 1)
    np.testing.assert_allclose(measure.of(choice, *recordings(1)), 1)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_choice_is_measured_as_it_was_made(measure):
    levels, found = recordings(2)
    choice = measure.choose(DETECTORS[:1], levels, found)
    assert choice.detector == DETECTORS[0]
    assert choice.value == pytest.approx(measure.of(choice, levels, found).mean())
    assert choice.value < 0.7  # the level that is noise


def test_a_level_without_peaks_finds_nothing():
    _, found = recordings(3)
    flat = [np.zeros((200, 1)) for _ in found]
    choice = MEASURES[1].choose([Detector()], flat, found)
    assert choice.value == 0
    assert not MEASURES[1].of(choice, flat, found).any()


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


def test_f_measure():
    """By hand: two of four found times match one of three onsets: precision 1/2, recall 2/3."""
    found, onsets = np.array([0.1, 0.5, 0.51, 2.0]), np.array([0.12, 0.5, 1.0])
    assert f_measure(found, onsets, 0.03) == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert f_measure(np.zeros(0), np.zeros(0), 0.03) == 0
