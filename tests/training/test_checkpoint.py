"""Checkpoints: what is saved comes back, whatever lies beside it."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from gru_audio.config import UserError
from gru_audio.training.checkpoint import Checkpoints, load_model, save_model, write_atomically
from tests.tones import assert_same

MEMORY = {"step": 3, "best": [None, 0.1 + 0.2], "windows": {"loss": [1e-300, 2.5]}, "failure": [""]}


def state(step):
    values = np.random.default_rng(step).normal(size=(2, 3)).astype(np.float32)
    return {"weights": {"kernel": jnp.asarray(values)}, "step": jnp.full(2, step, jnp.int32)}


def abstract():
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=device), state(0))


def folders(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


@pytest.fixture
def saved(tmp_path):
    """Three saves, of which two are kept."""
    directory = epath.Path(tmp_path / "checkpoints")
    checkpoints = Checkpoints(directory, keep=2)
    for step in (3, 5, 12):
        checkpoints.save(step, state(step), MEMORY | {"step": step})
    checkpoints.wait()
    checkpoints.close()
    return directory


def restored(directory):
    checkpoints = Checkpoints(directory, keep=2)
    try:
        return checkpoints.restore(abstract())
    finally:
        checkpoints.close()


def test_nothing_to_restore(tmp_path):
    assert restored(epath.Path(tmp_path / "checkpoints")) is None


def test_the_latest_comes_back_to_the_bit(saved):
    arrays, memory = restored(saved)
    assert_same(arrays, state(12))
    assert memory == MEMORY | {"step": 12}


def test_only_the_latest_are_kept(saved):
    assert folders(saved) == ["12", "5"]


def test_the_one_before_serves_when_the_latest_is_gone(saved):
    shutil.rmtree(saved / "12")
    arrays, memory = restored(saved)
    assert_same(arrays, state(5))
    assert memory["step"] == 5


def test_a_half_written_checkpoint_is_ignored(saved):
    """A kill leaves a folder that was never renamed; some of its files are there."""
    half = Path(saved / "20.orbax-checkpoint-tmp")
    shutil.copytree(saved / "12", half)
    files = sorted(path for path in half.rglob("*") if path.is_file())
    for path in files[::2]:
        path.unlink()
    files[1].write_bytes(files[1].read_bytes()[:3])
    arrays, _ = restored(saved)
    assert_same(arrays, state(12))


def test_saving_goes_on_after_a_kill(saved):
    shutil.copytree(saved / "12", saved / "20.orbax-checkpoint-tmp")
    checkpoints = Checkpoints(saved, keep=2)
    checkpoints.restore(abstract())
    checkpoints.save(20, state(20), MEMORY)
    checkpoints.wait()
    checkpoints.close()
    assert_same(restored(saved)[0], state(20))
    assert folders(saved) == ["12", "20"]  # nothing half-written is left either


def test_a_model_comes_back(tmp_path):
    directory = epath.Path(tmp_path / "model")
    arrays = {
        "params": {"head": {"bias": np.arange(3, dtype=np.float32)}},
        "model_state": {},
        "normalisation": {"mean": np.float32([0.1]), "std": np.float32([2.0])},
    }
    for about in ("one", "two"):  # the second replaces the first
        save_model(directory, arrays, {"about": about, "classes": ["a", "ö"]})
    loaded, description = load_model(directory)
    assert_same(loaded["params"], arrays["params"])
    assert_same(loaded["normalisation"], arrays["normalisation"])
    assert description == {"about": "two", "classes": ["a", "ö"]}


def test_a_model_without_its_description_is_not_finished(tmp_path):
    directory = epath.Path(tmp_path / "model")
    save_model(directory, {"a": np.zeros(2)}, {})
    (directory / "model.json").unlink()
    with pytest.raises(UserError, match=r"No trained model in .*model\.json is missing"):
        load_model(directory)


def test_a_small_file_is_there_whole(tmp_path):
    path = epath.Path(tmp_path / "deep" / "file.json")
    for value in (1, 2):
        write_atomically(path, json.dumps(value))
        assert json.loads(path.read_text()) == value
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]
