"""The rule for training that stopped while improving, on curves with a known answer."""

import json

import numpy as np
import pytest

from gru_audio.reports.comparison import compare
from gru_audio.reports.context import still_improving, stopped_while_improving
from gru_audio.reports.results import Curve, read_results
from tests.reports.workdirs import Made, write_workdir


def progress_under_cosine(time):
    """The share of the summed learning rate up to a share of the steps."""
    return time + np.sin(np.pi * time) / np.pi


RISING = {
    "straight": lambda t: t,
    "exponential": lambda t: 1 - np.exp(-2 * t),
    "late": lambda t: t**3,
}
FLAT = {
    "never learnt": lambda t: 0 * t,
    "exponential": lambda t: 1 - np.exp(-12 * t),
    "cosine": lambda t: 1 - np.exp(-3 * progress_under_cosine(t)),
    "slow cosine": lambda t: 1 - np.exp(-1.5 * progress_under_cosine(t)),
    "overfitted": lambda t: t * (1.2 - t),
}


def curves(shape, points, replicates, noise, rng):
    time = np.arange(1, points + 1) / points
    steps = (time * 1000).astype(int)
    return [
        Curve(steps, shape(time) + noise * rng.standard_normal(points)) for _ in range(replicates)
    ]


def share(shape, points, replicates, noise, sign=1):
    """Returns how often the rule fires."""
    rng = np.random.default_rng(0)
    fired = []
    for _ in range(200):
        made = curves(lambda t: sign * shape(t), points, replicates, noise, rng)
        fired.append(still_improving(made, higher_is_better=sign > 0))
    return np.mean(fired)


@pytest.mark.parametrize("points", [4, 8, 20, 50])
@pytest.mark.parametrize("shape", RISING)
def test_it_fires_where_curves_rise(shape, points):
    assert share(RISING[shape], points, 3, 0.005) > 0.9
    assert share(RISING[shape], points, 3, 0.005, sign=-1) > 0.9


@pytest.mark.parametrize("points", [4, 8, 20, 50])
@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03])
@pytest.mark.parametrize("shape", FLAT)
def test_it_does_not_fire_where_they_are_flat(shape, noise, points):
    assert share(FLAT[shape], points, 3, noise) < 0.08


def test_too_few_evaluations_tell_nothing():
    rng = np.random.default_rng(0)
    assert not still_improving([], higher_is_better=True)
    assert not still_improving(curves(RISING["straight"], 3, 3, 0, rng), higher_is_better=True)


def test_runs_that_were_stopped_before_their_last_step_do_not_count(tmp_path):
    write_workdir(tmp_path, Made(seeds=3, steps=3000))
    for run in (tmp_path / "runs").iterdir():
        rising = run.name.startswith("gru")
        lines = [
            {"step": step, "validation/loss": 3 - step / 2000 if rising else 1 + step / 5000}
            for step in range(200, 3001, 200)
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = json.loads((run / "result.json").read_text())
        config = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps(config | {"train.steps": 3000}))
        (run / "result.json").write_text(json.dumps(result | {"steps": 3000}))

    def found():
        comparison = compare(read_results(tmp_path))
        return {a.name: stopped_while_improving(comparison.results, a) for a in comparison.variants}

    assert found() == {"gru": True, "lstm": False}
    for run in (tmp_path / "runs").glob("gru-*"):
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"steps": 2000}))
    assert found() == {"gru": False, "lstm": False}
