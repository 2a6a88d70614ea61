"""A workdir belongs to one sweep, and to one process at a time."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gru_audio.settings import UserError
from gru_audio.sweeps import workdir as workdirs
from gru_audio.sweeps.shard import WHOLE, Shard
from gru_audio.sweeps.workdir import Workdir

DESCRIPTION = {
    "experiment": "tones",
    "description": "Tones.",
    "config": {"model.hidden": 8, "train.steps": 20},
    "variants": {"GRU": {"model.cell": "gru"}},
    "trials": [{}],
    "replicates": [{"seed": 0}],
    "halving": None,
    "data_fingerprint": "abc",
    "environment": {"jax": "0.10.2"},
}

HOLD = """
import sys, time
from gru_audio.sweeps.shard import Shard
from gru_audio.sweeps.workdir import Workdir
with Workdir(sys.argv[1]).lock(Shard.parse(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held(workdir, shard, environment):
    """A process that holds a shard until it is killed."""
    command = [sys.executable, "-c", HOLD, workdir, shard]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        assert holder.stdout.readline() == b"held\n"
        yield holder.pid
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path, environment):
    with held(tmp_path, "1/1", environment) as pid:
        refusal = rf"{tmp_path} is in use by process {pid} on .*another --workdir"
        with pytest.raises(UserError, match=refusal), Workdir(tmp_path).lock():
            pytest.fail("the lock was given twice")
    for _ in range(2):  # nothing is left that would have to be removed
        with Workdir(tmp_path).lock():
            assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_other_shards_are_let_in_but_not_of_another_division(tmp_path, environment):
    with held(tmp_path, "1/2", environment) as pid:
        with Workdir(tmp_path).lock(Shard(2, 2)):
            pass
        for shard in (Shard(1, 2), Shard(1, 3), Shard(3, 3), WHOLE):
            refused = pytest.raises(UserError, match=f"in use by process {pid} on")
            with refused, Workdir(tmp_path).lock(shard):
                pytest.fail(f"{shard} was let in")
    with Workdir(tmp_path).lock(Shard(1, 3)):
        pass


def test_two_shards_that_look_at_once_do_not_refuse_each_other(tmp_path):
    (tmp_path / Shard(1, 3).lock).write_text("process 1 on another\n")  # left by another division
    with open(tmp_path / Shard(1, 3).lock) as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with Workdir(tmp_path).lock(Shard(1, 2)):
            pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    """Lustre may be mounted without locks."""

    def unable(file, lock):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unable)
    with Workdir(tmp_path).lock():
        assert "cannot be locked (Function not implemented)" in capsys.readouterr().err


def test_a_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    workdir = Workdir(tmp_path / "file")
    with pytest.raises(UserError, match="Cannot write to workdir"), workdir.lock():
        pytest.fail("a file was taken for a directory")


def test_a_workdir_is_claimed_once(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(DESCRIPTION)
    assert json.loads(workdir.sweep_file.read_text()) == DESCRIPTION
    # What does not change the numbers may change, and what is there stays.
    workdir.claim(DESCRIPTION | {"environment": {"jax": "0.12.0"}, "description": "Sounds."})
    moved = DESCRIPTION["config"] | {"data.dir": "elsewhere", "parallel.member": 2}
    workdir.claim(DESCRIPTION | {"config": moved | {"checkpoint.keep": 5}})
    assert json.loads(workdir.sweep_file.read_text()) == DESCRIPTION


def test_a_sweep_that_goes_on_elsewhere_is_told_of_it(tmp_path, capsys):
    Workdir(tmp_path).claim(DESCRIPTION)
    Workdir(tmp_path).claim(DESCRIPTION)
    assert not capsys.readouterr().err
    Workdir(tmp_path).claim(DESCRIPTION | {"environment": {"jax": "0.12.0"}})
    assert "environment.jax: 0.10.2 -> 0.12.0" in capsys.readouterr().err


def test_of_several_that_claim_at_once_one_wins_and_all_that_differ_know(tmp_path):
    several = [DESCRIPTION | {"data_fingerprint": str(i % 2)} for i in range(16)]

    def claim(description):
        try:
            Workdir(tmp_path).claim(description)
        except UserError:
            return None
        return description["data_fingerprint"]

    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(claim, several))
    winner = json.loads((tmp_path / "sweep.json").read_text())["data_fingerprint"]
    assert claimed == [its if (its := str(i % 2)) == winner else None for i in range(16)]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_another_config_is_refused_with_the_difference(tmp_path):
    Workdir(tmp_path).claim(DESCRIPTION)
    other = DESCRIPTION | {
        "config": {"model.hidden": 16, "train.steps": 20},
        "variants": {"GRU": {"model.cell": "gru"}, "LSTM": {"model.cell": "lstm"}},
        "data_fingerprint": "abd",
    }
    with pytest.raises(UserError) as refusal:
        Workdir(tmp_path).claim(other)
    lines = str(refusal.value).splitlines()
    assert "holds another sweep" in lines[0]
    assert [line.strip() for line in lines[1:]] == [
        "config.model.hidden: 8 -> 16",
        "variants.LSTM: None -> {'model.cell': 'lstm'}",
        "data_fingerprint: abc -> abd",
    ]


def test_predictions_come_back(tmp_path):
    workdir = Workdir(tmp_path)
    arrays = {"example": np.arange(3, dtype=np.int32), "loss": np.float32([0.1, 0.2, 0.3])}
    workdir.save_predictions("run", "test", arrays)
    folder = workdir.run("run") / "predictions"
    with np.load(folder / "test.npz", allow_pickle=False) as saved:
        for name, values in arrays.items():
            np.testing.assert_array_equal(saved[name], values)
    assert [path.name for path in folder.iterdir()] == ["test.npz"]


def finish(workdir, run):
    workdir.model(run).mkdir(parents=True)
    (workdir.model(run) / "model.json").write_text("{}")


def test_finding_a_model(tmp_path):
    workdir = Workdir(tmp_path)
    with pytest.raises(UserError, match="No finished run"):
        workdir.find_model(None)
    finish(workdir, "GRU-seed0")
    workdir.run("GRU-seed1").mkdir()  # not finished
    assert workdir.find_model(None) == workdir.find_model("GRU-seed0") == workdir.model("GRU-seed0")
    finish(workdir, "LSTM-seed0")
    with pytest.raises(UserError, match=r"choose one by --run\. GRU-seed0, LSTM-seed0"):
        workdir.find_model(None)
    with pytest.raises(UserError, match='Did you mean "LSTM-seed0"'):
        workdir.find_model("LSTM-sed0")


def test_environment_is_json():
    found = workdirs.environment()
    assert {"python", "jax", "flax", "commit", "host_cores"} <= found.keys()
    assert json.loads(json.dumps(found)) == found


def repository(root, project):
    """A repository of a project with one commit, and a `gru_audio` in it."""
    (root / "gru_audio").mkdir(parents=True)
    (root / "gru_audio" / "__init__.py").write_text("")
    (root / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    who = [f"GIT_{role}_{key}" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")]
    environment = os.environ | dict.fromkeys(who, "a@b.c")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", root, *arguments], check=True, env=environment)
    head = subprocess.check_output(["git", "-C", root, "rev-parse", "HEAD"], text=True)
    return head.strip()


def test_the_commit_is_that_of_this_project_alone(tmp_path, monkeypatch):
    own = repository(tmp_path / "own", "gru-audio")
    repository(tmp_path / "other", "their-project")
    assert workdirs.commit(tmp_path / "own" / "gru_audio") == own
    assert workdirs.commit(tmp_path / "other" / "gru_audio") is None

    installed = tmp_path / "other" / ".venv" / "lib" / "gru_audio"
    beside = tmp_path / "own" / ".venv" / "lib" / "gru_audio"  # a copy, which may be an older one
    nowhere = tmp_path / "nowhere" / "gru_audio"
    for folder in (installed, beside, nowhere):
        folder.mkdir(parents=True)
        assert workdirs.commit(folder) is None

    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))  # as git sets it for its hooks
    assert workdirs.commit(tmp_path / "own" / "gru_audio") == own
    (tmp_path / "own" / "gru_audio" / "__init__.py").write_text("changed")
    assert workdirs.commit(tmp_path / "own" / "gru_audio") == f"{own}+changes"


def test_a_repository_whose_pyproject_is_damaged_has_no_commit(tmp_path):
    repository(tmp_path, "gru-audio")
    for text in ("[project", "[tool]\n", "project = 3\n"):
        (tmp_path / "pyproject.toml").write_text(text)
        assert workdirs.commit(tmp_path / "gru_audio") is None


@pytest.mark.parametrize("name", ["lock", "report", "runs/GRU", "groups/g/status.json", "dead"])
def test_a_link_that_leads_out_of_a_workdir_is_refused(tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    workdir = tmp_path / "workdir"
    (workdir / name).parent.mkdir(parents=True)
    (workdir / name).symlink_to(outside if name != "dead" else tmp_path / "absent")
    with pytest.raises(UserError, match=f"{name} is a link to"), Workdir(workdir).lock():
        pytest.fail("the link was taken")
    assert outside.read_text() == "mine"
    assert not (tmp_path / "absent").exists()


def test_links_within_a_workdir_and_to_it_are_taken(tmp_path):
    (tmp_path / "workdir" / "runs").mkdir(parents=True)
    (tmp_path / "workdir" / "latest").symlink_to("runs")
    (tmp_path / "scratch").symlink_to(tmp_path / "workdir")
    with Workdir(tmp_path / "scratch").lock():
        assert (tmp_path / "workdir" / "lock").exists()
