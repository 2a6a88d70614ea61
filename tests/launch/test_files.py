"""The files of launch/, checked without the systems that they are for."""

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

from gru_audio.config import default_config, override
from tests.commands import ROOT

LAUNCH = ROOT / "launch"
FILES = sorted(
    path
    for path in LAUNCH.rglob("*")
    if path.suffix in ("", ".py", ".sh", ".sbatch", ".yaml") and path.is_file()
)
SCRIPTS = [
    ROOT / ".ci" / "run",
    *LAUNCH.glob("*.sh"),
    *LAUNCH.glob("*.sbatch"),
    *(ROOT / "benchmarks").glob("*.sh"),
    *(ROOT / "tests").rglob("*.sh"),
]
EXIT_PREEMPTED = 75

LOAD = """
import sys, yaml
from sky.task import Task
task = Task.from_yaml_config(yaml.safe_load(open(sys.argv[1])), [("WORKDIR", "gs://bucket/sweep")])
for resources in task.resources:
    print(resources.use_spot, resources.job_recovery["recover_on_exit_codes"])
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lint(tool: str, path: Path) -> None:
    program = Path(sysconfig.get_path("scripts")) / tool
    done = subprocess.run([program, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_pass_shellcheck(path):
    lint("shellcheck", path)


def test_the_dockerfile_passes_hadolint_and_copies_what_is_there():
    file = LAUNCH / "Dockerfile"
    lint("hadolint", file)
    copies = [line.split()[1:-1] for line in file.read_text().splitlines() if line[:5] == "COPY "]
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (name for names in copies for name in names):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in sent, f".dockerignore keeps {name} from Docker"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_they_name_exists(path):
    text = path.read_text()
    for experiment in re.findall(r"experiments/\w+\.py", text):
        assert (ROOT / experiment).exists()
    for key, value in re.findall(r"--config\.([\w.]+)=(\w+)", text):
        override(default_config(), {key: value})


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_page_leads_to_them(path):
    assert f"({path.relative_to(LAUNCH)})" in (LAUNCH / "README.md").read_text()


def test_the_jobset_is_one():
    """Fields that the model of a JobSet does not know would be lost in the conversion."""
    manifest = yaml.safe_load((LAUNCH / "gke" / "jobset.yaml").read_text())
    understood = JobsetV1alpha2JobSet.from_dict(manifest).to_dict()
    assert without_defaults(understood, manifest) == manifest
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    hosts, chips = job["parallelism"], container["resources"]["limits"]["google.com/tpu"]
    assert job["completions"] == hosts
    topology = job["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    rows, columns = map(int, topology.split("x"))
    assert rows * columns == hosts * chips


def without_defaults(understood, manifest):
    """Removes the keys that the manifest does not set."""
    if isinstance(manifest, dict):
        return {
            key: without_defaults(understood.get(key), value) for key, value in manifest.items()
        }
    if isinstance(manifest, list):
        return [without_defaults(*pair) for pair in zip(understood, manifest, strict=True)]
    return understood


@pytest.mark.skipif(
    importlib.util.find_spec("sky") is None,
    reason="SkyPilot needs half a gigabyte: pip install skypilot to run this test",
)
@pytest.mark.parametrize("path", sorted((LAUNCH / "skypilot").iterdir()), ids=name_of)
def test_skypilot_reads_its_files(path, tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()[-1:]) == {f"True [{EXIT_PREEMPTED}]"}


def test_what_tpu_vm_would_do():
    flags = ["--config", "experiments/spoken_digit.py", "--workdir", "gs://bucket/digits"]
    shown = subprocess.run(
        [LAUNCH / "tpu_vm.sh", "--dry_run", "digits", *flags],
        env={"PATH": os.environ["PATH"], "ZONE": "us-central1-a"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = Path(__file__).with_name("tpu_vm.txt").read_text()
    assert re.sub(r"/\S*(?=/code.tar.gz)", "CODE", shown) == expected


@pytest.mark.parametrize("arguments", [[], ["digits"], ["--config", "x.py"]])
def test_tpu_vm_explains_itself(arguments):
    done = subprocess.run(
        [LAUNCH / "tpu_vm.sh", *arguments],
        env={"PATH": os.environ["PATH"], "ZONE": "us-central1-a"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--workdir gs://" in done.stderr


def test_tpu_vm_leaves_alone_what_it_has_not_created(tmp_path):
    """A stand-in for `gcloud` refuses to create a resource that exists."""
    (tmp_path / "gcloud").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit 1\n')
    (tmp_path / "gcloud").chmod(0o755)
    done = subprocess.run(
        [LAUNCH / "tpu_vm.sh", "digits", "--config", "x.py", "--workdir=gs://bucket/digits"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "ZONE": "us-central1-a"},
        capture_output=True,
        text=True,
    )
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert "queued-resources create digits" in asked
    assert done.returncode == 1
    assert "Nothing was deleted" in done.stderr


def test_tpu_vm_refuses_a_workdir_that_is_deleted_with_the_machine():
    done = subprocess.run(
        [LAUNCH / "tpu_vm.sh", "digits", "--config", "x.py", "--workdir", "runs/digits"],
        env={"PATH": os.environ["PATH"], "ZONE": "us-central1-a"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "gs://" in done.stderr
