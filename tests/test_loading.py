"""`gru_audio.load`: the model of a run from the workdir of a sweep, or from an export."""

import json
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

import gru_audio
from gru_audio.config import flatten
from gru_audio.exports import FORMATS
from gru_audio.exports.delivery import deliver
from gru_audio.exports.function import make_function
from gru_audio.inference.trained_model import TrainedModel, load_model
from gru_audio.settings import UserError
from gru_audio.sweeps.execute import execute
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.sweep import Sweep
from gru_audio.sweeps.workdir import Workdir
from tests.tones import RATE, tiny


@pytest.fixture(scope="module")
def workdir(data_dir, tmp_path_factory):
    """A finished sweep of two runs."""
    folder = tmp_path_factory.mktemp("sweep")
    config = tiny({"data.dir": str(data_dir)})
    sweep = Sweep({"GRU": {}}, trials=[{"optimizer.learning_rate": rate} for rate in (1e-5, 0.01)])
    execute(plan(config, sweep, "tones", "About tones.", "the command"), Workdir(folder))
    return folder


def result(workdir, run):
    return json.loads((workdir / "runs" / run / "result.json").read_text())


def exported(workdir, run, form, folder):
    model = Workdir(workdir).model(run)
    function, (_, description) = (
        make_function(TrainedModel.load(model), "features"),
        load_model(model),
    )
    deliver(function, FORMATS[form], epath.Path(folder), 1e-5, description, None, {})
    return folder


def test_the_best_run_on_validation_is_loaded(workdir):
    runs = [path.name for path in (workdir / "runs").iterdir()]
    losses = {run: result(workdir, run)["metrics"]["validation"]["loss"] for run in runs}
    assert len(set(losses.values())) == 2
    best, worst = sorted(losses, key=losses.__getitem__)
    assert gru_audio.load(workdir).run == best
    assert gru_audio.load(str(workdir), run=worst).run == worst


def test_its_metrics_are_those_of_the_test_split(workdir):
    model = gru_audio.load(workdir)
    stored = result(workdir, model.run)["metrics"]["test"]
    assert model.metrics.keys() == stored.keys()
    for name, score in model.metrics.items():
        assert score.value == pytest.approx(stored[name], abs=1e-5)
        assert score.low <= score.value <= score.high


def test_the_licence_of_the_data_comes_with_the_model(workdir):
    assert gru_audio.load(workdir).trained.about["licence"].startswith("unknown, ask")


def test_a_copied_model_needs_no_sweep(workdir, tmp_path, source):
    model = gru_audio.load(workdir)
    model.trained.save(Workdir(tmp_path).model(model.run))
    sound = source.signals([0])[0]
    for copied in (gru_audio.load(tmp_path), gru_audio.load(Workdir(tmp_path).model(model.run))):
        assert flatten(copied.trained.config) == flatten(model.trained.config)
        np.testing.assert_array_equal(
            copied.probabilities(sound, RATE), model.probabilities(sound, RATE)
        )
        assert copied.metrics == {}


def test_an_export_of_safetensors(workdir, tmp_path, source):
    pytest.importorskip("safetensors", reason="needs the extra [export]")
    model = gru_audio.load(workdir)
    loaded = gru_audio.load(exported(workdir, model.run, "safetensors", tmp_path / "out"))
    assert repr(loaded) == repr(model)
    sound = source.signals([0])[0]
    np.testing.assert_allclose(
        loaded.probabilities(sound, RATE), model.probabilities(sound, RATE), atol=1e-6
    )


def test_other_exports_are_for_other_programs(workdir, tmp_path):
    pytest.importorskip("flatbuffers", reason="needs the extra [export]")
    folder = exported(workdir, gru_audio.load(workdir).run, "stablehlo", tmp_path / "out")
    with pytest.raises(UserError, match=r"format stablehlo, .* Only --format safetensors"):
        gru_audio.load(folder)


def test_what_is_missing(workdir, tmp_path):
    with pytest.raises(UserError, match="No finished run in"):
        gru_audio.load(tmp_path / "nothing")
    with pytest.raises(UserError, match=r'run "GRU" in .* Valid: GRU-learning_rate0\.01'):
        gru_audio.load(workdir, "GRU")
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(UserError, match=r"model\.json cannot be read"):
        gru_audio.load(tmp_path)
    with pytest.raises(UserError, match=r"experiment file .*none\.py cannot be read"):
        gru_audio.load(workdir, experiment=tmp_path / "none.py")


def test_the_import_is_instant():
    heavy = "jax", "numpy", "flax", "scipy", "tensorflow_datasets"
    code = f"import sys, gru_audio; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        gru_audio.laod  # noqa: B018
