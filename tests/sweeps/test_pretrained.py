"""Runs that begin with trained models: what they keep, what is refused, and what a resume needs."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath

from gru_audio.config import override
from gru_audio.data.fields import ClassField, TextField
from gru_audio.exports import FORMATS
from gru_audio.exports.delivery import deliver
from gru_audio.exports.function import make_function
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError
from gru_audio.sweeps.execute import execute
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.pretrained import begin, begin_group, digest, read_sources, source_of
from gru_audio.sweeps.sweep import Sweep, expand
from gru_audio.sweeps.workdir import Workdir
from gru_audio.training.init import TARGET
from gru_audio.training.program import make_program
from tests.exports.models import NAMES, description, made
from tests.tones import assert_same, member, tiny

SOURCE = {"init.source": "runs/x:GRU-seed0"}
OUTPUT = "params/head/output/kernel"


def start_and_note(model, changes=(), field=None):
    """What a run with the config of a model, and these changes, takes from it."""
    config = override(model.config, {**SOURCE, **dict(changes)})
    return begin(config, make_program(config, model.signal, field or model.field), model)


def test_all_of_an_equal_model_is_kept():
    model = made({"model.layers": 2, "model.dense": ("3 relu",)})
    start, note = start_and_note(model)
    assert start.known.all()
    weights = start.replaced(jax.tree.map(np.zeros_like, model.weights))
    assert_same(weights, model.weights)
    assert_same(start.normalisation, model.normalisation)
    assert note == (
        "begins with the weights of runs/x:GRU-seed0 (one): kept 3 of 3 classes; normalisation of "
        "the source"
    )


def test_batch_norm_comes_along():
    model = made({"model.name": "crnn", "model.conv": ("2 3x3",)})
    start, _ = start_and_note(model)
    assert "model_state/batch_stats/front/norm_0/mean" in start.arrays


def test_classes_are_kept_by_name():
    """In any order and among others."""
    model, names = made(), ("new", NAMES[2], NAMES[0], "other")
    start, note = start_and_note(model, field=ClassField(names))
    assert start.known.tolist() == [False, True, True, False]
    output = model.weights.params["head"]["output"]["kernel"]
    np.testing.assert_array_equal(start.arrays[OUTPUT][:, 1], output[:, 2])
    np.testing.assert_array_equal(start.arrays[OUTPUT][:, 2], output[:, 0])
    assert "kept 2 of 4 classes" in note


def test_the_blank_of_ctc_is_an_output_as_any_other():
    model = made({"task.name": "ctc", "model.bidirectional": True})
    start, note = start_and_note(model, field=TextField("bcd"))
    assert start.known.tolist() == [True, True, False, False]
    assert "kept 2 of 4 outputs" in note


def test_another_task_has_a_new_head():
    model = made({"task.name": "ctc"})
    changes = {"task.name": "classification", "model.pooling": "max", "model.dense": ("4 relu",)}
    start, note = start_and_note(model, changes, ClassField(NAMES))
    assert not start.known.any()
    assert not [name for name in start.arrays if "head" in name]
    assert "kept 0 of 3 classes and no layer of the head" in note


def test_statistics_of_the_new_data():
    start, note = start_and_note(made(), {"init.normalisation": TARGET})
    assert start.normalisation is None
    assert note.endswith("normalisation of the target")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.hidden": 6}, "config.model.hidden is 5 there and 6 here. Set them as they"),
        ({"model.cell": "lstm"}, "config.model.cell is gru there and lstm here"),
        ({"model.cell": "gru_reset_before"}, "is gru there and gru_reset_before here"),
        ({"frontend.mels": 20, "model.layers": 2}, "mels is 40 .*config.model.layers is 1"),
        ({"frontend.normalise": False}, "config.frontend.normalise is True there"),
        ({"model.name": "tcn"}, "config.model.name is rnn_classifier there and tcn here"),
    ],
)
def test_another_model_is_refused_with_the_keys_that_differ(changes, message):
    with pytest.raises(UserError, match=rf"config.init.source=runs/x:GRU-seed0 .*{message}"):
        start_and_note(made(), changes)


def test_numbers_of_training_may_differ():
    model = made()
    changes = {"model.dropout": 0.5, "model.recurrent_init": "uniform", "model.output_bias": 1.0}
    assert start_and_note(model, changes)[0].known.all()


def test_another_sample_rate_is_refused():
    model = made()
    signal = dataclasses.replace(model.signal, rate=16000)
    with pytest.raises(UserError, match=r"on sound at 16000 Hz, .* --sample_rate 16000"):
        begun_on = override(model.config, SOURCE)
        program = make_program(begun_on, model.signal, model.field)
        begin(begun_on, program, dataclasses.replace(model, signal=signal))


def test_weights_of_another_shape_are_refused():
    """A damaged or foreign model, whose config agrees."""
    model = made()
    model.weights.params["encoder"]["forward_0"]["input_bias"] = np.zeros(99, np.float32)
    with pytest.raises(UserError, match=r"input_bias is of shape \(99,\) there and of shape"):
        start_and_note(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init.freeze": ("encodr",)}, 'no part is "encodr". Did you mean "encoder"?'),
        ({"init.freeze": ("forward_0",)}, 'no part is "forward_0"'),
        ({"init.freeze": ("encoder", "head")}, "leaves nothing to train"),
        ({"init.front_rate": 0.1}, "config.model.name=rnn_classifier has no front: set it to 1"),
    ],
)
def test_parts_that_do_not_exist(changes, message):
    model = made()
    config = override(model.config, changes)
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        begin_group([config], make_program(config, model.signal, model.field), {})


def test_a_random_encoder_may_be_frozen():
    model = made()
    config = override(model.config, {"init.freeze": ("encoder",)})
    program = make_program(config, model.signal, model.field)
    assert begin_group([config], program, {}) == (None, [])


def test_each_seed_has_its_source():
    model = made()
    changes = {"init.source": "runs/x:GRU-seed{seed}"}
    configs = [override(model.config, changes | {"seed": seed}) for seed in (0, 7)]
    assert [source_of(config) for config in configs] == ["runs/x:GRU-seed0", "runs/x:GRU-seed7"]
    other = dataclasses.replace(model, weights=jax.tree.map(np.negative, model.weights))
    sources = dict(zip(map(source_of, configs), (model, other), strict=True))
    program = make_program(configs[0], model.signal, model.field)
    start, notes = begin_group(configs, program, sources)
    assert_same(member(start, 0), begin(configs[0], program, model)[0])
    assert_same(member(start, 1), begin(configs[1], program, other)[0])
    assert "seed7" in notes[1]
    narrow = made({"model.dense": ("3 relu",)})
    with pytest.raises(UserError, match="must have the same layers"):
        begin_group(configs, program, sources | {source_of(configs[1]): narrow})


def write_run(root, name, model):
    model.save(Workdir(root).model(name))


def sources(path, workdir=None):
    config = tiny({"init.source": str(path)})
    return read_sources(expand(config, Sweep({"GRU": {}})), workdir)


def test_a_run_and_its_export_are_the_same_source(tmp_path):
    pytest.importorskip("safetensors", reason="needs the extra [export]")
    model = made()
    write_run(tmp_path / "x", "GRU", model)
    function = make_function(model, "features")
    exported = tmp_path / "exported"
    deliver(
        function, FORMATS["safetensors"], epath.Path(exported), 1e-6, description(model), None, {}
    )
    paths = (f"{tmp_path}/x:GRU", exported, exported / "model.safetensors")
    found = [*(sources(path)[str(path)] for path in paths)]
    assert len({digest(each) for each in (*found, model)}) == 1
    renamed = dataclasses.replace(model, field=ClassField((*NAMES[:2], "highest")))
    assert digest(renamed) != digest(model)
    (exported / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(UserError, match=r"config.init.source=.*cannot be used"):
        sources(exported)


def test_sources_that_do_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"no\.safetensors: .*does not exist"):
        sources(tmp_path / "no.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"config.init.source=.*sweep.json is missing"):
        sources(tmp_path / "empty")
    with pytest.raises(UserError, match="No finished run in"):
        sources(f"{tmp_path}/empty:GRU-seed0")
    write_run(tmp_path / "x", "GRU-seed0", made())
    with pytest.raises(UserError, match='Did you mean "GRU-seed0"'):
        sources(f"{tmp_path}/x:GRU-seed1")


def test_weights_that_are_not_finite(tmp_path):
    model = made()
    model.weights.params["head"]["output"]["bias"][1] = np.nan
    write_run(tmp_path / "x", "GRU", model)
    with pytest.raises(UserError, match="params/head/output/bias has values that are not finite"):
        sources(f"{tmp_path}/x:GRU")


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """The workdir of two runs of the tones."""
    root = tmp_path_factory.mktemp("source") / "runs"
    assert execute(planned(data_dir, root), Workdir(root)) == []
    return root


def planned(data_dir, root, **changes):
    sweep = Sweep({"GRU": {}}, replicates=[{"seed": 0}, {"seed": 1}])
    config = tiny({"data.dir": str(data_dir), "train.steps": 10} | changes)
    return plan(config, sweep, "tones", "", "", workdir=Workdir(root))


def test_the_best_run_of_a_workdir(trained):
    scores = {
        path.parent.name: json.loads(path.read_text())["metrics"]["validation"]["loss"]
        for path in trained.glob("runs/*/result.json")
    }
    assert len(scores) == 2
    best = min(scores, key=scores.get)
    assert sources(trained)[str(trained)].about["run"] == best


def test_with_a_learning_rate_of_zero_a_run_has_the_scores_of_its_source(
    data_dir, trained, tmp_path, capsys
):
    """And it resumes without the source, but not with another one."""
    copy, root = tmp_path / "source", tmp_path / "tuned"
    shutil.copytree(trained, copy)
    changes = {"init.source": f"{copy}:GRU-seed{{seed}}", "optimizer.learning_rate": 0.0}
    ready = planned(data_dir, root, **changes)
    assert [note.partition(":")[0] for note in ready.remarks] == ["GRU-seed0", "GRU-seed1"]
    assert all("kept 3 of 3 classes" in note for note in ready.remarks)
    assert execute(ready, Workdir(root)) == []
    for seed in (0, 1):
        tuned, source = (
            json.loads((folder / "runs" / f"GRU-seed{seed}" / "result.json").read_text())
            for folder in (root, copy)
        )
        assert tuned["metrics"] == source["metrics"]

    shutil.rmtree(copy)
    with pytest.raises(UserError, match="does not exist"):
        planned(data_dir, tmp_path / "new", **changes)
    whole = (root / "runs" / "GRU-seed0" / "model" / "arrays.npz").read_bytes()
    shutil.rmtree(root / "runs")
    shutil.rmtree(next((root / "groups").iterdir()))
    assert execute(planned(data_dir, root, **changes), Workdir(root)) == []
    assert (root / "runs" / "GRU-seed0" / "model" / "arrays.npz").read_bytes() == whole

    shutil.copytree(trained, copy)
    model = TrainedModel.load(copy / "runs" / "GRU-seed1" / "model")
    other = dataclasses.replace(model, weights=jax.tree.map(np.negative, model.weights))
    write_run(copy, "GRU-seed1", other)
    with pytest.raises(UserError, match=rf"another sweep.*\n  sources.{copy}:GRU-seed1: \w+ -> "):
        execute(planned(data_dir, root, **changes), Workdir(root))
