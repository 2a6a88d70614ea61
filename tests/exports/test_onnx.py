"""ONNX files compute in ONNX Runtime what the models compute in JAX."""

import subprocess
import sys

import numpy as np
import pytest

from gru_audio.audio.frontends import FRONTENDS, LogMel
from gru_audio.exports.function import make_function
from gru_audio.nn.cells import CELLS
from gru_audio.nn.models import MODELS
from gru_audio.nn.pooling import POOLINGS, last
from gru_audio.nn.rnn_classifier import RnnClassifier
from gru_audio.settings import UserError
from tests.exports.models import assert_runs_alike, function_of, made

onnx = pytest.importorskip("onnx", reason="needs the extra [export]")
pytest.importorskip("onnxruntime", reason="needs the extra [export]")

from gru_audio.exports import onnx as writer  # noqa: E402
from gru_audio.exports.onnx import recurrent  # noqa: E402


def test_all_cells_are_covered():
    assert recurrent.NATIVE.keys() == CELLS.keys()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell, bidirectional):
    """Clips of 60, 33, 7 and 1 frames in one batch, and two layers."""
    changes = {"model.cell": cell, "model.layers": 2, "model.bidirectional": bidirectional}
    assert_runs_alike(writer, function_of(changes))


@pytest.mark.parametrize("cell", CELLS)
def test_streams(cell):
    function = function_of({"model.cell": cell, "model.layers": 2}, stream=True)
    assert_runs_alike(writer, function)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.layer_norm": True, "model.bidirectional": True},
        {"model.cell": "min_lstm", "model.layer_norm": True, "model.bidirectional": True},
        {"model.cell": "lstm", "model.projection": 3, "model.bidirectional": True},
        {"model.cell": "rnn", "model.projection": 3, "model.layers": 2},
        {"model.dense": ("4 relu", "6 linear"), "frontend.normalise": False},
        {"model.implementation": "associative", "model.cell": "min_gru"},
    ],
)
def test_layers(changes):
    assert_runs_alike(writer, function_of(changes))


@pytest.mark.parametrize("pooling", ["mean", "max", "attention", "multi_head_attention"])
def test_poolings(pooling):
    changes = {"model.pooling": pooling, "model.bidirectional": True}
    assert_runs_alike(writer, function_of(changes))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    "conv",
    [
        ("3 3x3 stride 1x2", "4 4x1"),
        ("3 5x2 stride 2x1 pool 3x2", "4 2x3 pool 2x3"),
    ],
)
def test_convolutions(conv, padding):
    changes = {"model.conv": conv, "model.conv_padding": padding, "frontend.mels": 20}
    deltas = {"frontend.deltas": 1, "model.channels": 2, "model.conv_norm": padding == "same"}
    assert_runs_alike(writer, function_of({"model.name": "crnn"} | changes))
    pooled = {"model.name": "cnn", "model.pooling": "mean"}
    assert_runs_alike(writer, function_of(pooled | changes | deltas))


@pytest.mark.parametrize(
    "changes", [{"model.bidirectional": True}, {"model.name": "crnn"}, {"model.name": "tcn"}]
)
def test_outputs_for_every_frame(changes):
    strided = {"model.conv": ("3 3x3 stride 2x2",)} if changes.get("model.name") == "crnn" else {}
    assert_runs_alike(writer, function_of({"task.name": "ctc"} | changes | strided))


def test_a_stream_of_outputs_for_every_frame():
    assert_runs_alike(writer, function_of({"task.name": "ctc"}, stream=True))


@pytest.mark.parametrize(
    ("changes", "source"),
    [({}, "sound"), ({"model.pooling": "mean"}, "features"), ({"model.name": "tcn"}, "features")],
)
def test_streams_that_are_not_covered(changes, source):
    with pytest.raises(UserError, match="--format stablehlo covers all streams"):
        writer.encode(function_of(changes, source, stream=True))


def test_clips_that_are_shorter_than_a_kernel():
    changes = {"model.name": "cnn", "model.pooling": "max", "model.conv_padding": "valid"}
    function = function_of(changes | {"model.conv": ("3 5x3 pool 4x1",)})
    features, _ = function.example()
    assert_runs_alike(writer, function, [features[:2, :3], np.array([3, 1], np.int32)])


def test_temporal_convolutions():
    changes = {"model.name": "tcn", "model.layers": 3}
    assert_runs_alike(writer, function_of(changes))
    assert_runs_alike(writer, function_of(changes | {"frontend.mels": 5, "model.pooling": "max"}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"frontend.name": "mfcc"},
        {"frontend.name": "pcen"},
        {"frontend.name": "pcen", "frontend.pcen_bias": 0.0, "frontend.deltas": 1},
        {"frontend.name": "raw"},
        {"frontend.deltas": 2, "frontend.delta_frames": 2},
        {"frontend.stack": 3, "frontend.deltas": 1},
        {"frontend.window_ms": 20.0, "frontend.n_fft": 161, "frontend.hop_ms": 7.0},
        {"frontend.window_ms": 32.0},  # as long as the FFT
    ],
)
def test_frontends(changes):
    function = function_of(changes, "sound")
    assert_runs_alike(writer, function)
    short = np.array([[0.1, -0.2, 0.3]], np.float32)
    assert_runs_alike(writer, function, [short, np.array([3], np.int32)])


class Other(RnnClassifier):
    """A model that an experiment file may define."""


class OtherMel(LogMel):
    """A frontend likewise."""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"frontend.name": "other"}, "does not cover the frontend OtherMel"),
        ({"model.name": "other"}, 'does not cover config.model.name="other"'),
        ({"model.cell": "other"}, 'does not cover config.model.cell="other"'),
        ({"model.pooling": "other"}, 'does not cover config.model.pooling="other"'),
    ],
)
def test_parts_that_are_not_covered(changes, why, monkeypatch):
    monkeypatch.setitem(FRONTENDS, "other", OtherMel)
    monkeypatch.setitem(MODELS, "other", Other)
    monkeypatch.setitem(CELLS, "other", CELLS["gru"])
    monkeypatch.setitem(POOLINGS, "other", lambda encoded: last(encoded))
    with pytest.raises(UserError, match=why):
        writer.encode(function_of(changes, "sound"))


def test_the_file_has_one_recurrent_node_for_each_layer():
    model = onnx.load_from_string(writer.encode(function_of({"model.layers": 2})))
    types = [node.op_type for node in model.graph.node]
    assert types.count("GRU") == 2
    assert "Loop" not in types
    assert (model.ir_version, model.opset_import[0].version) == (9, 17)


PROGRAM = """
import sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
arrays = np.load(sys.argv[2])
inputs = {each.name: arrays[each.name] for each in session.get_inputs()}
outputs, lengths = session.run(None, inputs)
np.testing.assert_allclose(outputs, arrays["outputs"], rtol=1e-5, atol=1e-5)
assert not {"jax", "gru_audio"} & sys.modules.keys()
"""


def test_a_process_without_jax_runs_the_file(tmp_path):
    function = make_function(made(), "sound")
    sound, lengths = function.example()
    (tmp_path / "model").write_bytes(writer.encode(function))
    outputs = np.asarray(function(sound, lengths)[0])
    np.savez(tmp_path / "arrays.npz", sound=sound, lengths=lengths, outputs=outputs)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), str(tmp_path / "arrays.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
