"""Sweeps under a real SLURM of one node: `make test-slurm`."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT, assert_same_leavings, leavings, run, write_experiment
from tests.tones import assert_same

pytestmark = pytest.mark.slurm

CLUSTER = Path(__file__).parent / "slurm" / "cluster.sh"
CHANGES = "'train.steps': 300, 'train.eval_every': 50, 'parallel.call_seconds': 0.0"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


@pytest.fixture(scope="module")
def slurm(environment) -> Iterator[dict[str, str]]:
    """The environment of jobs on a cluster that exists during these tests."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # the path of a socket must be short
    try:
        subprocess.run([CLUSTER, "up", folder], check=True, timeout=120)
        yield environment | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
    finally:
        subprocess.run([CLUSTER, "down", folder], check=True, timeout=60)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """Two programs of two runs each."""
    return write_experiment(tmp_path_factory.mktemp("experiment") / "tones.py", CHANGES)


@pytest.fixture(scope="module")
def whole(environment, experiment, tmp_path_factory) -> Mapping[str, Any]:
    """The results of the sweep without SLURM."""
    workdir = tmp_path_factory.mktemp("whole")
    run(environment, "sweep", "--config", experiment, "--workdir", workdir)
    return leavings(workdir)


class Job:
    """A SLURM job: a single job or an array."""

    def __init__(self, slurm: Mapping[str, str], output: Path, *arguments: Any):
        self._slurm, self._output = slurm, output
        self.id = self.call("sbatch", "--parsable", f"--output={output}", *arguments)

    @property
    def output(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    def call(self, *command: Any) -> str:
        return subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=dict(self._slurm),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()

    def field(self, name: str) -> str:
        """Returns a field of SLURM for each task: `JobState`, `Restarts`, `ExitCode`, ..."""
        shown = self.call("scontrol", "--oneliner", "show", "job", self.id)
        return " ".join(re.findall(rf"\b{name}=(\S+)", shown))

    @property
    def ended(self) -> bool:
        """Whether all tasks have ended."""
        return all(state in ENDED for state in self.field("JobState").split())

    def wait(self) -> None:
        """Waits until the job has ended."""
        deadline = time.monotonic() + 200
        while not self.ended:
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)

    def wait_for_output(self, text: str) -> None:
        while text not in self.output:
            assert not self.ended, self.output
            time.sleep(0.1)


def array(tasks: int, cpus: int) -> list[str]:
    return [f"--array=1-{tasks}", f"--cpus-per-task={cpus}", "launch/slurm.sbatch"]


def assert_same_numbers(workdir: Path, whole: Mapping[str, Any]) -> None:
    """Compares bits. Other results may depend on the number of devices and their memory."""
    for name, found in leavings(workdir).items():
        for part in ("model", "predictions"):
            assert_same(found[part], whole[name][part])
        assert found["metrics"] == whole[name]["metrics"]


TWO_TASKS = ["--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=2"]
TWO_TASKS += ["launch/slurm_multinode.sbatch"]
A_DEVICE_EACH = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}


def test_two_shards_at_once(slurm, experiment, whole, tmp_path):
    workdir = tmp_path / "workdir"
    sweep = ["--config", experiment, "--workdir", workdir]
    job = Job(slurm, tmp_path / "output", *array(2, cpus=2), *sweep)
    job.wait()
    assert job.field("ExitCode") == "0:0 0:0", job.output
    assert_same_leavings(workdir, whole)
    assert (workdir / "report" / "index.html").exists()


def test_two_tasks_as_one_program(slurm, experiment, whole, tmp_path):
    workdir = tmp_path / "workdir"
    sweep = ["--config", experiment, "--workdir", workdir, "--config.parallel.member=2"]
    job = Job(slurm | A_DEVICE_EACH, tmp_path / "output", *TWO_TASKS, *sweep)
    job.wait()
    assert job.field("ExitCode") == "0:0", job.output
    described = json.loads((workdir / "sweep.json").read_text())["environment"]
    assert (described["processes"], described["devices"]) == (2, 2)
    assert_same_numbers(workdir, whole)


@pytest.mark.parametrize(
    ("script", "members"), [(array(1, cpus=4), 1), (TWO_TASKS, 2)], ids=["array", "two tasks"]
)
def test_preempted_requeued_and_resumed_to_the_same_bits(
    slurm, experiment, whole, tmp_path, script, members
):
    workdir = tmp_path / "workdir"
    sweep = ["--config", experiment, "--workdir", workdir, f"--config.parallel.member={members}"]
    job = Job(slurm | A_DEVICE_EACH, tmp_path / "output", *script, *sweep)
    job.wait_for_output("compiling")
    time.sleep(2)  # into the compilation or the first steps
    urgent = ["--partition=urgent", "--cpus-per-task=4", "--wrap=true"]
    Job(slurm, tmp_path / "urgent", *urgent)
    job.wait()
    assert (job.field("ExitCode"), job.field("Restarts")) == ("0:0", "1"), job.output
    assert "preempted: all is saved" in job.output
    assert "resumes at step" in job.output
    assert_same_numbers(workdir, whole)


def test_cancelled_for_good(slurm, experiment, tmp_path):
    sweep = ["--config", experiment, "--workdir", tmp_path / "workdir"]
    job = Job(slurm, tmp_path / "output", *array(1, cpus=4), *sweep)
    job.wait_for_output("compiling")
    job.call("scancel", job.id)
    job.wait()
    assert (job.field("JobState"), job.field("Restarts")) == ("CANCELLED", "0"), job.output


def test_a_run_that_fails_is_reported(slurm, environment, tmp_path):
    experiment = write_experiment(tmp_path / "tones.py", "'train.steps': 20")
    failing = '"RNN": {"model.cell": "rnn", "optimizer.learning_rate": 1e38}'
    experiment.write_text(experiment.read_text().replace('"RNN": {"model.cell": "rnn"}', failing))
    workdir = tmp_path / "workdir"
    sweep = ["--config", experiment, "--workdir", workdir]
    job = Job(slurm, tmp_path / "output", *array(2, cpus=2), *sweep)
    job.wait()
    assert sorted(job.field("ExitCode").split()) == ["0:0", "1:0"], job.output
    shown = run(environment, "sweep", "--status", workdir, code=1).stdout
    for name, state in [("GRU", "finished"), ("RNN", "failed")]:
        for seed in (0, 1):
            assert re.search(rf"{name}-seed{seed}\W.*{state}", shown), shown
