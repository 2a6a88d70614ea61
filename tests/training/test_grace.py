"""Signals that a kill follows soon: what is saved by then, and what the user is told."""

import re
import signal
import subprocess
import time

import pytest

from gru_audio.training import grace
from tests.commands import ROOT, arguments, assert_same_leavings, leavings, run, write_experiment

CHANGES = (
    "'train.steps': 200, 'train.eval_every': 100, 'checkpoint.every_steps': 10, "
    "'parallel.call_seconds': 0.02"
)


def test_a_save_in_time_needs_no_words():
    assert grace.loss(save_seconds=10, call_seconds=4, every_seconds=60) == ""


def test_a_large_state_loses_the_steps_since_the_last_checkpoint():
    line = grace.loss(save_seconds=20.4, call_seconds=2, every_seconds=60)
    assert "22 s from SIGTERM" in line and "loses up to 80 s" in line


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    file = write_experiment(tmp_path_factory.mktemp("experiment") / "tones.py", CHANGES)
    return "train", "--config", file


def ended(environment, command, workdir, kill_after):
    """Starts a command, and after its first steps SIGTERM and then SIGKILL.

    Returns:
      Exit code, seconds from SIGTERM to the end, and standard error.
    """
    before = set(workdir.glob("groups/*/metrics/*.jsonl"))
    process = subprocess.Popen(
        arguments(*command, "--workdir", workdir),
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 500
    while not set(workdir.glob("groups/*/metrics/*.jsonl")) - before:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
    _, said = process.communicate()
    return process.returncode, time.monotonic() - began, said


def test_a_kill_after_sigterm_loses_only_what_could_not_be_saved(environment, command, tmp_path):
    whole, workdir = tmp_path / "whole", tmp_path / "cut"
    run(environment, *command, "--workdir", whole)
    code, seconds, said = ended(environment, command, workdir, grace.SHORTEST_SECONDS)
    assert code == 75 and seconds < grace.SHORTEST_SECONDS and "all is saved" in said
    saved = last_step(workdir)
    assert list(workdir.glob(f"groups/*/checkpoints/{saved}"))  # nothing was lost

    code, _, said = ended(environment, command, workdir, 0.01)
    assert code == -signal.SIGKILL and f"resumes at step {saved}" in said
    said = run(environment, *command, "--workdir", workdir).stderr
    assert int(re.search(r"resumes at step (\d+)", said)[1]) >= saved
    assert_same_leavings(workdir, leavings(whole))


def last_step(workdir):
    """The last step whose metrics are on disk."""
    return max(int(path.stem.partition("-")[2]) for path in workdir.glob("groups/*/metrics/*"))


def test_a_slow_save_of_an_earlier_process_is_reported(environment, command, tmp_path):
    """An earlier checkpoint says that it took a minute."""
    ended(environment, command, tmp_path, 60)
    (newest,) = tmp_path.glob(f"groups/*/checkpoints/{last_step(tmp_path)}/_CHECKPOINT_METADATA")
    number = int(re.search(r'"commit_timestamp_nsecs": (\d+)', newest.read_text())[1])
    newest.write_text(newest.read_text().replace(str(number), str(number + 60 * 10**9)))
    said = run(environment, *command, "--workdir", tmp_path).stderr
    assert re.search(r"loses up to 12\d s of training", said)
