"""A run is killed, something of what it left is damaged, and it is started again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import (
    assert_same_leavings,
    leavings,
    reading_only,
    run,
    running,
    wait,
    write_experiment,
)

pytestmark = pytest.mark.reliability

CHANGES = (
    "**NOISE, 'train.steps': 120, 'train.log_every': 7, 'train.eval_every': 30, "
    "'checkpoint.every_steps': 10"
)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    experiment = write_experiment(tmp_path_factory.mktemp("experiment") / "tones.py", CHANGES)
    return ["train", "--config", experiment]


@pytest.fixture(scope="module")
def whole(environment, command, tmp_path_factory):
    """What the command leaves when nothing happens to it."""
    workdir = tmp_path_factory.mktemp("whole")
    run(environment, *command, "--workdir", workdir)
    return leavings(workdir)


@pytest.fixture(scope="module")
def interrupted(environment, command, whole, tmp_path_factory):
    """The workdir of a killed run, with two checkpoints."""
    workdir = tmp_path_factory.mktemp("interrupted")
    with running(reading_only(environment), *command, "--workdir", workdir) as process:
        wait(process, lambda: len(list(workdir.glob("groups/*/metrics/*"))) > 5)
    assert len(checkpoints(workdir)) >= 2
    return workdir


def checkpoints(workdir: Path) -> list[Path]:
    """Those that are whole, the latest first."""
    found = [path for path in workdir.glob("groups/*/checkpoints/*") if path.name.isdecimal()]
    return sorted(found, key=lambda path: -int(path.name))


def largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=size)


def size(path: Path) -> int:
    return path.stat().st_size


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: size(path) // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 8)
    data[middle] = bytes(byte ^ 0xFF for byte in data[middle])
    path.write_bytes(data)


DAMAGES = {truncate: "a file cut", flip: "eight bytes flipped", Path.unlink: "a file missing"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("find", [largest, lambda folder: folder / "_CHECKPOINT_METADATA"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    damage: Callable[[Path], None],
    find: Callable[[Path], Path],
    environment,
    command,
    whole,
    interrupted,
    tmp_path,
    outcome,
):
    workdir = tmp_path / "workdir"
    shutil.copytree(interrupted, workdir)
    latest, before, *_ = checkpoints(workdir)
    damage(find(latest))
    said = run(reading_only(environment), *command, "--workdir", workdir).stderr
    assert f"checkpoint {latest.name} is damaged" in said
    assert f"resumes from step {before.name}" in said
    assert f"resumes at step {before.name}" in said
    assert_same_leavings(workdir, whole)
    fault = f"latest checkpoint, {DAMAGES[damage]}"
    outcome(fault, 1, "says so, resumes from the one before: the same bits")


def test_without_a_whole_checkpoint_it_starts_anew(
    environment, command, whole, interrupted, tmp_path, outcome
):
    workdir = tmp_path / "workdir"
    shutil.copytree(interrupted, workdir)
    for checkpoint in checkpoints(workdir):
        flip(largest(checkpoint))
    said = run(reading_only(environment), *command, "--workdir", workdir).stderr
    assert "none is left: starts again" in said
    assert_same_leavings(workdir, whole)
    outcome("all checkpoints damaged", 1, "says so, starts again: the same bits")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metrics_are_made_again(
    damage, environment, command, whole, interrupted, tmp_path, outcome
):
    workdir = tmp_path / "workdir"
    shutil.copytree(interrupted, workdir)
    latest, before, *_ = checkpoints(workdir)
    (segment,) = workdir.glob(f"groups/*/metrics/*-{int(latest.name):09d}.jsonl")
    damage(segment)
    said = run(reading_only(environment), *command, "--workdir", workdir).stderr
    assert f"resumes at step {before.name}" in said
    assert_same_leavings(workdir, whole)
    fault = f"latest metrics, {DAMAGES[damage]}"
    outcome(fault, 1, "resumes from the checkpoint before: the same bits")
