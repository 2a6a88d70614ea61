"""Weights as safetensors."""

import json
import struct

import numpy as np
import pytest

from gru_audio.exports import FORMATS
from gru_audio.exports.delivery import deliver
from gru_audio.exports.function import make_function
from gru_audio.settings import UserError
from tests.exports.models import assert_runs_alike, description, function_of, made
from tests.tones import assert_same

numpy = pytest.importorskip("safetensors.numpy", reason="needs the extra [export]")

from gru_audio.exports import safetensors  # noqa: E402


@pytest.fixture
def exported(tmp_path):
    """A folder, as `export` leaves it."""
    function = make_function(made({"model.cell": "lstm"}), "features")
    model = description(function.trained)
    deliver(function, FORMATS["safetensors"], tmp_path, 1e-6, model, None, {})
    return tmp_path


def test_a_model_comes_back_to_the_bit(exported):
    """With batch norm's statistics, too."""
    trained, loaded = made({"model.cell": "lstm"}), safetensors.load(exported)
    assert_same(loaded.weights, trained.weights)
    assert_same(loaded.normalisation, trained.normalisation)
    assert loaded.field == trained.field
    clip = np.arange(4000, dtype=np.int16)
    np.testing.assert_array_equal(loaded.outputs([clip]), trained.outputs([clip]))
    assert_runs_alike(safetensors, function_of({"model.name": "crnn", "model.conv": ("2 3x3",)}))


def test_the_file_is_plain_safetensors(exported):
    """Its header, as the specification of the format describes it, names the arrays."""
    data = (exported / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    entry = header["params/encoder/forward_0/input_kernel"]
    assert (entry["dtype"], entry["shape"]) == ("F32", [40, 20])
    begin, end = entry["data_offsets"]
    values = np.frombuffer(data[8 + size :][begin:end], np.float32)
    kernel = made({"model.cell": "lstm"}).weights.params["encoder"]["forward_0"]["input_kernel"]
    np.testing.assert_array_equal(values, kernel.ravel())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"0",
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: data.replace(b"[40,20]", b"[80,10]"),
        lambda data: data.replace(b"[40,20]", b"[40,99]"),
        lambda data: data.replace(b"norm", b"morn"),
        lambda data: data.replace(b'"F32"', b'"F64"'),
        lambda data: b"\x80\x04" + data,
    ],
)
def test_damaged_files(exported, damage):
    file = exported / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=f"^The model in {exported} cannot be used: .") as refused:
        safetensors.load(exported)
    assert str(refused.value).count("cannot be used") == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}', '{"model": {"config": {}}}'])
def test_invalid_descriptions(exported, text):
    (exported / "model.json").write_text(text)
    with pytest.raises(UserError, match="cannot be used"):
        safetensors.load(exported)


def test_arrays_with_names_of_arguments(exported):
    file = exported / "model.safetensors"
    arrays = numpy.load(file.read_bytes())
    file.write_bytes(numpy.save({"allow_pickle": np.ones(1), **arrays}))
    with pytest.raises(UserError, match="cannot be used"):
        safetensors.load(exported)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot be used: .*model.json"):
        safetensors.load(tmp_path)
