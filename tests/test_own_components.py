"""What an experiment file brings: cells and models that the package does not have."""

import json

import jax
import numpy as np
import pytest

import gru_audio
from gru_audio.command import load_experiment
from gru_audio.config import differences, flatten, override, read_config
from gru_audio.data.source import open_source
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.nn.cells import CELLS
from gru_audio.nn.layer import Layer
from gru_audio.nn.models import MODELS
from gru_audio.nn.size import model_size
from gru_audio.settings import UserError
from gru_audio.tasks.classification import Classification
from gru_audio.tasks.metrics import measure, metrics_of, selected
from tests.golden_configs import ROOT, package_tables
from tests.tones import NAME, make_loader, member, steps, tiny

OWN_CELL, OWN_MODEL = (ROOT / "experiments" / f"{name}.py" for name in ("own_cell", "own_model"))


@pytest.fixture(autouse=True)
def tables():
    with package_tables():
        yield


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        (OWN_CELL, {"model.cell": "sru", "model.forget_bias": 2.0}),
        (OWN_MODEL, {"model.name": "perceptron", "model.hidden": 5}),
    ],
    ids=["cell", "model"],
)
def test_it_trains_is_stored_and_scores(data_dir, tmp_path, path, chosen):
    load_experiment(path)
    config = tiny({"data.dir": str(data_dir), "train.steps": 8, **chosen})
    source = open_source(NAME, data_dir)
    loader = make_loader(source, [config])
    state, metrics = steps(loader, [config], [8])
    assert metrics["loss"][0, -1] < metrics["loss"][0, 0]
    one = member(state, 0)
    trained = TrainedModel(
        read_config(json.loads(json.dumps(flatten(config)))),
        source.field("label"),
        source.signal,
        8000,
        one.weights,
        one.normalisation,
        {"run": "one"},
    )
    trained.save(tmp_path)
    for table, name in ((CELLS, "sru"), (MODELS, "perceptron")):
        table.pop(name, None)  # as in another process
    assert gru_audio.load(tmp_path, experiment=path).run == "one"
    clips, labels = source.signals([0, 1, 2]), source.values("label")[:3]
    before = trained.scores(clips, labels)
    after = TrainedModel.load(tmp_path).scores(clips, labels)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    description = json.loads((tmp_path / "model.json").read_text())
    description["config"]["model.cell"] = description["config"]["model.name"] = "unheard_of"
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="pass --experiment FILE"):  # it chooses no code by itself
        TrainedModel.load(tmp_path)


def test_the_simple_recurrent_unit_is_that_of_its_paper():
    load_experiment(OWN_CELL)
    layer, inputs = Layer("sru", 3), jax.random.normal(jax.random.key(0), (2, 5, 4))
    variables = layer.init(jax.random.key(1), inputs)
    params = jax.tree.map(lambda leaf: leaf + 0.1, variables["params"])
    outputs, _ = layer.apply({"params": params}, inputs)
    kernel, bias, peephole = (
        np.split(np.asarray(params[name], np.float64), parts, axis=-1)
        for name, parts in (("input_kernel", 4), ("input_bias", 4), ("peephole", 2))
    )
    memory = np.zeros((2, 3))
    for time, x in enumerate(np.asarray(inputs, np.float64).swapaxes(0, 1)):
        f, r, n, own = (x @ w + b for w, b in zip(kernel, bias, strict=True))
        forget, reset = (
            1 / (1 + np.exp(-(gate + v * memory))) for gate, v in zip((f, r), peephole, strict=True)
        )
        memory = forget * memory + (1 - forget) * n
        expected = reset * memory + (1 - reset) * own
        np.testing.assert_allclose(outputs[:, time], expected, rtol=1e-5, atol=1e-6)


def test_its_parameters_are_counted():
    load_experiment(OWN_MODEL)
    config = tiny({"model.name": "perceptron", "model.hidden": 5})
    assert model_size(config.model, 8, 3) == 8 * 5 + 5 + 5 * 3 + 3
    assert differences(config)["model.hidden"] == 5
    with pytest.raises(UserError, match=r"cell belongs to model\.name=.*crnn or rnn_classifier"):
        override(config, {"model.cell": "lstm"})


def test_its_metric_is_measured_and_can_be_selected_on():
    load_experiment(OWN_MODEL)
    task = Classification(("a", "b", "c"))
    probabilities = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])
    scores = {"loss": np.ones(3), "label": np.array([1, 0, 0]), "probabilities": probabilities}
    assert measure(metrics_of(task), scores)["top_two"] == pytest.approx(2 / 3)
    assert selected(metrics_of(task), "validation/top_two").higher_is_better


def test_a_name_that_is_taken_is_refused(tmp_path):
    path = tmp_path / "taken.py"
    before = dict(CELLS)
    for text, message in (
        (
            "from gru_audio.nn.cells import CELLS\nCELLS = {'gru': CELLS['lstm']}",
            'CELLS already has "gru"',
        ),
        ("CELLS = {'mine': 'gru'}", r'CELLS\["mine"\] is not a Cell'),
        ("METRICS = {'mine': len}", r'METRICS\["mine"\] is not a Metric'),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"taken\.py: {message}"):
            load_experiment(path)
    assert before == CELLS
