"""Random access to prepared clips, from threads and processes, and with untrusted files."""

import hashlib
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gru_audio.audio.io import decode
from gru_audio.data import index
from gru_audio.data.fields import ClassField
from gru_audio.data.source import Source, default_data_dir, open_source
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from tests import sounds


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    sounds.write_classes(folder, {"cat": 20, "dog": 30})
    return folder


@pytest.fixture(scope="module")
def data_dir(folder, tmp_path_factory) -> Path:
    data_dir = tmp_path_factory.mktemp("data")
    prepare("folder", data_dir, name="mine", folder=str(folder))
    return data_dir


@pytest.fixture
def source(data_dir) -> Source:
    return open_source("mine", data_dir)


def test_the_columns_describe_every_clip(source, folder):
    assert source.name == "mine"
    assert source.signal.rate == 16000
    assert source.fields == {"label": ClassField(("cat", "dog"))}
    assert source.splits() == ("train", "validation", "test")
    assert len(source) == 50
    assert set(source.columns) == {"split", "length", "clip", "label"}
    assert source.columns["length"].dtype == source.columns["label"].dtype == np.int32
    for i, (clip, samples) in enumerate(
        zip(source.columns["clip"], source.signals(range(50)), strict=True)
    ):
        np.testing.assert_array_equal(samples, decode(folder / clip, 16000).samples)
        assert samples.dtype == np.int16
        assert len(samples) == source.columns["length"][i]
        assert clip.startswith(source.fields["label"].names[source.columns["label"][i]])


def test_any_order_and_repetition(source):
    everything = source.signals(range(50))
    ids = np.random.default_rng(0).integers(0, 50, 200)
    for i, samples in zip(ids, source.signals(ids), strict=True):
        np.testing.assert_array_equal(samples, everything[i])
    assert source.signals([]) == []
    with pytest.raises((ValueError, IndexError)):
        source.signals([50])


def test_pickled_unread_and_read(source):
    for _ in range(2):
        copy = pickle.loads(pickle.dumps(source))
        assert (copy.fingerprint, copy.fields) == (source.fingerprint, source.fields)
        np.testing.assert_array_equal(copy.signals([7])[0], source.signals([7])[0])


def test_pickled_from_a_relative_path(data_dir, monkeypatch, tmp_path):
    monkeypatch.chdir(data_dir.parent)
    pickled = pickle.dumps(open_source("mine", data_dir.name))
    monkeypatch.chdir(tmp_path)
    assert len(pickle.loads(pickled).signals([3])[0])


CHILDREN = """
import multiprocessing, sys
from gru_audio.data.source import open_source

def total(source):
    return sum(int(abs(samples.astype(int)).sum()) for samples in source.signals(range(50)))

if __name__ == "__main__":
    source = open_source("mine", sys.argv[1])
    expected = total(source)  # opens the files before a fork
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        answers = pool.map_async(total, [source] * 4).get(timeout=60)
    sys.exit(answers != [expected] * 4)
"""


def read_by_children(data_dir, folder, method):
    (folder / "children.py").write_text(CHILDREN)
    return subprocess.run(
        [sys.executable, str(folder / "children.py"), str(data_dir), method],
        env=os.environ | {"PYTHONPATH": str(sounds.ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_read_in_other_processes(data_dir, tmp_path):
    assert read_by_children(data_dir, tmp_path, "spawn").returncode == 0


def test_a_forked_process_is_refused_before_it_hangs(data_dir, tmp_path):
    done = read_by_children(data_dir, tmp_path, "fork")
    assert done.returncode == 1
    assert 'start processes by "spawn"' in done.stderr


def test_read_by_many_threads_at_once(source):
    expected = source.signals(range(50))
    fresh = pickle.loads(pickle.dumps(source))
    wrong = []

    def read(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 50, 300):
            if not np.array_equal(fresh.signals([i])[0], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_clip_costs_microseconds(source):
    ids = np.random.default_rng(0).integers(0, 50, 500)
    source.signals(ids)
    best = min(_seconds(lambda: source.signals(ids)) for _ in range(5)) / len(ids)
    assert best < 500e-6  # some 40 us on an idle core


def _seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def test_the_newest_version_is_opened(data_dir, tmp_path):
    for version in ("1.9.0", "1.10.0", "junk"):
        target = tmp_path / "mine" / version
        target.mkdir(parents=True)
        for path in (data_dir / "mine" / "1.2.0").iterdir():
            (target / path.name).write_bytes(path.read_bytes())
    (tmp_path / "mine" / "2.0.0").mkdir()  # unfinished: no description
    assert [path.name for path in index.versions(tmp_path, "mine")] == ["1.9.0", "1.10.0"]
    assert "/1.10.0/" in open_source("mine", tmp_path).records[0][0]


def test_a_missing_data_set_names_the_command(data_dir, tmp_path):
    with pytest.raises(UserError, match=r"Run: python -m gru_audio\.prepare spoken_digit"):
        open_source("spoken_digit", tmp_path)
    with pytest.raises(UserError, match="prepare tfds:crema_d --data_dir"):
        open_source("tfds_crema_d", tmp_path)
    with pytest.raises(UserError, match='Did you mean "mine"'):
        open_source("mines", data_dir)
    with pytest.raises(UserError, match="prepare folder --name birds --folder DIR"):
        open_source("birds", tmp_path / "absent")


@pytest.fixture
def copy(data_dir, tmp_path) -> Path:
    """A copy of the data set in `tmp_path`, for tests that change it."""
    shutil.copytree(data_dir / "mine", tmp_path / "mine")
    return tmp_path / "mine" / "1.2.0"


def assert_refused(copy, why):
    with pytest.raises(UserError, match=why) as refusal:
        open_source("mine", copy.parents[1])
    assert "Prepare it again, with the same command and --overwrite" in str(refusal.value)


def tampered(copy, **changes):
    """Rewrites the columns with changes and a valid checksum."""
    with np.load(copy / "columns.npz", allow_pickle=False) as columns:
        np.savez(copy / "columns.npz", **{**columns, **changes})
    data = (copy / "columns.npz").read_bytes()
    files = json.loads((copy / "source.json").read_text())["files"]
    described(copy, files=files | {"columns.npz": [len(data), hashlib.sha256(data).hexdigest()]})


def described(copy, **changes):
    """Rewrites the description with changes and a valid checksum."""
    description = json.loads((copy / "source.json").read_text())
    index.write_description(copy, description | changes)


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path):
        self._trace = trace

    def __reduce__(self):
        return Path.touch, (self._trace,)


def test_pickles_in_the_columns_are_refused(copy, tmp_path):
    trace = tmp_path / "trace"
    tampered(copy, label=np.array([Intruder(trace)] * 50, dtype=object))
    assert_refused(copy, "neither numbers nor text")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"length": np.full(50, -1, np.int32)}, "does not fit the size of the records"),
        ({"length": np.full(50, 2**31 - 1, np.int32)}, "does not fit the size of the records"),
        ({"length": np.ones(50)}, "wrong type or shape"),
        ({"length": np.ones(49, np.int32)}, "there are 50 clips"),
        ({"label": np.full(50, 2, np.int32)}, "a class index is out of range"),
        ({"label": np.full(50, -2, np.int32)}, "a class index is out of range"),
        ({"label": np.zeros((50, 1), np.int32)}, "wrong type or shape"),
    ],
)
def test_invalid_columns_are_refused(copy, changes, why):
    tampered(copy, **changes)
    assert_refused(copy, why)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"records": [["gone.array_record", 50]]}, "gone.array_record"),
        ({"records": 3}, "not iterable"),
        ({"fields": {"other": {"kind": "class", "names": ["a"]}}}, "column label is missing, or"),
        ({"sample_rate": "fast"}, "fast"),
        ({"signal": 3}, "'int'"),
        ({"signal": {"colour": "red"}}, "colour"),
        ({"signal": {"dtype": "object", "shape": [2]}}, "its values must be numbers"),
        ({"signal": {"dtype": "complex64", "shape": [2]}}, "its values must be numbers"),
        ({"signal": {"dtype": "uint8", "shape": [0]}}, "must be positive integers"),
        ({"signal": {"dtype": "uint8", "shape": [2], "block": 0}}, "must be positive integers"),
        ({"signal": {"dtype": "uint8", "shape": [10**9]}}, "is not a valid signal"),
        ({"signal": {"dtype": "uint8", "shape": [2**20]}}, "does not fit the size of the records"),
        ({"sample_rate": 0}, "must be positive integers"),
        ({"sample_rate": 10**15}, "its rate is at most"),
        ({"sample_rate": math.inf}, "Infinity is no finite number"),
        ({"sample_rate": math.nan}, "NaN is no finite number"),
        ({"fields": 5}, "'int'"),
        ({"fields": {"label": 5}}, "a field is one of"),
        ({"fields": {"label": {"kind": ["class"]}}}, "a field is one of"),
        ({"fields": {"label": {"kind": "class"}}}, "has other attributes"),
        ({"fields": {"label": {"kind": "class", "names": "ab"}}}, "need names"),
        ({"fields": {"label": {"kind": "class", "names": ["a", "a"]}}}, "each name must be unique"),
        ({"fields": {"label": {"kind": "class", "names": [["a"]]}}}, "need names"),
        (
            {"fields": {"label": {"kind": "tags", "names": ["cat", "dog"]}}},
            "wrong type or shape",
        ),
        ({"fields": {"label": {"kind": "text", "characters": "ab"}}}, "label is missing, or"),
    ],
)
def test_an_invalid_description_is_refused(copy, changes, why):
    described(copy, **changes)
    assert_refused(copy, why)


@pytest.mark.parametrize("count", [10**30, 1e300, 2**31, "9"])
def test_a_wrong_count_of_records_is_refused(copy, count):
    (file, _), *rest = json.loads((copy / "source.json").read_text())["records"]
    described(copy, records=[[file, count], *rest])
    assert_refused(copy, "clips|int")


def test_a_negative_count_of_records_is_refused(copy):
    (file, count), *rest = json.loads((copy / "source.json").read_text())["records"]
    described(copy, records=[[file, count + 10], [file, -10], *rest])
    assert_refused(copy, "negative number of clips")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["fields"]["label"]["names"].reverse(),
        lambda d: d.update(sample_rate=0),
        lambda d: d.update(sample_rate=8000),
        lambda d: d["records"].reverse(),
        lambda d: d["files"].clear(),
        lambda d: d.update(checksum=""),
    ],
)
def test_a_description_that_was_changed_is_refused(copy, change):
    description = json.loads((copy / "source.json").read_text())
    change(description)
    (copy / "source.json").write_text(json.dumps(description))
    assert_refused(copy, "source.json has changed since it was written")


def test_the_layout_of_the_json_does_not_matter(copy):
    description = json.loads((copy / "source.json").read_text())
    (copy / "source.json").write_text(json.dumps(dict(reversed(description.items())), indent=4))
    assert len(open_source("mine", copy.parents[1])) == 50


def test_files_of_another_data_set_are_refused(copy):
    validation, test = sorted(copy.glob("*-[tv][ea][sl]*array_record*"))
    for one, other in ((validation, test), (test, validation)):
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        assert_refused(copy, "-.*array_record.* has changed since it was written")
        one.write_bytes(content)
    with np.load(copy / "columns.npz", allow_pickle=False) as columns:
        np.savez(copy / "columns.npz", **{**columns, "label": columns["label"][::-1]})
    assert_refused(copy, "columns.npz has changed since it was written")


def test_two_record_files_that_are_swapped_are_refused(tmp_path):
    """Both splits have clips of the same lengths, so only the contents differ."""
    for split, start in (("train", 300), ("test", 700), ("validation", 500)):
        (tmp_path / "sounds" / split / "cat").mkdir(parents=True)
        for i in range(5):
            tone = sounds.encode(sounds.tone(frequency=start + i))
            (tmp_path / "sounds" / split / "cat" / f"{i}.wav").write_bytes(tone)
    prepare("folder", tmp_path, name="mine", folder=str(tmp_path / "sounds"))
    folder = tmp_path / "mine" / "1.2.0"
    one, other = folder.glob("*test*array_record*"), folder.glob("*validation*array_record*")
    (one,), (other,) = one, other
    one.rename(folder / "between")
    other.rename(one)
    (folder / "between").rename(other)
    with pytest.raises(UserError, match=r"has changed since it was written.*--overwrite"):
        open_source("mine", tmp_path)


def test_data_sets_without_checksums_are_read(copy, source):
    description = json.loads((copy / "source.json").read_text())
    for key in ("checksum", "files", "remarks"):
        del description[key]
    (copy / "source.json").write_text(json.dumps(description))
    (copy / "inputs.npz").unlink()
    old = open_source("mine", copy.parents[1])
    np.testing.assert_array_equal(old.signals([7])[0], source.signals([7])[0])
    assert index.read_inputs(copy) == {}


@pytest.mark.parametrize("checksums", [True, False])
def test_a_pipe_in_place_of_records_is_refused(copy, checksums):
    """Opening it would block forever."""
    description = json.loads((copy / "source.json").read_text())
    if not checksums:
        del description["checksum"], description["files"]
        (copy / "source.json").write_text(json.dumps(description))
    path = copy / description["records"][0][0]
    path.unlink()
    os.mkfifo(path)
    assert_refused(copy, "not a regular file")


def test_files_cut_short_are_refused(copy):
    for name in ("columns.npz", "source.json"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-20])
        assert_refused(copy, "cannot be used")
        (copy / name).write_bytes(content)
    assert len(open_source("mine", copy.parents[1])) == 50


def test_a_description_nested_too_deeply_is_refused(copy):
    (copy / "source.json").write_text("[" * 100_000)
    assert_refused(copy, "nested too deeply")


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "scribbled", "gone"])
def test_damaged_records_are_reported_in_one_line(copy, source, damage):
    (path,) = copy.glob("*train*array_record*")
    content = path.read_bytes()
    middle = len(content) // 2
    damaged = {
        "cut": content[:middle],
        "emptied": b"",
        "flipped": content[:1000] + bytes([content[1000] ^ 0xFF]) + content[1001:],
        "scribbled": content[:100] + bytes(middle) + content[100 + middle :],
    }
    path.write_bytes(damaged[damage]) if damage in damaged else path.unlink()
    with pytest.raises(UserError, match=r"prepare the data set again|Prepare it again") as refusal:
        opened = open_source("mine", copy.parents[1])
        for i in range(len(opened)):
            np.testing.assert_array_equal(opened.signals([i])[0], source.signals([i])[0])
    assert len(str(refusal.value).splitlines()) == 1


def test_a_clip_of_the_wrong_length(copy, source):
    length = source.columns["length"].copy()
    length[7] += 1
    tampered(copy, length=length)
    wrong = open_source("mine", copy.parents[1])
    assert len(wrong.signals([6])[0]) == length[6]
    with pytest.raises(UserError, match="Clip 7 of mine is damaged"):
        wrong.signals([6, 7])


def test_opening_imports_no_tensorflow_and_nothing_that_the_files_name(data_dir, tmp_path):
    target = tmp_path / "mine" / "1.2.0"
    target.mkdir(parents=True)
    for path in (data_dir / "mine" / "1.2.0").iterdir():
        content = path.read_bytes()
        if path.name == "features.json":
            content = content.replace(b"tensorflow_datasets.core", b"evil.tensorflow_datasets.core")
        (target / path.name).write_bytes(content)
    (tmp_path / "evil.py").write_text("raise SystemExit('code of others ran')")
    code = (
        "import sys; from gru_audio.data.source import open_source; "
        f"print(len(open_source('mine', {str(tmp_path)!r}).signals([0])[0])); "
        "sys.exit('tensorflow' in sys.modules or 'evil' in sys.modules)"
    )
    path = os.pathsep.join([str(sounds.ROOT), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_default_folder(monkeypatch):
    monkeypatch.setenv("GRU_AUDIO_DATA", "/somewhere")
    assert str(default_data_dir()) == "/somewhere"
    monkeypatch.delenv("GRU_AUDIO_DATA")
    assert str(default_data_dir()) == str(Path.home() / ".cache" / "gru_audio" / "data")
