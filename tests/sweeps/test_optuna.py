"""A search by TPE: better than random on a known function, and the same trials every time."""

import json
import math

import numpy as np
import pytest

from gru_audio.config import default_config
from gru_audio.settings import UserError
from gru_audio.sweeps import trials
from gru_audio.sweeps.optuna import Outcome, Search
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.shard import Shard
from gru_audio.sweeps.sweep import Sweep, expand, group
from tests.tones import tiny

pytest.importorskip("optuna")

RATE, DROPOUT, CELL = "optimizer.learning_rate", "model.dropout", "model.cell"
SPACE = {
    RATE: trials.log_uniform(1e-4, 1e-1),
    DROPOUT: trials.uniform(0.0, 0.5),
    CELL: trials.choice("gru", "lstm", "rnn"),
}


def score(trial):
    """Least, 0, at a learning rate of 0.005 and a dropout of 0.2 with an LSTM."""
    rate, dropout = math.log10(trial[RATE] / 0.005), trial[DROPOUT] - 0.2
    return rate**2 + 4 * dropout**2 + 0.3 * (trial[CELL] != "lstm")


def searched(seed, count=48, per_round=8, outcome=lambda trial: Outcome(score(trial))):
    """All trials of a search, by round."""
    rounds, outcomes = [], {}
    while len(rounds) < -(-count // per_round):
        search = Search(count, per_round, seed, SPACE, outcomes)
        known, rounds = rounds, search.trials("GRU")
        assert rounds[:-1] == known  # it does not forget
        outcomes = {"GRU": [[outcome(trial) for trial in each] for each in rounds]}
    return rounds


def test_it_finds_the_least_value_of_a_known_function():
    """Its later rounds are far better than random ones, for several seeds."""
    first, last, found, by_chance = [], [], [], []
    for seed in range(2):
        rounds = searched(seed)
        scores = [[score(trial) for trial in each] for each in rounds]
        assert [len(each) for each in rounds] == [8] * 6
        first.append(np.mean(scores[0]))
        last.append(np.mean(scores[-2:]))
        found.append(np.min(scores))
        by_chance.append(min(map(score, trials.random(48, seed, SPACE))))
    assert np.mean(last) < 0.6 * np.mean(first)
    assert np.mean(found) < np.mean(by_chance)


def test_trials_follow_from_seed_and_scores_alone():
    assert searched(0, 20) == searched(0, 20)
    assert [len(each) for each in searched(0, 20)] == [8, 8, 4]
    assert searched(0, 16)[0] == searched(0, 16, outcome=lambda trial: Outcome(1.0))[0]
    assert searched(0, 16)[1] != searched(0, 16, outcome=lambda trial: Outcome(-score(trial)))[1]
    assert searched(0, 8) != searched(1, 8)


def test_failed_and_dropped_trials_are_bad_ones():
    """Without a value at a high learning rate, or dropped there, low rates are preferred."""
    for bad in (Outcome(None), Outcome(5.0, dropped_at=10)):
        rates = [
            trial[RATE]
            for seed in range(3)
            for trial in searched(
                seed, 32, outcome=lambda t, bad=bad: bad if t[RATE] > 0.003 else Outcome(score(t))
            )[-1]
        ]
        assert np.mean(np.array(rates) > 0.003) < 0.35  # 0.49 of the first round


def test_values_are_those_of_the_distributions():
    points = [trial for each in searched(3) for trial in each]
    assert all(1e-4 <= point[RATE] <= 1e-1 and 0 <= point[DROPOUT] <= 0.5 for point in points)
    assert {point[CELL] for point in points} == {"gru", "lstm", "rnn"}
    assert all(point[RATE] == float(f"{point[RATE]:.3g}") for point in points)
    assert len({json.dumps(point) for point in points}) == len(points)


def test_what_cannot_be_searched():
    with pytest.raises(UserError, match="must be at least 1"):
        Search(0, 1, 0, SPACE)
    with pytest.raises(UserError, match=r"model\.hidden must be log_uniform"):
        Search(1, 1, 0, {"model.hidden": [1, 2]})
    few = Search(5, 5, 0, {CELL: trials.choice("gru", "lstm")})
    with pytest.raises(UserError, match=r"5 trials were requested, .* only 2 different"):
        few.trials("GRU")


def test_a_round_trains_in_as_few_programs_as_can_be():
    """One for each cell. A variant has its own trials, and a round its own groups."""
    search = Search(16, 8, 0, SPACE, {"GRU": [[Outcome(0.1 * i) for i in range(8)]]})
    sweep = Sweep({"GRU": {}, "wide": {"model.hidden": 128}}, search, [{"seed": 0}, {"seed": 1}])
    runs = expand(default_config(), sweep)
    assert [run.round for run in runs] == [1] * 16 + [2] * 16 + [1] * 16
    groups = group(runs)
    assert [g.runs[0].round for g in groups] == sorted(run_round(g) for g in groups)
    for of_group in groups:
        assert len({(run.round, run.config.model.cell) for run in of_group.runs}) == 1
        assert of_group.name.endswith(f"-round{run_round(of_group)}")


def run_round(of_group):
    return of_group.runs[0].round


def test_a_search_has_no_shards(data_dir):
    config = tiny({"data.dir": str(data_dir)})
    with pytest.raises(UserError, match="leave out --shard"):
        plan(config, Sweep({"GRU": {}}, Search(4, 2, 0, SPACE)), "t", "", "", Shard(1, 2))
