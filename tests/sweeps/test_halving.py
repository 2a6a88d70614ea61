"""Successive halving: the recorded values alone determine the dropped trials."""

import math

import numpy as np
import pytest

from gru_audio.settings import UserError
from gru_audio.sweeps.halving import Halving, SuccessiveHalving, rank_trials

THIRD = Halving(rungs=(10, 20), keep=1 / 3)


def competition(trials, replicates, variants=("GRU",), halving=THIRD, higher_is_better=False):
    members = [(a, d) for a in variants for d in range(trials) for _ in range(replicates)]
    return SuccessiveHalving(
        halving, [a for a, _ in members], [d for _, d in members], higher_is_better
    )


def test_the_worse_trials_lose_by_their_mean_over_replicates():
    of_nine = competition(trials=9, replicates=2)
    best = np.random.default_rng(0).normal(size=(9, 2))
    kept = np.argsort(best.mean(axis=1))[:3]
    pruned = of_nine.pruned(10, best.ravel().tolist(), [0] * 18)
    assert pruned == [2 * d + r for d in range(9) if d not in kept for r in (0, 1)]

    dropped = [10 if m in pruned else 0 for m in range(18)]
    again = of_nine.pruned(20, best.ravel().tolist(), dropped)
    assert sorted({m // 2 for m in again} ^ set(kept)) == [kept[0]]
    for step in (9, 11, 19, 30):
        assert of_nine.pruned(step, best.ravel().tolist(), [0] * 18) == []


def test_of_accuracies_the_highest_stay():
    of_three = competition(trials=3, replicates=1, higher_is_better=True)
    assert of_three.pruned(10, [0.1, 0.9, 0.5], [0, 0, 0]) == [0, 2]


def test_variants_do_not_compete_with_each_other():
    two = competition(trials=3, replicates=1, variants=("GRU", "LSTM"))
    assert two.pruned(10, [0.1, 0.2, 0.3, 9.1, 9.3, 9.2], [0] * 6) == [1, 2, 4, 5]


def test_a_trial_that_lost_a_replicate_ranks_last():
    of_three = competition(trials=3, replicates=2)
    assert of_three.pruned(10, [0.1, None, 0.7, 0.9, 0.8, 0.9], [0] * 6) == [0, 1, 4, 5]
    assert of_three.pruned(10, [None] * 6, [0] * 6) == [2, 3, 4, 5]


def test_of_equals_the_first_stays():
    assert competition(trials=3, replicates=1).pruned(10, [0.5, 0.5, 0.5], [0] * 3) == [1, 2]


@pytest.mark.parametrize(
    ("trials", "keep", "survivors"),
    [(64, 1 / 4, 16), (16, 1 / 4, 4), (27, 1 / 3, 9), (81, 1 / 3, 27), (10, 1 / 4, 2), (2, 0.1, 1)],
)
def test_how_many_survive(trials, keep, survivors):
    assert Halving((1,), keep).survivors(trials) == survivors


def test_trials_are_ranked_by_replicates_then_mean():
    assert rank_trials([0.5, 0.3], False) > rank_trials([0.5, 0.4], False)
    assert rank_trials([0.5, 0.3], True) < rank_trials([0.5, 0.4], True)
    assert (
        rank_trials([0.5, 0.4], False)
        > rank_trials([0.1, math.nan], False)
        > rank_trials([None, None], False)
    )


@pytest.mark.parametrize(
    ("rungs", "keep", "message"),
    [
        ((), 0.5, "ascending"),
        ((0, 5), 0.5, "ascending"),
        ((10, 5), 0.5, "ascending"),
        ((5, 5), 0.5, "ascending"),
        ((5,), 0.0, "keep=0.0"),
        ((5,), 1, "keep=1"),
    ],
)
def test_halvings_that_cannot_be(rungs, keep, message):
    with pytest.raises(UserError, match=message):
        Halving(rungs, keep)


def test_rungs_must_be_looked_at_and_before_the_end():
    THIRD.check(max_steps=30, eval_every=5)
    with pytest.raises(UserError, match=r"last rung, 20, must be below config\.train\.steps=20"):
        THIRD.check(max_steps=20, eval_every=5)
    with pytest.raises(UserError, match=r"rung 10 must be a multiple of .*eval_every=4"):
        THIRD.check(max_steps=30, eval_every=4)
