"""Untrusted files: reading them runs no code and allocates no memory for false sizes."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from gru_audio.data.datasets.catalogue import Catalogue
from gru_audio.data.datasets.features import Features
from gru_audio.data.datasets.folder import Folder
from gru_audio.data.datasets.manifest import Manifest
from gru_audio.data.datasets.polyphonic_music import JsbChorales
from gru_audio.prepare import prepare
from gru_audio.settings import UserError

GIGABYTES = 40 * 10**9  # that files claim below


class Intruder:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str):
        self._command = command

    def __reduce__(self):
        return os.system, (self._command,)


@pytest.fixture
def trace(tmp_path):
    """A file that malicious code would create; it must not exist at the end."""
    path = tmp_path / "trace"
    yield path
    assert not path.exists(), "code of strangers ran"


@pytest.fixture
def code(trace):
    """A pickle that creates the file."""
    pickled = pickle.dumps(Intruder(f"touch {trace}"))
    pickle.loads(pickled)
    assert trace.exists()  # which is to say that it works
    trace.unlink()
    return pickled


def object_array(code: bytes, extension: str) -> bytes:
    """An array of objects, as NumPy would write it."""
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }\n"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + code
    if extension == ".npy":
        return npy
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("features.npy", npy)
    return file.getvalue()


def refuse(builder) -> str:
    with pytest.raises(UserError) as refusal:
        builder().download_and_prepare()
    return str(refusal.value)


def features(tmp_path, name: str, content: bytes = b"", **options) -> str:
    (tmp_path / name).write_bytes(content)
    made = {"data_dir": tmp_path / "data", "name": "mine", "archive": tmp_path / name}
    return refuse(lambda: Features(**made, **options))


@pytest.mark.parametrize("flag", [b"PKL", b"\0BPKL", b"\0B PKL"])
def test_a_pickle_in_a_kaldi_archive_is_not_read(tmp_path, code, flag):
    assert "no valid Kaldi archive" in features(tmp_path, "x.ark", b"evil " + flag + code)


def test_a_pickled_array_in_a_kaldi_archive_is_not_read(tmp_path, code):
    npy = object_array(code, ".npy")
    entry = b"evil NPY\x02" + struct.pack(">H", len(npy)) + npy
    assert "no valid Kaldi archive" in features(tmp_path, "x.ark", entry)


def test_commands_in_names_are_not_run(tmp_path, trace):
    """Kaldi lists may have commands that end in a pipe, which kaldiio runs."""
    for line in (f"evil touch {trace} |\n", f"touch {trace} | [1 2]\n", f"evil | touch {trace}\n"):
        features(tmp_path, "x.scp", line.encode())
        features(tmp_path, "x.ark", line.encode())
    name = tmp_path / f"touch {trace.name} |.ark"
    made = {"data_dir": tmp_path / "data", "name": "mine", "archive": name}
    refuse(lambda: Features(**made))
    (tmp_path / "list.csv").write_text(
        f"file,label\n$(touch {trace}),a\ntouch {trace} |,b\n| touch {trace},a\n`touch {trace}`,b\n"
    )
    said = refuse(
        lambda: Manifest(
            data_dir=tmp_path / "data", name="mine", manifest=tmp_path / "list.csv", seed=0
        )
    )
    assert "4 of 4 clips cannot be used" in said


@pytest.mark.parametrize("packed", [True, False])
def test_arrays_of_objects_are_not_read(tmp_path, code, packed):
    assert "neither numbers nor text" in features(tmp_path, "x.npz", object_array(code, ".npz"))
    (tmp_path / "list.csv").write_text("file\nx.npy\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.npy").write_bytes(object_array(code, ".npy"))
    archive = folder
    if packed:
        archive = tmp_path / "x.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(folder / "x.npy", "x.npy")
    made = {"data_dir": tmp_path / "data", "name": "mine", "archive": archive}
    said = refuse(lambda: Features(**made, manifest=tmp_path / "list.csv"))
    assert "x.npy: damaged" in said


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "csv", "tar", "mat"])
def test_a_pickle_by_any_other_name_is_not_read(tmp_path, code, suffix):
    (tmp_path / "sounds" / "a").mkdir(parents=True)
    (tmp_path / "sounds" / "a" / f"x.{suffix}").write_bytes(code)
    refuse(lambda: Folder(data_dir=tmp_path / "d", name="mine", folder=tmp_path / "sounds"))
    path = tmp_path / "sounds" / "a" / f"x.{suffix}"
    refuse(lambda: Folder(data_dir=tmp_path / "d", name="mine", archive=path))
    refuse(lambda: Manifest(data_dir=tmp_path / "d", name="mine", manifest=path))
    refuse(lambda: JsbChorales(data_dir=tmp_path / "d", archive=path, verify=False))


@pytest.mark.parametrize("name", ["huggingface:evil", "kubric:evil", "../evil", "evil/../x", "a.b"])
def test_only_the_catalogue_s_own_code_is_used(tmp_path, name):
    """TFDS downloads code for a namespace, and imports what the files of a folder name."""
    assert "TFDS has no data set" in refuse(lambda: Catalogue(data_dir=tmp_path, dataset=name))


def test_a_folder_that_claims_to_be_a_data_set_of_the_catalogue_is_not_believed(tmp_path):
    folder = tmp_path / "evil" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"name": "evil", "version": "1.0.0"}')
    (folder / "features.json").write_text('{"pythonClassName": "antigravity.Evil"}')
    said = refuse(lambda: Catalogue(data_dir=tmp_path, dataset="evil"))
    assert "TFDS has no data set evil" in said
    assert "antigravity" not in sys.modules


# False sizes


def npy_of(shape: tuple[int, ...], body: bytes = bytes(64)) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def npz_of(npy: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("features.npy", npy)
    return file.getvalue()


def mat_of(kind: int, claimed: int, body: bytes) -> bytes:
    return bytes(126) + b"IM" + struct.pack("<II", kind, claimed) + body


ROWS = GIGABYTES // 4 // 40
KALDI = {
    "plain": b"\0BFM \x04" + struct.pack("<i", ROWS) + b"\x04" + struct.pack("<i", 40),
    "double": b"\0BDM \x04" + struct.pack("<i", ROWS) + b"\x04" + struct.pack("<i", 40),
    "CM": b"\0BCM " + struct.pack("<ffii", 0, 1, ROWS, 40),
    "CM2": b"\0BCM2 " + struct.pack("<ffii", 0, 1, ROWS, 40),
    "CM3": b"\0BCM3 " + struct.pack("<ffii", 0, 1, ROWS, 40),
    "negative": b"\0BFM \x04" + struct.pack("<i", -4) + b"\x04" + struct.pack("<i", -4),
    "vector": b"\0B\x04" + struct.pack("<i", 2**30),
    "NPY": b"NPY\x08" + struct.pack(">Q", GIGABYTES),
    "AUDIO": b"AUDIO\x08" + struct.pack(">Q", GIGABYTES),
    "WAV": b"RIFF\xff\xff\xff\x7fWAVEfmt ",
}
MATLAB = {
    "element": mat_of(14, 2**32 - 1, bytes(64)),
    "bomb": mat_of(15, 2**20, zlib.compress(bytes(2**30 + 2**25), 9)),
    "cell": mat_of(14, 48, struct.pack("<IIIIIIIIII", 6, 8, 1, 0, 5, 8, 2**30, 1, 0, 0)),
    "version 4": struct.pack("<5i", 0, 2**30, 2**30, 0, 4) + bytes(200),
    "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\x89HDF\r\n\x1a\n" * 20,
}


def claims(folder: Path) -> None:
    """Reads every file with a false size, in a process with little memory; prints the errors."""
    made = {"data_dir": folder / "data", "name": "mine"}
    for name, head in KALDI.items():
        print(name, features(folder, "x.ark", b"a " + head + bytes(64)))
    for shape in ((10**12, 4), (2**62, 2**62), (-1, 4), (GIGABYTES // 16, 4)):
        print(shape, features(folder, "x.npz", npz_of(npy_of(shape))))
        (folder / "folder").mkdir(exist_ok=True)
        (folder / "folder" / "x.npy").write_bytes(npy_of(shape))
        (folder / "list.csv").write_text("file\nx.npy\n")
        listed = {"archive": folder / "folder", "manifest": folder / "list.csv"}
        print(shape, refuse(lambda listed=listed: Features(**made, **listed)))
    print("zeros", features(folder, "x.npz", npz_of(npy_of((GIGABYTES // 16, 4), bytes(10**7)))))
    print("mfc", features(folder, "x.mfc", b"\x7f" * 4))
    for name, content in MATLAB.items():
        path = folder / "x.mat"
        path.write_bytes(content)
        options = {"data_dir": folder / "data", "archive": path, "verify": False}
        print(name, refuse(lambda options=options: JsbChorales(**options)))
    for line in ("file,label\n" + "x" * 10**6 + ",a\n", 'file,label\n"' + "a\n" * 10**5):
        (folder / "list.csv").write_text(line)
        print("list", refuse(lambda: Manifest(**made, manifest=folder / "list.csv")))
    os.truncate(folder / "list.csv", 10**12)  # all but nothing on disk
    print("hole", refuse(lambda: Manifest(**made, manifest=folder / "list.csv")))


def test_no_memory_is_allocated_for_false_sizes(tmp_path):
    code = (
        "import sys, resource; from pathlib import Path;"
        "from tests.data.datasets import test_strangers as these;"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize();"
        "limit = used + 2**32;"  # threads take addresses, not memory
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit));"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "these.claims(Path(sys.argv[1]));"
        "print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    *refusals, taken = done.stdout.splitlines()
    assert len(refusals) >= 28, done.stdout
    assert int(taken) < 2**29


def test_one_bad_file_among_many_is_skipped(tmp_path):
    good = io.BytesIO()
    np.save(good, np.ones((3, 4), np.float32))
    contents = {"a": npy_of((10**12, 4)), "b": good.getvalue(), "c": npy_of((-1, 4)), "d": b""}
    contents["e"] = good.getvalue()
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.npy").write_bytes(content)
    os.mkfifo(folder / "f.npy")
    (folder / "g.npy").symlink_to("/dev/zero")
    names = [f"{name}.npy" for name in "abcdefg"]
    (tmp_path / "list.csv").write_text("file,split\n" + "".join(f"{n},train\n" for n in names))
    options = {"archive": folder, "manifest": tmp_path / "list.csv"}
    builder = Features(data_dir=tmp_path / "data", name="mine", **options)
    builder.download_and_prepare()
    skipped = dict(builder._ledger.skipped)
    assert sorted(skipped) == ["a.npy", "c.npy", "d.npy", "f.npy", "g.npy"]
    assert skipped["a.npy"] == "damaged"


def test_infinities_are_skipped_without_a_warning(tmp_path, recwarn):
    values = np.ones((4, 3, 2))
    values[1, 2, 0], values[2, 0, 0], values[3, 0, 1] = np.inf, 1e300, -np.inf
    np.savez(tmp_path / "x.npz", features=values)
    builder = Features(data_dir=tmp_path / "data", name="mine", archive=tmp_path / "x.npz")
    builder.download_and_prepare()
    assert [reason for _, reason in builder._ledger.skipped] == ["non-finite"] * 3
    rows = ["a,1", "b,inf", "c,1e300", "d,-Infinity", "e,2"]
    (tmp_path / "x.csv").write_text("clip,x\n" + "\n".join(rows) + "\n")
    builder = Features(data_dir=tmp_path / "data", name="other", archive=tmp_path / "x.csv")
    builder.download_and_prepare()
    assert sorted(name for name, _ in builder._ledger.skipped) == ["b", "c", "d"]
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_matlab_s_published_form_is_read(tmp_path):
    """The files above are not refused for their format."""
    roll = np.zeros((4, 88), np.uint8)
    cells = np.empty((1, 2), object)
    cells[0, 0] = cells[0, 1] = roll
    rolls = {name: cells for name in ("traindata", "validdata", "testdata")}
    for compressed in (True, False):
        scipy.io.savemat(tmp_path / "x.mat", rolls, do_compression=compressed)
        options = {"archive": tmp_path / "x.mat", "verify": False}
        JsbChorales(data_dir=tmp_path / f"data{compressed}", **options).download_and_prepare()


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "mine" / ".lock").symlink_to(tmp_path / "victim")
    np.savez(tmp_path / "x.npz", features=np.ones((2, 3, 4)))
    with pytest.raises(UserError, match="it is a link: remove it"):
        prepare("features", tmp_path / "data", name="mine", archive=tmp_path / "x.npz")
    assert (tmp_path / "victim").read_text() == "mine"
