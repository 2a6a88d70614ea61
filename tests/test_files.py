"""Folders of any name, locks, and what a disk refuses."""

import errno
import fcntl
import os

import pytest
from etils import epath

from gru_audio.files import lock, matching, refusal

ODD = "lr[1e-3]*?{a,b} é"


def test_a_folder_may_have_any_name(tmp_path):
    folder = epath.Path(tmp_path / ODD)
    assert matching(folder, "*") == []  # there is none
    folder.mkdir()
    for name in ("lock", "lock-1of2", "block", "Lock", ".lock"):
        (folder / name).write_text("")
    assert [path.name for path in matching(folder, "lock*")] == ["lock", "lock-1of2"]
    assert all(path.exists() and path.parent == folder for path in matching(folder, "*"))
    assert matching(folder / "lock", "*") == []  # a file


def test_a_lock_is_held_by_one_or_shared_by_many(tmp_path):
    path = tmp_path / ODD
    with path.open("w") as first, path.open("w") as second:
        assert lock(first)
        assert not lock(second)
        assert not lock(second, shared=True)
    with path.open("w") as first, path.open("w") as second:
        assert lock(first, shared=True)
        assert lock(second, shared=True)
        assert not lock(second)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
@pytest.mark.parametrize("wait", [False, True])
def test_a_disk_without_locks_is_told(tmp_path, monkeypatch, capsys, number, wait):
    """As Lustre and NFS may be mounted."""

    def unable(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unable)
    with (tmp_path / "lock").open("w") as file:
        assert lock(file, wait=wait)
    assert f"cannot be locked ({os.strerror(number)})" in capsys.readouterr().err


def test_what_a_disk_refuses_is_one_line(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/one/result.json")
    assert refusal(full) == "Cannot read or write runs/one/result.json: No space left on device."
    assert "No space left" in refusal(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert refusal(OSError("of a library")) == ""
    assert refusal(ValueError("of the code")) == ""
