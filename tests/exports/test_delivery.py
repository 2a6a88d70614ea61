"""What lies beside an exported model."""

import hashlib
import json

import jax
import numpy as np
import pytest

from gru_audio.data import npz
from gru_audio.exports import FORMATS, Format
from gru_audio.exports.delivery import Inexact, deliver
from gru_audio.exports.function import make_function
from gru_audio.reports.statistics import Estimate
from gru_audio.settings import UserError
from tests.exports.models import description, made

pytest.importorskip("flatbuffers", reason="needs the extra [export]")

RESULT = {
    "examples": {"train": 1200, "test": 300},
    "metrics": {"train": {"loss": 0.5, "accuracy": 0.75}, "test": {"loss": None, "accuracy": 0.5}},
}


INTERVALS = {"accuracy": Estimate(0.5, 0.443, 0.557), "loss": Estimate(1, 1, 1, is_interval=False)}


def delivered(folder, form="stablehlo", result=RESULT, tolerance=1e-5, stream=False, **about):
    trained = made()
    trained.about.update(about)
    function = make_function(trained, "features" if stream else "sound", stream)
    model = description(trained)
    return deliver(function, FORMATS[form], folder, tolerance, model, result, INTERVALS)


def test_the_description_is_that_of_the_file(tmp_path):
    file, largest = delivered(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert described["labels"] == ["low", "middle", "high"]
    assert described["probabilities"] == "softmax"
    assert (described["rate"], described["hop"], described["window"]) == (8000, 80, 256)
    assert described["largest_difference"] == largest <= 1e-5
    assert described["versions"]["jax"] == jax.__version__
    check = npz.decode((tmp_path / "check.npz").read_bytes())
    call = jax.export.deserialize(bytearray(file.read_bytes())).call
    outputs = call(*(check[each["name"]] for each in described["inputs"]))
    for each, values in zip(described["outputs"], outputs, strict=True):
        np.testing.assert_allclose(values, check[each["name"]], rtol=1e-5, atol=1e-6)
        assert str(values.dtype) == each["dtype"]
        assert len(each["shape"]) == values.ndim


def test_the_first_output_of_ctc_is_the_blank(tmp_path):
    function = make_function(made({"task.name": "ctc"}), "features")
    deliver(function, FORMATS["stablehlo"], tmp_path, 1e-5, description(function.trained), None, {})
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["labels"] == ["<blank>", "a", "b", " "]
    assert described["outputs"][0]["shape"] == ["batch", "output_time", 4]
    assert described["output_step_seconds"] == 0.01


def test_the_names_and_shapes_of_states(tmp_path):
    delivered(tmp_path, stream=True)
    described = json.loads((tmp_path / "model.json").read_text())
    assert [each["name"] for each in described["inputs"]] == ["features", "state_0"]
    assert described["outputs"][1] == {
        "name": "next_state_0",
        "shape": ["batch", 5],
        "dtype": "float32",
    }


def test_the_model_card(tmp_path):
    delivered(tmp_path, run="<b>|one|</b>", licence="CC BY 4.0")
    card = (tmp_path / "model_card.md").read_text()
    assert card.startswith("# \\<b\\>\\|one\\|\\</b\\>\n")
    for text in ("8000 Hz", "low, middle, high", "Examples, train: 1,200", "data: CC BY 4.0."):
        assert text in card
    assert "| accuracy | 0.7500 | 0.5000 [0.4430, 0.5570] |" in card
    assert "| loss | 0.5000 | - |" in card
    assert "`model.hidden`: 5" in card
    assert "implementation" not in card  # that of the export is not that of the run


def test_a_card_without_a_result(tmp_path):
    delivered(tmp_path, result=None)
    card = (tmp_path / "model_card.md").read_text()
    assert "Unknown: the run has no result." in card
    assert "Licence of the data: unknown, ask the source of the data." in card


def test_an_inexact_file_is_not_delivered(tmp_path):
    """ONNX Runtime rounds differently."""
    pytest.importorskip("onnxruntime", reason="needs the extra [export]")
    with pytest.raises(Inexact, match=r"by up to .*e-0\d, more than --tolerance 1e-12"):
        delivered(tmp_path, "onnx", tolerance=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx.failed"]


def test_missing_packages():
    absent = Format("absent", ".absent", ("absent-one", "absent-two"), "export")
    with pytest.raises(UserError, match=r'absent-one and absent-two .*pip install "gru-audio\['):
        absent.load()
