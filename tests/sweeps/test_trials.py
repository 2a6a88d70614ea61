"""Trials: grids are complete, random ones follow their distributions and their seed."""

import math

import numpy as np
import pytest
from scipy import stats

from gru_audio.settings import UserError
from gru_audio.sweeps import trials

RATES = {"optimizer.learning_rate": trials.log_uniform(1e-4, 1e-1)}


def values(points, name):
    return np.array([point[name] for point in points])


def test_a_grid_has_every_combination():
    assert trials.grid({"a": [1, 2], "b": ["x", "y", "z"]}) == [
        {"a": a, "b": b} for a in (1, 2) for b in "xyz"
    ]
    assert trials.grid({}) == [{}]


def test_log_uniform_values_are_uniform_in_their_logarithm():
    drawn = values(trials.random(500, 0, RATES), "optimizer.learning_rate")
    assert drawn.min() >= 1e-4
    assert drawn.max() <= 1e-1
    scaled = (np.log10(drawn) + 4) / 3
    assert stats.kstest(scaled, "uniform").pvalue > 0.05


def test_uniform_values_are_uniform():
    drawn = values(
        trials.random(300, 0, {"model.dropout": trials.uniform(0.1, 0.5)}), "model.dropout"
    )
    assert stats.kstest((drawn - 0.1) / 0.4, "uniform").pvalue > 0.05


def test_choices_are_equally_likely():
    both = {"model.hidden": trials.choice(32, 64, 128)} | RATES
    _, counts = np.unique(values(trials.random(600, 0, both), "model.hidden"), return_counts=True)
    assert stats.chisquare(counts).pvalue > 0.05


def test_trials_follow_from_the_seed_alone():
    assert trials.random(3, 0, RATES) == [
        {"optimizer.learning_rate": rate} for rate in (0.00814, 0.000645, 0.000133)
    ]
    assert trials.random(3, 0, RATES) == trials.random(9, 0, RATES)[:3]
    assert trials.random(3, 0, RATES) != trials.random(3, 1, RATES)


def test_values_are_short():
    for point in trials.random(200, 0, RATES):
        rate = point["optimizer.learning_rate"]
        digits = rate / 10 ** (math.floor(math.log10(rate)) - 2)
        assert digits == pytest.approx(round(digits), abs=1e-9)


def test_no_trial_comes_twice():
    coins = {"a": trials.choice(0, 1), "b": trials.choice(0, 1)}
    points = trials.random(4, 0, coins)
    assert sorted(tuple(point.values()) for point in points) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(UserError, match=r"5 trials were requested, .* only 4"):
        trials.random(5, 0, coins)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (trials.log_uniform, (0.0, 1.0)),
        (trials.log_uniform, (2.0, 1.0)),
        (trials.uniform, (1.0, 1.0)),
        (trials.choice, ()),
    ],
)
def test_distributions_that_cannot_be(make, arguments):
    with pytest.raises(UserError, match="needs"):
        make(*arguments)
