"""The command `prepare`: interrupted, concurrent, repeated, and with invalid options."""

import errno
import fcntl
import functools
import hashlib
import http.server
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gru_audio.data import index
from gru_audio.data.datasets import archive, spoken_digit
from gru_audio.data.datasets.download import download
from gru_audio.data.source import open_source
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from tests import sounds


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    sounds.write_classes(folder, {"cat": 100, "dog": 100})
    (folder / "cat" / "notes.txt").write_text("not a sound")
    return folder


@pytest.fixture(scope="module")
def fingerprint(folder, tmp_path_factory) -> str:
    data_dir = tmp_path_factory.mktemp("data")
    prepare("folder", data_dir, name="mine", folder=str(folder))
    return open_source("mine", data_dir).fingerprint


def start(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "gru_audio.prepare", *arguments],
        cwd=sounds.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def mine(folder: Path, data_dir: Path) -> list[str]:
    return ["folder", "--name=mine", f"--folder={folder}", f"--data_dir={data_dir}"]


def visible(data_dir: Path) -> list[str]:
    return sorted(p.name for p in (data_dir / "mine").glob("[!.]*") if "incomplete" not in p.name)


def test_the_summary_says_what_there_is(folder, tmp_path):
    code, out, err = run(*mine(folder, tmp_path))
    assert code == 0, err
    for line in (
        "clips: 200, ",
        "rate: 16000 Hz; files: 200 at 16000 Hz",
        "label: 2 classes: cat, dog",
        "train: 160 clips",
        "validation: 20 clips",
        "test: 20 clips",
        "skipped: 1",
        "cat/notes.txt: not audio",
    ):
        assert line in out
    assert "mine: 201 of 201 clips" in err
    assert visible(tmp_path) == ["1.2.0"]


def test_a_second_call_says_so_and_changes_nothing(folder, tmp_path):
    first = prepare("folder", tmp_path, name="mine", folder=str(folder))
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "mine" / "1.2.0").iterdir()}
    second = prepare("folder", tmp_path, name="mine", folder=str(folder))
    assert second == f"{first}\nIt was prepared already; --overwrite prepares it again."
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "mine" / "1.2.0").iterdir()} == stamps
    with pytest.raises(UserError, match="sample_rate 16000 instead of 8000"):
        prepare("folder", tmp_path, name="mine", folder=str(folder), sample_rate=8000)
    prepare("folder", tmp_path, name="mine", folder=str(folder), sample_rate=8000, overwrite=True)
    assert open_source("mine", tmp_path).signal.rate == 8000
    assert visible(tmp_path) == ["1.2.0"]


def test_changed_files_are_reported(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 20, "dog": 20})
    options = {"name": "mine", "folder": str(tmp_path / "sounds")}
    prepare("folder", tmp_path, **options)
    extra = sounds.encode(sounds.tone(frequency=2000))
    for i in range(20, 32):
        (tmp_path / "sounds" / "cat" / f"{i}.wav").write_bytes(extra)
    (tmp_path / "sounds" / "dog" / "0.wav").unlink()
    told = prepare("folder", tmp_path, **options).splitlines()[-1]
    assert told == (
        "It was prepared already, but since then 12 files were added (cat/20.wav, "
        "cat/21.wav, cat/22.wav, ...), 1 file was removed (dog/0.wav). "
        "--overwrite prepares it again."
    )
    assert "clips: 51," in prepare("folder", tmp_path, overwrite=True, **options)
    assert "It was prepared already; " in prepare("folder", tmp_path, **options)
    shutil.rmtree(tmp_path / "sounds")
    assert "cannot be compared: There is no folder" in prepare("folder", tmp_path, **options)


def test_changes_of_manifests_and_archives_are_reported(tmp_path):
    for i in range(12):
        (tmp_path / f"{i}.wav").write_bytes(sounds.encode(sounds.tone(frequency=300 + i)))
    listed = "file,label\n" + "".join(f"{i}.wav,{'ab'[i % 2]}\n" for i in range(12))
    (tmp_path / "list.csv").write_text(listed)
    options = {"name": "mine", "manifest": str(tmp_path / "list.csv")}
    prepare("manifest", tmp_path, **options)
    (tmp_path / "3.wav").write_bytes(sounds.encode(sounds.tone(0.1)))
    assert "1 file was changed (3.wav)." in prepare("manifest", tmp_path, **options)
    (tmp_path / "list.csv").write_text(listed + "\n")
    with pytest.raises(UserError, match="from a manifest that has changed since"):
        prepare("manifest", tmp_path, **options)
    sounds.write_classes(tmp_path / "sounds" / "all", {"cat": 12})
    options = {"name": "other", "archive": str(tmp_path / "x.tar")}
    for expected in ("clips: 12,", "1 file was changed (x.tar)"):
        shutil.make_archive(str(tmp_path / "x"), "tar", tmp_path / "sounds")
        assert expected in prepare("folder", tmp_path, **options)


def test_a_damaged_data_set_is_prepared_again(folder, tmp_path):
    prepare("folder", tmp_path, name="mine", folder=str(folder))
    (tmp_path / "mine" / "1.2.0" / "source.json").write_text("{}")
    with pytest.raises(UserError, match=r"damaged.*--overwrite"):
        prepare("folder", tmp_path, name="mine", folder=str(folder))
    prepare("folder", tmp_path, name="mine", folder=str(folder), overwrite=True)
    assert len(open_source("mine", tmp_path)) == 200


def test_killed_at_any_moment_and_started_again(folder, fingerprint, tmp_path):
    begin = time.monotonic()
    assert run(*mine(folder, tmp_path / "timing"))[0] == 0
    duration = time.monotonic() - begin
    moments = random.Random(0)
    for _ in range(4):
        process = start(*mine(folder, tmp_path))
        time.sleep(duration * moments.uniform(0.4, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert visible(tmp_path) in ([], ["1.2.0"])
        if visible(tmp_path):
            assert open_source("mine", tmp_path).fingerprint == fingerprint
    assert run(*mine(folder, tmp_path))[0] == 0
    assert open_source("mine", tmp_path).fingerprint == fingerprint
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {".lock", "1.2.0"}


def test_killed_while_the_clips_are_written(folder, fingerprint, tmp_path):
    code = (
        "import os, signal, sys\n"
        "from gru_audio.prepare import prepare\n"
        "def progress(done, total):\n"
        "    if done == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare('folder', sys.argv[1], name='mine', folder=sys.argv[2], progress=progress)\n"
    )
    for moment in (1, 100, 201):
        arguments = [str(tmp_path), str(folder), str(moment)]
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=sounds.ROOT)
        assert done.returncode == -signal.SIGKILL
        assert visible(tmp_path) == []
        with pytest.raises(UserError, match="no data set"):
            open_source("mine", tmp_path)
    prepare("folder", tmp_path, name="mine", folder=str(folder))
    assert open_source("mine", tmp_path).fingerprint == fingerprint
    assert not list((tmp_path / "mine").glob("incomplete*"))


def test_the_old_one_stays_until_the_new_one_is_complete(folder, fingerprint, tmp_path):
    prepare("folder", tmp_path, name="mine", folder=str(folder))

    def fail(done: int, total: int) -> None:
        assert open_source("mine", tmp_path).fingerprint == fingerprint
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(
            *("folder", tmp_path), name="mine", folder=str(folder), overwrite=True, progress=fail
        )
    assert open_source("mine", tmp_path).fingerprint == fingerprint
    assert not list((tmp_path / "mine").glob("incomplete*"))


@pytest.mark.parametrize("first", [errno.ENOLCK, errno.EWOULDBLOCK])
def test_a_disk_without_locks(folder, fingerprint, tmp_path, monkeypatch, capsys, first):
    """The error may come at once, or only from a blocking lock."""
    output_names = iter([first, errno.ENOLCK])

    def flock(file, how):
        number = next(output_names)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    prepare("folder", tmp_path, name="mine", folder=str(folder))
    assert "cannot be locked (No locks available)" in capsys.readouterr().err
    assert open_source("mine", tmp_path).fingerprint == fingerprint


def test_a_folder_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".lock").mkdir()
    with pytest.raises(UserError, match=r"Cannot prepare mine: .*Is a directory"):
        prepare("folder", tmp_path, name="mine", folder=str(folder))


def test_two_at_once_take_turns(folder, fingerprint, tmp_path):
    both = [start(*mine(folder, tmp_path)) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("It was prepared already" in out for out, _ in outputs) == 1
    assert open_source("mine", tmp_path).fingerprint == fingerprint


def test_refusal_names_the_files_and_leaves_nothing(folder, tmp_path):
    code, out, err = run(*mine(folder, tmp_path), "--on_bad_file=refuse")
    assert (code, out) == (2, "")
    assert "1 of 201 clips cannot be used:\n  cat/notes.txt: not audio" in err
    assert "Traceback" not in err
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name the data set to prepare"),
        (["spoken_digits"], 'Did you mean "spoken_digit"'),
        (["folder", "--folder=x"], "folder needs --name"),
        (["manifest", "--name=x"], "manifest needs --manifest"),
        (["tts_digits", "--folder=x"], "tts_digits does not take --folder"),
        (["folder", "--name=folder", "--folder=x"], "is the name of another data set"),
        (["folder", "--name=a/b", "--folder=x"], "is not a valid name"),
        (["folder", "--name=x", "--folder=/does/not/exist"], "does not exist"),
        (["folder", "--name=x", "--folder=.", "--fractions=1,2"], "Fractions"),
        (["spoken_digit", "--archive=/does/not/exist"], "does not exist"),
        (["spoken_digit", "--sample_rate=0"], "sample_rate"),
        (["folder", "--name=x", "--folder=x", "--seed=-1"], "seed"),
        (["folder", "--name=x", "--folder=.", "--data_dir=/dev/null/x"], "Cannot prepare x"),
        (["spoken_digit", "--on_bad_file=ignore"], "on_bad_file"),
        (["spoken_digit", "--data_dir=gs://bucket/data"], "is not a local folder"),
    ],
)
def test_invalid_options_are_refused(tmp_path, arguments, message):
    if not any(argument.startswith("--data_dir") for argument in arguments):
        arguments = [*arguments, f"--data_dir={tmp_path}"]
    code, _, err = run(*arguments)
    assert code != 0
    assert message in err
    assert "Traceback" not in err


def test_the_help():
    _, out, _ = run("--help")
    for word in ("spoken_digit", "tts_digits", "folder --name", "manifest --name", "--on_bad_file"):
        assert word in out


# Downloads from a local server


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files; truncates those with a special name."""

    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "cut" in self.path else content)


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "server"
    root.mkdir()
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_download_is_there_whole_or_not_at_all(server, tmp_path):
    root, url = server
    content = os.urandom(100_000)
    (root / "file").write_bytes(content)
    (root / "cut").write_bytes(content)
    target = tmp_path / "downloads" / "file"
    for wrong in ("cut", "absent"):
        with pytest.raises(UserError, match="--archive"):
            download(f"{url}/{wrong}", target)
        assert not target.exists()
    assert download(f"{url}/file", target).read_bytes() == content
    assert archive.sha256(target) == hashlib.sha256(content).hexdigest()
    (root / "file").unlink()
    assert download(f"{url}/file", target).read_bytes() == content  # not fetched again


def test_spoken_digit_is_downloaded_and_verified(server, tmp_path, monkeypatch):
    root, url = server
    original = sounds.archive("spoken-digit/*.tar.gz")
    (root / "fsdd.tar.gz").symlink_to(original)
    monkeypatch.setattr(spoken_digit, "URL", f"{url}/fsdd.tar.gz")
    told = prepare("spoken_digit", tmp_path)
    assert "clips: 3000, 0.365 hours" in told
    assert "verified: the recordings are those of release 1.0.10" in told
    assert index.prepared(tmp_path) == ["spoken_digit"]
