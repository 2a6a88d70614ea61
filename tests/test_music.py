"""The commands on a data set that is no sound: from a MATLAB file to a report."""

import json

import pytest

from tests import sounds
from tests.commands import run

MARGINAL = 11.09  # nats per frame, of whoever knows how often each key sounds and no more

EXPERIMENT = '''"""JSB Chorales at the sizes of Chung et al. 2014, for a moment."""

from gru_audio.config import default_config, override
from gru_audio.sweeps.sweep import Sweep


def get_config():
    changes = {
        "data.name": "jsb_chorales",
        "data.target": "",
        "data.buckets": 1,
        "frontend.name": "frames",
        "frontend.normalise": False,
        "task.name": "next_step",
        "model.output_bias": -3.0,
        "model.recurrent_init": "uniform",  # compiles faster than the default
        "optimizer.name": "rmsprop",
        "optimizer.schedule": "constant",
        "optimizer.warmup_steps": 0,
        "optimizer.learning_rate": 2.5e-3,
        "train.batch_size": 8,
        "train.weight_noise": 0.075,
        "train.steps": 120,
        "train.eval_every": 60,
        "parallel.member": 1,
    }
    return override(default_config(), changes)


def get_sweep(config):
    variants = {
        "GRU": {"model.cell": "gru_reset_before", "model.hidden": 46},
        "LSTM": {"model.cell": "lstm_peephole", "model.hidden": 36},
    }
    return Sweep(variants, replicates=[{"seed": 0}])
'''


@pytest.fixture(scope="module")
def prepared(environment, tmp_path_factory):
    """An environment in which `prepare` has prepared the published chorales."""
    archive = sounds.archive("polyphonic-music/JSB_Chorales.mat")
    environment = environment | {"GRU_AUDIO_DATA": str(tmp_path_factory.mktemp("prepared"))}
    shown = run(environment, "prepare", "jsb_chorales", "--archive", archive).stdout
    assert "clips: 382, 23,134 frames" in shown
    assert "by sha256" in shown
    assert "hours" not in shown
    return environment


@pytest.fixture(scope="module")
def workdir(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "music.py").write_text(EXPERIMENT)
    run(prepared, "sweep", "--config", folder / "music.py", "--workdir", folder / "workdir")
    return folder / "workdir"


@pytest.fixture(scope="module")
def results(workdir):
    return {
        path.parent.name: json.loads(path.read_text())
        for path in (workdir / "runs").glob("*/result.json")
    }


def test_a_short_sweep_learns_more_than_how_often_keys_sound(results):
    assert results.keys() == {"GRU-seed0", "LSTM-seed0"}
    for name, result in results.items():
        assert 8 < result["metrics"]["test"]["loss"] < MARGINAL - 0.3, name


def test_the_report_compares_the_arms(workdir, results):
    page = (workdir / "report" / "index.html").read_text()
    table = (workdir / "report" / "table.md").read_text()
    assert "JSB Chorales at the sizes of Chung et al. 2014" in page
    for name, result in results.items():
        assert name.partition("-")[0] in table
        assert f"{result['metrics']['test']['loss']:.3f}" in table


def test_evaluate_gives_what_the_sweep_gave(prepared, workdir, results):
    flags = ["--workdir", workdir, "--run", "LSTM-seed0"]
    shown = json.loads(run(prepared, "evaluate", *flags, "--json").stdout)
    assert shown["classes"] == []
    expected = results["LSTM-seed0"]["metrics"]["test"]["loss"]
    assert shown["metrics"] == {"loss": pytest.approx(expected, rel=1e-5)}


def test_predict_says_that_there_are_no_labels(prepared, workdir, tmp_path):
    (tmp_path / "tone.wav").write_bytes(sounds.encode(sounds.tone()))
    flags = ["--workdir", workdir, "--run", "GRU-seed0", tmp_path / "tone.wav"]
    refused = run(prepared, "predict", *flags, code=2)
    assert refused.stderr.splitlines() == [
        "error: GRU-seed0 predicts no labels, text, events: config.task.name=next_step. "
        "`evaluate` scores it."
    ]
