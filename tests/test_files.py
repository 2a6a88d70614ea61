"""Folders with any name, locks, links, JSON, and disk errors."""

import errno
import fcntl
import json
import os

import pytest
from etils import epath

from gru_audio.files import (
    lock,
    matching,
    open_own,
    open_regular,
    parse_json,
    read_bytes,
    read_json,
    refusal,
    refuse_traps,
    replacing,
    write_atomically,
)
from gru_audio.settings import UserError

ODD = "lr[1e-3]*?{a,b} é"


def test_a_folder_may_have_any_name(tmp_path):
    folder = epath.Path(tmp_path / ODD)
    assert matching(folder, "*") == []  # it does not exist
    folder.mkdir()
    for name in ("lock", "lock-1of2", "block", "Lock", ".lock"):
        (folder / name).write_text("")
    assert [path.name for path in matching(folder, "lock*")] == ["lock", "lock-1of2"]
    assert all(path.exists() and path.parent == folder for path in matching(folder, "*"))
    assert matching(folder / "lock", "*") == []  # a file


def test_a_lock_is_exclusive_or_shared(tmp_path):
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
def test_a_disk_without_locks_gives_a_warning(tmp_path, monkeypatch, capsys, number, wait):
    """Lustre and NFS may be mounted without locks."""

    def unable(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unable)
    with (tmp_path / "lock").open("w") as file:
        assert lock(file, wait=wait)
    assert f"cannot be locked ({os.strerror(number)})" in capsys.readouterr().err


def test_a_disk_error_is_one_line(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/one/result.json")
    assert refusal(full) == "Cannot read or write runs/one/result.json: No space left on device."
    assert "No space left" in refusal(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert refusal(OSError("of a library")) == ""
    assert refusal(ValueError("of the code")) == ""


@pytest.fixture
def victim(tmp_path):
    """A file next to the folder `in` that must not change."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "victim"
    path.write_text("mine")
    yield path
    assert path.read_text() == "mine"


def test_a_small_file_is_replaced_without_leftovers(tmp_path):
    path = tmp_path / "deep" / "file.json"
    for value in (1, 2):
        write_atomically(path, json.dumps(value))
        assert json.loads(path.read_text()) == value
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_text_is_written_as_utf_8_with_escapes(tmp_path):
    name = os.fsdecode(b"caf\xe9")  # from a file system with another encoding
    write_atomically(tmp_path / "file", "für " + name)
    assert (tmp_path / "file").read_bytes() == "für caf\\udce9".encode()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("planted", ["file", ".file.part"])
def test_a_link_is_replaced_but_not_its_target(victim, planted, shared):
    path = victim.parent / "in" / "file"
    (path.parent / planted).symlink_to(victim)
    write_atomically(path, "new", shared=shared)
    assert path.read_text() == "new"
    assert not path.is_symlink()


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyError), replacing(tmp_path / "file") as file:
        file.write(b"new")
        raise KeyError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


@pytest.mark.parametrize("mode", ["ab", "a+"])
def test_a_link_is_not_opened_for_appending(victim, mode):
    path = victim.parent / "in" / "file"
    with open_own(path, mode):
        pass
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError, match="it is a link: remove it"):
        open_own(path, mode)


@pytest.mark.parametrize("read", [open_regular, read_bytes, lambda path: open_own(path, "a+")])
def test_pipes_devices_and_folders_are_refused(tmp_path, read):
    """LayerGates a pipe without a writer would block forever, and a device may be endless."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(OSError):
            read(path)


def test_links_out_of_a_folder_are_refused(victim):
    home = victim.parent / "in"
    (home / "deep").mkdir()
    (home / "deep" / "up").symlink_to("..")
    refuse_traps(home)
    (home / "deep" / "out").symlink_to("../../victim")
    with pytest.raises(UserError, match=r"out is a link to .*victim, outside of"):
        refuse_traps(home)


@pytest.mark.parametrize("depth", [".", "deep/deeper"])
def test_pipes_in_a_folder_are_refused(tmp_path, depth):
    folder = tmp_path / depth
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").touch()
    refuse_traps(tmp_path)
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError, match="pipe is neither a file nor a folder: remove it"):
        refuse_traps(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "Infinity",
        "[-Infinity]",
        "NaN",
        "1e999",
        "-1e400",
        "9" * 5000,
        "",
        "\ud800",
        "{",
    ],
    ids=lambda text: text[:9] or "empty",
)
def test_invalid_json_is_a_value_error(tmp_path, text):
    with pytest.raises(ValueError):
        parse_json(text)
    (tmp_path / "x.json").write_text(text, "utf-8", "surrogatepass")
    with pytest.raises(ValueError):
        read_json(tmp_path / "x.json")


def test_json_survives_a_round_trip():
    value = {"a": [1, -2.5, 1e300, None, True, "ö"], "b": {}}
    assert parse_json(json.dumps(value)) == value
    assert parse_json("[Infinity]", finite=False) == [float("inf")]
