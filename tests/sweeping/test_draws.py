"""Draws: grids are complete, random ones follow their distributions and their seed."""

import math

import numpy as np
import pytest
from scipy import stats

from gru_audio.settings import UserError
from gru_audio.sweeping import draws

RATES = {"optimizer.learning_rate": draws.log_uniform(1e-4, 1e-1)}


def values(points, name):
    return np.array([point[name] for point in points])


def test_a_grid_has_every_combination():
    assert draws.grid({"a": [1, 2], "b": ["x", "y", "z"]}) == [
        {"a": a, "b": b} for a in (1, 2) for b in "xyz"
    ]
    assert draws.grid({}) == [{}]


def test_log_uniform_values_are_uniform_in_their_logarithm():
    drawn = values(draws.random(500, 0, RATES), "optimizer.learning_rate")
    assert drawn.min() >= 1e-4
    assert drawn.max() <= 1e-1
    scaled = (np.log10(drawn) + 4) / 3
    assert stats.kstest(scaled, "uniform").pvalue > 0.05


def test_uniform_values_are_uniform():
    drawn = values(
        draws.random(300, 0, {"model.dropout": draws.uniform(0.1, 0.5)}), "model.dropout"
    )
    assert stats.kstest((drawn - 0.1) / 0.4, "uniform").pvalue > 0.05


def test_choices_are_equally_likely():
    both = {"model.hidden": draws.choice(32, 64, 128)} | RATES
    _, counts = np.unique(values(draws.random(600, 0, both), "model.hidden"), return_counts=True)
    assert stats.chisquare(counts).pvalue > 0.05


def test_draws_follow_from_the_seed_alone():
    assert draws.random(3, 0, RATES) == [
        {"optimizer.learning_rate": rate} for rate in (0.00814, 0.000645, 0.000133)
    ]
    assert draws.random(3, 0, RATES) == draws.random(9, 0, RATES)[:3]
    assert draws.random(3, 0, RATES) != draws.random(3, 1, RATES)


def test_values_are_short():
    for point in draws.random(200, 0, RATES):
        rate = point["optimizer.learning_rate"]
        digits = rate / 10 ** (math.floor(math.log10(rate)) - 2)
        assert digits == pytest.approx(round(digits), abs=1e-9)


def test_no_draw_comes_twice():
    coins = {"a": draws.choice(0, 1), "b": draws.choice(0, 1)}
    points = draws.random(4, 0, coins)
    assert sorted(tuple(point.values()) for point in points) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(UserError, match="5 draws were asked for, and only 4 different ones"):
        draws.random(5, 0, coins)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (draws.log_uniform, (0.0, 1.0)),
        (draws.log_uniform, (2.0, 1.0)),
        (draws.uniform, (1.0, 1.0)),
        (draws.choice, ()),
    ],
)
def test_distributions_that_cannot_be(make, arguments):
    with pytest.raises(UserError, match="needs"):
        make(*arguments)
