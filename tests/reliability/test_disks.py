"""Disks that fill up and disks that cannot be written to, as tmpfs mounts; this takes root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import (
    ROOT,
    arguments,
    assert_same_leavings,
    leavings,
    reading_only,
    run,
    wait,
    write_experiment,
)

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs"),
]

CHANGES = "'train.steps': 300, 'train.eval_every': 30, 'checkpoint.every_steps': 10"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs at `folder`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Writes a file that takes all the room there is."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 8, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def test_a_disk_that_is_full_for_a_while(environment, tmp_path, outcome):
    command = ["train", "--config", write_experiment(tmp_path / "tones.py", CHANGES)]
    run(environment, *command, "--workdir", tmp_path / "whole")
    with mounted(tmp_path / "disk", "size=16m") as disk:
        workdir, filler = disk / "workdir", disk / "filler"
        process = subprocess.Popen(
            arguments(*command, "--workdir", workdir),
            cwd=ROOT,
            env=reading_only(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            wait(process, lambda: len(list(workdir.glob("groups/*/metrics/*"))) > 3)
            fill(filler)
            said = ""
            while "No space left on device" not in said:
                said = process.stderr.readline()
                assert said, "it ended"
            filler.unlink()
            rest = process.stderr.read()
        assert process.returncode == 0, rest
        assert "Traceback" not in rest
        assert "training goes on" in said
        assert_same_leavings(workdir, leavings(tmp_path / "whole"))
    outcome("disk full, later with room again", 1, "says so, trains on, saves later: the same bits")


def test_a_workdir_that_cannot_be_written(environment, tmp_path, outcome):
    command = ["train", "--config", write_experiment(tmp_path / "tones.py", CHANGES)]
    with mounted(tmp_path / "disk", "size=1m,ro") as disk:
        refused = run(environment, *command, "--workdir", disk, code=2)
    assert "Cannot write to workdir" in refused.stderr
    assert "Read-only file system" in refused.stderr
    outcome("read-only workdir", 1, "one line that says so, before any work; exit code 2")


def stopped_by_the_disk(environment, command, workdir, moment, spoil):
    """Runs a command, spoils the disk at a moment; what it says as it ends."""
    process = subprocess.Popen(
        arguments(*command, "--workdir", workdir),
        cwd=ROOT,
        env=reading_only(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        wait(process, moment)
        spoil()
        said = process.stderr.read()
    assert process.returncode == 2, said
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("error: ")
    assert "No space left on device" in last
    return last


@pytest.mark.parametrize("moment", ["scoring", "reporting"])
def test_a_disk_that_is_full_at_the_end(environment, tmp_path, outcome, moment):
    changes = "'train.steps': 30, 'train.eval_every': 10"
    command = ["train", "--config", write_experiment(tmp_path / "tones.py", changes)]
    run(environment, *command, "--workdir", tmp_path / "whole")
    with mounted(tmp_path / "disk", "size=16m") as disk:
        workdir, filler = disk / "workdir", disk / "filler"

        def here() -> bool:
            if moment == "reporting":
                return len(list(workdir.glob("runs/*/result.json"))) == 1
            return any('"scoring"' in path.read_text() for path in workdir.glob("groups/*/*.json"))

        stopped_by_the_disk(environment, command, workdir, here, lambda: fill(filler))
        filler.unlink()
        run(environment, *command, "--workdir", workdir)
        assert_same_leavings(workdir, leavings(tmp_path / "whole"))
        assert (workdir / "report" / "index.html").exists()
    outcome(f"disk full while {moment}", 1, "one line, exit code 2; resumed to the same bits")


def test_a_disk_without_inodes(environment, tmp_path, outcome):
    changes = "'train.steps': 30, 'train.eval_every': 10"
    command = ["train", "--config", write_experiment(tmp_path / "tones.py", changes)]
    with mounted(tmp_path / "disk", "size=16m,nr_inodes=2") as disk:
        workdir = disk / "workdir"
        for inodes in (2, 3, 4, 5, 6):  # none for the lock, for sweep.json, for folders
            subprocess.run(["mount", "-o", f"remount,nr_inodes={inodes}", disk], check=True)
            stopped_by_the_disk(environment, command, workdir, lambda: True, lambda: None)
        subprocess.run(["mount", "-o", "remount,nr_inodes=1000", disk], check=True)
        run(environment, *command, "--workdir", workdir)
        assert len(leavings(workdir)) == 1
    outcome("disk without inodes", 5, "one line, exit code 2; resumes")
