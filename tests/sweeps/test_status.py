"""The state of runs, read from files alone."""

import datetime
import json
import subprocess
import sys
import time

import pytest
from etils import epath

from gru_audio.settings import UserError
from gru_audio.sweeps.status import (
    FAILED,
    FINISHED,
    RUNNING,
    STALLED,
    STOPPED,
    WAITING,
    read_run_states,
    read_sweep,
)
from gru_audio.training import logging
from gru_audio.training.logging import Heartbeat
from tests.commands import ROOT
from tests.reports.workdirs import Made, fail, remove, write_workdir

NOW = datetime.datetime.now(datetime.UTC)


def group(workdir, name, state, age, runs, failure=None, **more):
    """Writes the status of a group from some seconds ago, with the `failure` of its runs."""
    folder = workdir / "groups" / name
    folder.mkdir(parents=True)
    status = {
        "state": state,
        "group": name,
        "host": "node7",
        "shard": "2/3",
        "heartbeat": (NOW - datetime.timedelta(seconds=age)).isoformat(),
        "runs": [{"run": run, "step": 120, "best": 0.25, "failure": failure} for run in runs],
    }
    (folder / "status.json").write_text(json.dumps(status | more))


def run_states(workdir):
    workdir = epath.Path(workdir)
    return {each.run: each for each in read_run_states(workdir, read_sweep(workdir), NOW)}


@pytest.fixture
def workdir(tmp_path):
    """A sweep of four seeds: the first has finished, the others have not started."""
    write_workdir(tmp_path, Made(variants={"gru": 5.0}, seeds=4))
    for seed in (1, 2, 3):
        remove(tmp_path, f"gru-{seed}")
    return tmp_path


def test_finished_and_waiting(workdir):
    found = run_states(workdir)
    assert [each.state for each in found.values()] == [FINISHED] + [WAITING] * 3
    result = json.loads((workdir / "runs" / "gru-0" / "result.json").read_text())
    first = found["gru-0"]
    assert (first.step, first.steps) == (result["steps"], 3000)
    assert first.best == result["metrics"]["validation"]["loss"]
    assert (found["gru-1"].step, found["gru-1"].heartbeat) == (0, None)


@pytest.mark.parametrize(
    ("state", "age", "expected"),
    [
        (logging.TRAINING, 59, RUNNING),
        (logging.TRAINING, 61, STALLED),
        (logging.COMPILING, 300, RUNNING),
        (logging.SCORING, 300, RUNNING),
        (logging.COMPILING, 1000, STALLED),
        (logging.TRAINING, -59, RUNNING),  # clocks differ
        (logging.TRAINING, -(10**8), STALLED),  # or jump
        (logging.PREEMPTED, 5, WAITING),
        (logging.STOPPED, 5, STOPPED),
        (logging.FAILED, 5, FAILED),
    ],
)
def test_what_a_group_said_and_when(workdir, state, age, expected):
    group(workdir, "gru-0", state, age, ["gru-0", "gru-1"], error="no room")
    found = run_states(workdir)
    assert found["gru-0"].state == FINISHED
    assert found["gru-1"].state == expected
    assert (found["gru-1"].step, found["gru-1"].best) == (120, 0.25)
    assert (found["gru-1"].host, found["gru-1"].shard) == ("node7", "2/3")
    assert (NOW - found["gru-1"].heartbeat).total_seconds() == age
    assert found["gru-1"].failure == ("no room" if expected == FAILED else None)
    assert found["gru-2"].state == WAITING


def test_of_several_groups_the_latest_counts(workdir):
    group(workdir, "older", logging.TRAINING, 500, ["gru-1", "gru-2"])
    group(workdir, "newer", logging.TRAINING, 5, ["gru-1"])
    found = run_states(workdir)
    assert (found["gru-1"].state, found["gru-2"].state) == (RUNNING, STALLED)


def test_a_group_from_the_future_counts_less_than_one_of_now(workdir):
    group(workdir, "before_the_clock_was_set", logging.TRAINING, -(10**8), ["gru-1", "gru-2"])
    group(workdir, "now", logging.TRAINING, 5, ["gru-1"])
    found = run_states(workdir)
    assert (found["gru-1"].state, found["gru-2"].state) == (RUNNING, STALLED)


def test_failures(tmp_path):
    write_workdir(tmp_path, Made(variants={"gru": 5.0}, seeds=2))
    fail(tmp_path, "gru-0")
    found = run_states(tmp_path)["gru-0"]
    assert (found.state, found.failure[:18]) == (FAILED, "FloatingPointError")
    group(tmp_path, "again", logging.TRAINING, 5, ["gru-0"])  # it is tried once more
    assert run_states(tmp_path)["gru-0"].state == RUNNING
    group(tmp_path, "failing", logging.TRAINING, 1, ["gru-0"], failure="not finite")
    assert run_states(tmp_path)["gru-0"].failure == "not finite"


def test_a_heartbeat_is_there_at_once_and_then_now_and_then(tmp_path):
    file = epath.Path(tmp_path / "group" / "status.json")
    heart = Heartbeat(file)
    heart.beat(logging.COMPILING, group="one")
    heart.beat(logging.TRAINING, step=1)
    heart.beat(logging.TRAINING, step=2)  # too soon
    told = json.loads(file.read_text())
    assert (told["state"], told["group"], told["step"]) == (logging.TRAINING, "one", 1)
    heart.beat(logging.FINISHED)
    told = json.loads(file.read_text())
    assert (told["state"], told["step"]) == (logging.FINISHED, 2)
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(told["heartbeat"])
    assert 0 <= age.total_seconds() < 60
    assert [path.name for path in file.parent.iterdir()] == ["status.json"]


def test_a_heartbeat_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    Heartbeat(epath.Path(tmp_path / "file" / "status.json")).beat(logging.TRAINING)


def status(*arguments):
    command = [sys.executable, "-m", "gru_audio.sweep", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_command(workdir):
    since = datetime.datetime.now(datetime.UTC) - NOW  # other tests may have come between
    group(workdir, "gru-0", logging.TRAINING, -since.total_seconds(), ["gru-1"])
    shown = status("--status", workdir)
    assert shown.returncode == 0, shown.stderr
    for words in ("gru-3", "120/3000", "node7", "2/3", "0.25", "4 runs: 2 waiting, 1 finished"):
        assert words in shown.stdout, words
    told = json.loads(status("--status", workdir, "--json").stdout)
    assert [run["state"] for run in told] == [FINISHED, RUNNING, WAITING, WAITING]


def test_the_command_fails_with_a_run(tmp_path):
    write_workdir(tmp_path, Made(variants={"gru": 5.0}, seeds=2))
    fail(tmp_path, "gru-1")
    shown = status("--status", tmp_path)
    assert shown.returncode == 1
    assert "failed: gru-1: FloatingPointError: the loss is not finite" in shown.stderr


def test_the_command_names_what_it_lacks(tmp_path):
    refused = status("--status", tmp_path)
    assert refused.returncode == 2
    assert "sweep.json is missing" in refused.stderr
    refused = status("--workdir", tmp_path)
    assert refused.returncode == 2
    assert "or use --status" in refused.stderr


def test_it_needs_no_jax():
    """JAX takes seconds to import, and needs devices that training may use."""
    code = "import sys, gru_audio.sweep; print('jax' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    assert time.monotonic() - began < 10


def test_a_workdir_without_a_sweep(tmp_path):
    with pytest.raises(UserError, match=r"sweep\.json is missing"):
        read_sweep(epath.Path(tmp_path))
