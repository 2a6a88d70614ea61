"""A search by TPE that is killed in its second round, and resumed to the same trials."""

import json

import pytest

from tests.commands import assert_same_leavings, leavings, run, running, wait

EXPERIMENT = '''"""Tones: a search for a learning rate."""

from gru_audio.sweeps import trials
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.optuna import Search
from gru_audio.sweeps.sweep import Sweep
from tests.tones import tiny


def get_config():
    return tiny({"train.steps": 20, "train.eval_every": 5, "checkpoint.every_steps": 5})


def get_sweep(config):
    rates = {"optimizer.learning_rate": trials.log_uniform(1e-4, 1e-1)}
    search = Search(6, per_round=3, seed=0, distributions=rates)
    halving = Halving(rungs=(10,), keep=1 / 3)
    return Sweep({"GRU": {}}, search, [{"seed": 0}, {"seed": 1}], halving)
'''


def planned_runs(workdir):
    return json.loads((workdir / "sweep.json").read_text())["runs"]


def test_a_killed_search_goes_on_with_the_same_trials(environment, tmp_path):
    pytest.importorskip("optuna")
    experiment = tmp_path / "search.py"
    experiment.write_text(EXPERIMENT)
    command = ["sweep", "--config", experiment, "--workdir"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with running(environment, *command, killed) as process:
        wait(process, lambda: list(killed.glob("groups/*-round2/metrics/*.jsonl")))
        process.kill()
    assert len(planned_runs(killed)) == 12
    resumed = run(environment, *command, killed)
    assert "round 2 of 2" in resumed.stdout and "12 runs in 2 programs" in resumed.stdout
    run(environment, *command, whole)
    assert planned_runs(killed) == planned_runs(whole)
    assert_same_leavings(killed, leavings(whole))
    rates = [entry["trial"]["optimizer.learning_rate"] for entry in planned_runs(whole)]
    assert len(set(rates)) == 6
