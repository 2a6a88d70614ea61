"""Serialised functions of JAX: one file for all sizes and platforms."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from gru_audio.data import npz
from gru_audio.exports.function import make_function
from gru_audio.nn.cells import CELLS
from gru_audio.settings import UserError
from tests.exports.models import assert_runs_alike, function_of, made

pytest.importorskip("flatbuffers", reason="needs the extra [export]")

from gru_audio.exports import stablehlo


@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell):
    bidirectional = cell not in ("gru", "lstm")
    assert_runs_alike(
        stablehlo, function_of({"model.cell": cell, "model.bidirectional": bidirectional})
    )


CONV = {"model.name": "crnn", "model.conv": ("3 3x3 stride 2x2 pool 2x2", "4 4x1")}


@pytest.mark.parametrize(
    "changes",
    [
        {"model.name": "tcn", "model.layers": 2, "model.pooling": "attention"},
        CONV,
        {"model.name": "crnn", "model.conv": ("3 3x3 pool 2x2",), "model.conv_padding": "valid"},
        {"model.pooling": "multi_head_attention", "model.remat_frames": 8},
    ],
)
def test_models(changes):
    assert_runs_alike(stablehlo, function_of(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"frontend.deltas": 1, "frontend.stack": 3},
        {"frontend.name": "mfcc"},
        {"frontend.name": "raw"},
    ],
)
def test_frontends(changes):
    assert_runs_alike(stablehlo, function_of(changes, "sound"))


def test_outputs_for_every_frame():
    assert_runs_alike(stablehlo, function_of({"task.name": "ctc"} | CONV))


def test_streams():
    assert_runs_alike(stablehlo, function_of({"model.cell": "lstm"}, stream=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"frontend.name": "pcen", "frontend.deltas": 1, "frontend.stack": 2},
        {"task.name": "ctc"} | CONV,
        {"model.name": "tcn", "model.pooling": "max"},
    ],
)
def test_streams_of_sound(changes):
    assert_runs_alike(stablehlo, function_of(changes, "sound", stream=True))


def test_a_frontend_that_is_not_covered():
    with pytest.raises(UserError, match=r'config.frontend.name="pcen": pass --from features'):
        stablehlo.encode(function_of({"frontend.name": "pcen"}, "sound"))


def test_convolutions_that_are_not_covered():
    """JAX cannot prove that sizes of several such blocks are never negative."""
    with pytest.raises(UserError, match=r"convolutions of this model .* pass --format onnx"):
        stablehlo.encode(function_of(CONV | {"model.conv_padding": "valid"}))


PROGRAM = """
import sys
import numpy as np
from jax import export

sys.modules["gru_audio"] = None  # whose import would be an error
call = export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
arrays = np.load(sys.argv[2])
for name in ("whole", "other"):
    outputs, lengths = call(arrays[f"{name}/features"], arrays[f"{name}/lengths"])
    np.testing.assert_allclose(outputs, arrays[f"{name}/outputs"], rtol=1e-5, atol=1e-5)
"""


def test_a_process_without_this_package_runs_the_file(tmp_path):
    """And sizes that are unlike those of the example."""
    function = make_function(made(), "features")
    features, lengths = function.example()
    (tmp_path / "model").write_bytes(stablehlo.encode(function))
    arrays = {}
    for name, rows, count in (("whole", 4, 60), ("other", 1, 5)):
        inputs = features[:rows, :count], np.minimum(lengths[:rows], count)
        outputs, _ = function(*inputs)
        named = {"features": inputs[0], "lengths": inputs[1], "outputs": np.asarray(outputs)}
        arrays |= {f"{name}/{key}": value for key, value in named.items()}
    (tmp_path / "arrays").write_bytes(npz.encode(arrays))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), str(tmp_path / "arrays")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_file_is_for_three_platforms():
    data = stablehlo.encode(function_of())
    assert jax.export.deserialize(bytearray(data)).platforms == ("cpu", "cuda", "tpu")
