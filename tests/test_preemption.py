"""SIGTERM: the state is saved, the exit code says so, and it never takes long."""

import signal
import subprocess
import sys
import time

import pytest

from gru_audio.training.preemption import heed_sigterm
from tests.commands import (
    ROOT,
    arguments,
    assert_same_leavings,
    leavings,
    run,
    write_experiment,
)

RUN = "'train.steps': 100, 'train.eval_every': 50, 'parallel.call_seconds': 0.0"
STUCK = """
import hashlib
from gru_audio.training import preemption
preemption._GRACE_SECONDS = 0.5
with preemption.heed_sigterm():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # holds the main thread, as compiling does
"""


def test_the_flag_is_up_after_the_signal_and_the_old_handler_back_in_the_end():
    before = signal.getsignal(signal.SIGTERM)
    with heed_sigterm() as preemption:
        assert not preemption.asked
        signal.raise_signal(signal.SIGTERM)
        assert preemption.asked
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_process_that_cannot_look_ends_all_the_same(environment):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 75
    assert "the same command resumes" in err


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("experiment") / "tones.py", RUN)


@pytest.mark.reliability
def test_a_run_that_is_preempted_resumes_to_the_same_bits(environment, experiment, tmp_path):
    run(environment, "train", "--config", experiment, "--workdir", tmp_path / "whole")
    flags = ["--config", experiment, "--workdir", tmp_path / "stopped"]
    process = subprocess.Popen(
        arguments("train", *flags), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    said = ""
    while "compiling" not in said:
        said = process.stderr.readline()
    time.sleep(1)  # into the compilation or the first steps
    process.terminate()
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert time.monotonic() - began < 30
    assert "preempted: all is saved; the same command resumes" in err
    assert list((tmp_path / "stopped").glob("groups/*/checkpoints/*"))
    again = run(environment, "train", *flags)
    assert "resumes at step" in again.stderr
    assert_same_leavings(tmp_path / "stopped", leavings(tmp_path / "whole"))
