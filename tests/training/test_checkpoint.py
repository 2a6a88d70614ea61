"""Checkpoints are restored bit by bit, or found to be damaged."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from gru_audio.files import write_atomically
from gru_audio.inference.trained_model import load_model, save_model
from gru_audio.settings import UserError
from gru_audio.training.checkpoint import Checkpoints, silence
from tests.tones import assert_same

silence()  # as the commands do, so that no traceback is printed
MEMORY = {"step": 3, "best": [None, 0.1 + 0.2], "windows": {"loss": [1e-300, 2.5]}, "failure": [""]}


def state(step):
    values = np.random.default_rng(step).normal(size=(2, 300)).astype(np.float32)
    kernel, count = jnp.asarray(values), np.zeros((), np.uint32)
    return {"weights": {"kernel": kernel}, "step": jnp.full(2, step, jnp.int32), "opt": (count, {})}


def abstract():
    return jax.eval_shape(lambda: state(0))


def folders(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def save(directory, steps, keep=2):
    checkpoints = Checkpoints(directory, keep, pytest.fail)
    for step in steps:
        checkpoints.save(step, state(step), MEMORY | {"step": step})
    assert checkpoints.wait()
    checkpoints.close()


def restored(directory, until=None):
    """Returns what is restored, and the messages."""
    messages: list[str] = []
    checkpoints = Checkpoints(directory, 2, messages.append)
    try:
        return checkpoints.restore(abstract(), until), messages
    finally:
        checkpoints.close()


def assert_restored(found, step):
    arrays, memory = found
    assert_same(arrays, jax.tree.map(np.asarray, state(step)))
    assert memory == MEMORY | {"step": step}


@pytest.fixture
def saved(tmp_path):
    """Saves three times; two checkpoints are kept."""
    directory = epath.Path(tmp_path / "checkpoints")
    save(directory, (3, 5, 12))
    return directory


def test_nothing_to_restore(tmp_path):
    assert restored(epath.Path(tmp_path / "checkpoints")) == (None, [])


def test_the_latest_is_restored_bit_by_bit(saved):
    found, messages = restored(saved)
    assert_restored(found, 12)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found[0]))
    assert not messages


def test_only_the_latest_are_kept(saved):
    assert folders(saved) == ["12", "5"]


def test_the_previous_one_is_used_if_the_latest_is_missing(saved):
    shutil.rmtree(saved / "12")
    assert_restored(restored(saved)[0], 5)


def test_an_earlier_checkpoint_can_be_restored(saved):
    """This happens if later metrics are damaged. Later steps are saved again."""
    assert_restored(restored(saved, until=11)[0], 5)
    assert folders(saved) == ["5"]
    save(saved, [12])
    assert_restored(restored(saved, until=12)[0], 12)
    assert_restored(restored(saved, until=4)[0], 12)  # instead of no checkpoint


def test_arrays_may_change_during_a_save(tmp_path):
    checkpoints = Checkpoints(epath.Path(tmp_path), 1, pytest.fail)
    arrays = jax.tree.map(np.array, state(3))
    checkpoints.save(3, arrays, MEMORY)
    arrays["weights"]["kernel"][:] = 0
    checkpoints.close()
    assert_restored(restored(epath.Path(tmp_path))[0], 3)


def test_an_incomplete_checkpoint_is_ignored(saved):
    """A kill leaves a folder that was not renamed, with some of its files."""
    half = Path(saved / "20.orbax-checkpoint-tmp")
    shutil.copytree(saved / "12", half)
    files = sorted(path for path in half.rglob("*") if path.is_file())
    for path in files[::2]:
        path.unlink()
    files[1].write_bytes(files[1].read_bytes()[:3])
    assert_restored(restored(saved)[0], 12)


def test_saving_continues_after_a_kill(saved):
    shutil.copytree(saved / "12", saved / "20.orbax-checkpoint-tmp")
    save(saved, [20])
    assert_restored(restored(saved)[0], 20)
    assert folders(saved) == ["12", "20"]  # no partial checkpoint is left


def damages(content: bytes) -> Iterator[bytes | None]:
    """Yields damaged versions of a file: truncated, empty, missing, with flipped bytes."""
    yield from (content[: len(content) // 2], b"", None)
    for at in np.linspace(0, len(content) - 1, 6).astype(int):
        yield content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_to_any_file_is_detected_or_has_no_effect(saved, tmp_path, capfd):
    """The previous checkpoint is used, with a message and without a traceback."""
    files = sorted(path for path in Path(saved / "12").rglob("*") if path.is_file())
    noticed = set()
    for file in files:
        name = file.relative_to(saved)
        for damaged in damages(file.read_bytes()):
            copy = epath.Path(tmp_path / "copy")
            shutil.copytree(saved, copy)
            (copy / name).unlink()
            if damaged is not None:
                (copy / name).write_bytes(damaged)
            found, messages = restored(copy)
            if messages:
                assert_restored(found, 5)
                assert messages[0].startswith("checkpoint 12 is damaged (")
                assert messages[0].endswith("); resumes from step 5")
                assert folders(copy) == ["5", "damaged-12"]
                noticed.add(name)
            else:
                assert_restored(found, 12)
            shutil.rmtree(copy)
    assert len(noticed) > len(files) / 3  # some files are used by Orbax only
    assert "Traceback" not in capfd.readouterr().err


def test_training_continues_from_before_the_damage(saved):
    shutil.rmtree(saved / "12" / "default")
    assert_restored(restored(saved)[0], 5)
    save(saved, [12])
    assert_restored(restored(saved)[0], 12)
    assert folders(saved) == ["12", "5", "damaged-12"]


def test_all_are_damaged(saved):
    for step in ("5", "12"):
        (saved / step / "_CHECKPOINT_METADATA").write_text("{")
    found, messages = restored(saved)
    assert found is None
    assert len(messages) == 1
    assert "checkpoint 12 is damaged" in messages[0]
    assert messages[0].endswith("none is left: starts again")
    assert folders(saved) == ["damaged-12", "damaged-5"]


def test_another_shape_is_not_damage(saved):
    checkpoints = Checkpoints(saved, 2, pytest.fail)
    other = abstract() | {"step": jax.ShapeDtypeStruct((10**15,), np.int32)}  # never allocated
    expected = r"step is int32\[2\] there, int32\[1000000000000000\] here"
    with pytest.raises(UserError, match=expected):
        checkpoints.restore(other)
    checkpoints.close()
    assert folders(saved) == ["12", "5"]


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def free(disk):
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_bsize


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("room", [0, 8_192, 300_000])
def test_a_full_disk_does_not_end_training(small_disk, room, capfd):
    """The previous checkpoint stays, and the space of the failed one is freed."""
    arrays = {"a": np.random.default_rng(0).normal(size=100_000).astype(np.float32)}  # 400 kB
    messages: list[str] = []
    checkpoints = Checkpoints(epath.Path(small_disk / "checkpoints"), 1, messages.append)
    checkpoints.save(3, arrays, {"step": 3})
    assert checkpoints.wait()
    fill = small_disk / "fill"
    fill.write_bytes(bytes(free(small_disk) - room))
    before = free(small_disk)
    for step in (4, 5):
        checkpoints.save(step, arrays, {"step": step})
        assert not checkpoints.wait()
        assert free(small_disk) == before
        assert folders(small_disk / "checkpoints") == ["3"]
    reason = "could not be written (No space left on device); training goes on"
    assert messages == [f"checkpoint at step {step} {reason}" for step in (4, 5)]
    fill.unlink()
    checkpoints.save(5, arrays, {"step": 5})
    assert checkpoints.wait()
    assert folders(small_disk / "checkpoints") == ["5"]
    assert_same(checkpoints.restore(arrays)[0], arrays)
    checkpoints.close()
    assert "Traceback" not in capfd.readouterr().err


ALONE = """
import sys, time
import jax, numpy as np
rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=rank)
from etils import epath
from gru_audio.training.checkpoint import Checkpoints
from gru_audio.inference.trained_model import load_model, save_model
assert jax.process_count() == 2
if rank == 0:
    checkpoints = Checkpoints(epath.Path(folder), 1, print)
    for step in (1, 2):
        checkpoints.save(step, {"a": np.arange(5) + step}, {"step": step})
    assert checkpoints.wait()
    checkpoints.close()
    checkpoints = Checkpoints(epath.Path(folder), 1, print)
    arrays, memory = checkpoints.restore({"a": np.arange(5)})
    assert arrays["a"].tolist() == [2, 3, 4, 5, 6] and memory == {"step": 2}
    save_model(epath.Path(folder) / "model", arrays, {})
    print("done")
else:
    sys.stdin.read()  # busy with something else until then
"""


def test_only_process_0_saves_and_restores(tmp_path, environment):
    with socket.socket() as free_port:
        free_port.bind(("localhost", 0))
        port = str(free_port.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, str(rank), port, str(tmp_path / "checkpoints")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        for rank in (0, 1)
    ]
    try:
        assert ranks[0].stdout.readline() == b"done\n"
        ranks[1].stdin.close()
        assert [process.wait(timeout=60) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
            process.wait()


ARRAYS = {
    "params": {"head": {"bias": np.arange(3, dtype=np.float32)}},
    "model_state": {},
    "normalisation": {"mean": np.float32([0.1]), "std": np.float32([2.0])},
}


@pytest.fixture
def model(tmp_path):
    directory = epath.Path(tmp_path / "model")
    for about in ("one", "two"):  # the second replaces the first
        save_model(directory, ARRAYS, {"about": about, "classes": ["a", "ö"]})
    return directory


def test_a_model_is_restored(model):
    loaded, description = load_model(model)
    assert_same(loaded["params"], ARRAYS["params"])
    assert_same(loaded["normalisation"], ARRAYS["normalisation"])
    assert description == {"about": "two", "classes": ["a", "ö"]}


def test_a_model_without_its_description_is_not_finished(model):
    (model / "model.json").unlink()
    with pytest.raises(UserError, match=r"No trained model in .*model\.json is missing"):
        load_model(model)


def test_a_damaged_model_is_detected(model):
    content = (model / "arrays.npz").read_bytes()
    at = content.index(np.arange(3, dtype=np.float32).tobytes())
    for damaged in (content[:-30], b"", content[: at + 4] + b"\x01" + content[at + 5 :]):
        (model / "arrays.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be used"):
            load_model(model)
    (model / "arrays.npz").unlink()
    with pytest.raises(UserError, match="No such file"):
        load_model(model)


def test_a_small_file_that_cannot_be_written_leaves_the_old_one(small_disk):
    path = epath.Path(small_disk / "file")
    write_atomically(path, "old")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, bytes(3_000_000))
    assert path.read_text() == "old"
    assert [entry.name for entry in small_disk.iterdir()] == ["file"]
