"""Comparison across data sets: against SciPy, and by hand."""

import csv

import numpy as np
import pytest
from scipy import stats

from gru_audio.reports.across import across, probability_of_improvement
from gru_audio.reports.overview import write_overview
from gru_audio.settings import UserError
from tests.reports.workdirs import Made, write_workdir

RNG = np.random.default_rng(0)


def test_one_data_set_gives_the_statistic_of_mann_and_whitney():
    first, second = RNG.integers(0, 6, 7).astype(float), RNG.integers(0, 6, 5).astype(float)
    statistic = stats.mannwhitneyu(first, second).statistic
    found = probability_of_improvement([(first, second)])
    assert found.value == pytest.approx(statistic / 35)
    assert found.low < found.value < found.high


def test_data_sets_weigh_equally_and_the_interval_covers():
    always = np.array([3.0, 4.0]), np.array([1.0, 2.0])
    never = np.array([0.0] * 5), np.array([1.0] * 9)
    assert probability_of_improvement([always, never]).value == 0.5
    found = probability_of_improvement([always])
    assert (found.value, found.low, found.high) == (1, 1, 1)
    true = stats.norm.cdf(0.5 / np.sqrt(2))
    covered = 0
    for _ in range(100):
        pairs = [(RNG.normal(0.5, 1, 10), RNG.normal(0, 1, 10)) for _ in range(4)]
        found = probability_of_improvement(pairs)
        covered += found.low <= true <= found.high
    assert covered >= 86


def test_mean_ranks_and_pairs():
    one, two, three = (np.array([value, value + 1]) for value in (1.0, 5.0, 9.0))
    scores = {
        "a": {"gru": three, "lstm": two, "rnn": one},
        "b": {"gru": two, "lstm": two, "rnn": one},
        "c": {"rnn": three, "lstm": one, "gru": two, "tcn": one},
        "d": {"tcn": one, "other": two},
    }
    found = across(scores)
    assert found.sweeps == ("a", "b", "c")
    assert {name: ranks.tolist() for name, ranks in found.ranks.items()} == {
        "gru": [1, 1.5, 2],
        "lstm": [2, 1.5, 3],
        "rnn": [3, 3, 1],
    }
    assert list(found.ranks) == ["gru", "lstm", "rnn"]
    of = {(each.first, each.second): each for each in found.improvements}
    assert of.keys() == {("gru", "lstm"), ("gru", "rnn"), ("lstm", "rnn")}
    assert of["gru", "lstm"].probability.value == pytest.approx((1 + 0.5 + 1) / 3)
    assert of["lstm", "rnn"].sweeps == 3
    assert not across({"a": scores["a"], "d": scores["d"]}).ranks


def test_a_page_of_all_sweeps(tmp_path):
    for seed, name in enumerate(("digits", "speech/one")):
        write_workdir(tmp_path / name, Made(variants={"gru": 6.0, "l<s>tm": 2.0}), seed)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text("{")
    page = write_overview(tmp_path)
    assert page == tmp_path / "overview" / "index.html"
    text = page.read_text()
    for words in (
        "2 sweeps",
        "digits",
        "speech/one",
        "l&lt;s&gt;tm",
        "Not read",
        "gru over l&lt;s",
    ):
        assert words in text
    with (page.parent / "ranks.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["Variant", "digits", "speech/one", "Mean rank"],
            ["gru", "1", "1", "1.00"],
            ["l<s>tm", "2", "2", "2.00"],
        ]
    assert r"\toprule" in (page.parent / "ranks.tex").read_text()
    with pytest.raises(UserError, match="There are no workdirs"):
        write_overview(tmp_path / "overview")
