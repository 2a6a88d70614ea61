"""Several processes, started for real: the numbers of one, and what stops one stops all."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.commands import ROOT, arguments, leavings, run
from tests.songs import SONGS
from tests.tones import assert_same

EXPERIMENT = '''"""Tones: four GRUs.

  python -m gru_audio.sweep --config experiments/tones.py --workdir runs/tones
"""

from gru_audio.sweeps.sweep import Sweep
from tests.tones import tiny


def get_config():
    return tiny({**CHANGES})


def get_sweep(config):
    return Sweep({"GRU": {}}, replicates=[{"seed": seed} for seed in range(4)])
'''
NOISE = {"model.dropout": 0.2, "augment.time_shift_ms": 20.0}
OF_CLASSES = {**NOISE, "augment.mixup": 0.4}
OF_EVENTS = {**NOISE, **SONGS}


def write_experiment(path, changes):
    """An experiment with these changes to the config."""
    path.write_text(EXPERIMENT.replace("**CHANGES", f"**{changes}"))
    return path


@pytest.fixture(
    scope="module",
    params=[OF_CLASSES, pytest.param(OF_EVENTS, marks=pytest.mark.reliability)],
    ids=["classes", "events"],
)
def experiment(request, songs, tmp_path_factory):
    """Four runs of one program."""
    changes = {"parallel.member": 0, "train.steps": 40, "train.eval_every": 20}
    folder = tmp_path_factory.mktemp("experiment")
    return write_experiment(folder / "tones.py", request.param | changes)


@contextlib.contextmanager
def launched(environment, processes, devices, *command):
    """The launcher at work; killed in the end if it still is."""
    launcher = [sys.executable, ROOT / "launch" / "local.py"]
    flags = [f"--processes={processes}", f"--devices={devices}", "--wait=100"]
    command = [sys.executable, "-m", "gru_audio.sweep", *command]
    process = subprocess.Popen(
        [str(part) for part in (*launcher, *flags, "--", *command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def sweep(environment, processes, devices, *command, code=0):
    """Runs a sweep to its end; returns what it said."""
    with launched(environment, processes, devices, *command) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == code, f"{out}\n{err}"
    return out + err


def assert_close(found, expected, tolerance=1e-5):
    """What two runs left behind: the metrics agree."""
    for record, other in zip(found["metrics"], expected["metrics"], strict=True):
        assert record.keys() == other.keys()
        for key, value in record.items():
            np.testing.assert_allclose(value, other[key], tolerance, tolerance, err_msg=key)
    leaves, others = (jax.tree.leaves(one["model"]) for one in (found, expected))
    for leaf, other in zip(leaves, others, strict=True):
        np.testing.assert_allclose(leaf, other, 10 * tolerance, 10 * tolerance)


@pytest.fixture(scope="module")
def alone(environment, experiment, tmp_path_factory):
    """What one process with four devices leaves behind, a run on each."""
    workdir = tmp_path_factory.mktemp("alone")
    sweep(environment, 1, 4, "--config", experiment, "--workdir", workdir)
    return leavings(workdir)


@pytest.mark.reliability  # for its length
def test_members_on_two_processes_of_two_devices(environment, experiment, alone, tmp_path):
    """To the bit those of one process, and to 1e-5 those of four runs by themselves."""
    sweep(environment, 2, 2, "--config", experiment, "--workdir", tmp_path / "two")
    for name, found in leavings(tmp_path / "two").items():
        assert_same(found["model"], alone[name]["model"])
        assert_same(found["predictions"], alone[name]["predictions"])
        assert found["metrics"] == alone[name]["metrics"]
    described = json.loads((tmp_path / "two" / "sweep.json").read_text())["environment"]
    assert (described["processes"], described["devices"]) == (2, 4)
    single = dict(environment, XLA_FLAGS="--xla_force_host_platform_device_count=1")
    for seed in (0, 3):
        flags = ["--config", experiment, "--workdir", tmp_path / f"{seed}", "--config.seed", seed]
        run(single, "train", *flags)
        (found,) = leavings(tmp_path / f"{seed}").values()
        assert_close(found, alone[f"GRU-seed{seed}"])


@pytest.mark.parametrize(
    ("processes", "feed"),
    [(2, "streamed"), pytest.param(4, "resident", marks=pytest.mark.reliability)],
)
def test_batches_over_processes(environment, experiment, alone, tmp_path, processes, feed):
    """The rows of a batch are in several processes; streamed, each reads its own."""
    flags = [f"--config.parallel.data={processes}", f"--config.data.loader={feed}"]
    sweep(environment, processes, 1, "--config", experiment, "--workdir", tmp_path, *flags)
    for name, found in leavings(tmp_path).items():
        assert_close(found, alone[name])


def test_streamed_batches_that_processes_cannot_part_are_refused(environment, experiment, tmp_path):
    flags = ["--config.parallel.data=2", "--config.data.loader=streamed"]
    command = ["--config", experiment, "--workdir", tmp_path / "new", *flags]
    said = sweep(environment, 2, 3, *command, code=2)
    assert "streamed with 3 devices a process: config.parallel.data=2 must divide that" in said


@pytest.fixture(scope="module")
def stopped(environment, tmp_path_factory):
    """An experiment, what it leaves behind, and the workdir of another that SIGTERM stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    changes = {"train.steps": 120, "checkpoint.every_steps": 10, "parallel.call_seconds": 0.0}
    command = ["--config", write_experiment(folder / "tones.py", OF_CLASSES | changes)]
    wide = ["--config.parallel.data=8", "--config.parallel.member=1"]
    sweep(environment, 1, 8, *command, "--workdir", folder / "whole", *wide)
    workdir = folder / "stopped"
    with launched(environment, 2, 4, *command, "--workdir", workdir, *wide) as process:
        while not list(workdir.glob("groups/*/checkpoints/10")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        out, err = process.communicate(timeout=100)
    assert process.returncode == 75, out + err
    assert time.monotonic() - began < 30
    return command, leavings(folder / "whole"), workdir


@pytest.mark.reliability
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_stopped_on_two_processes_and_resumed_by_one(environment, stopped, tmp_path, devices):
    """All processes have saved the same step: eight devices shared its batch, now fewer do."""
    command, whole, workdir = stopped
    shutil.copytree(workdir, tmp_path / "copy")
    flags = [f"--config.parallel.data={devices}", "--config.parallel.member=1"]
    said = sweep(environment, 1, devices, *command, "--workdir", tmp_path / "copy", *flags)
    assert "resumes at step" in said
    for name, found in leavings(tmp_path / "copy").items():
        assert_close(found, whole[name], 1e-4)  # what rounding makes of 120 steps


def test_processes_of_different_settings_are_refused(environment, experiment, tmp_path):
    """All of them end, and say why."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = ["--config", experiment, "--workdir", tmp_path, "--config.parallel.processes=2"]
    flags.append(f"--config.parallel.coordinator=localhost:{port}")
    started = [
        subprocess.Popen(
            arguments(
                "train", *flags, f"--config.parallel.process={rank}", f"--config.seed={rank}"
            ),
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 2, err
        assert "do not have the same experiment, config and data set" in err
