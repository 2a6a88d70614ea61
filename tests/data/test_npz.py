"""Untrusted arrays: no code is run, and no header is trusted."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gru_audio.data.npz import BadArrays, decode, encode, layouts

ARRAYS = {
    "length": np.arange(50, dtype=np.int32),
    "clip": np.array([f"clip{i}.wav" for i in range(50)]),
    "params/kernel": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "nothing": np.zeros(()),
}


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_come_back(compressed):
    data = encode(ARRAYS, compressed)
    found = decode(data)
    assert found.keys() == layouts(data).keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert layouts(data)[name] == (array.shape, array.dtype)
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with np.load(io.BytesIO(data), allow_pickle=False) as by_numpy:
        np.testing.assert_array_equal(by_numpy["clip"], ARRAYS["clip"])


def archive(header: dict | bytes, body: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """An `.npz` file of one array with this header, valid or not."""
    text = repr(header).encode() + b"\n" if isinstance(header, dict) else header
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        made.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body)
    return file.getvalue()


def header(shape, kind="<f4"):
    return {"descr": kind, "fortran_order": False, "shape": shape}


def test_the_crafted_archives_are_archives():
    assert decode(archive(header((2,)), bytes(8)))["a"].tolist() == [0, 0]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", [(10**15,), (3,), (1,), (-2,), (2**40, 2**40), (2, 2)])
def test_a_wrong_shape_is_refused(shape, method):
    for read in (layouts, decode):
        with pytest.raises(BadArrays):
            read(archive(header(shape), bytes(8), method))


def test_a_wrong_size_is_refused():
    """Header and archive both state 2 GiB; the file has some hundred bytes."""
    stated = 2**31
    data = bytearray(archive(header((stated,), "|u1"), b""))
    size = zipfile.ZipFile(io.BytesIO(data)).getinfo("a.npy").file_size + stated
    directory = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, directory + 20, size, size)  # compressed and not
    assert zipfile.ZipFile(io.BytesIO(data)).getinfo("a.npy").file_size == size
    with pytest.raises(BadArrays, match=r"but has fewer|Overlapped entries"):
        layouts(bytes(data))


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path):
        self._trace = trace

    def __reduce__(self):
        return Path.touch, (self._trace,)


def test_pickles_are_not_read(tmp_path):
    trace = tmp_path / "trace"
    code = pickle.dumps(np.array([Intruder(trace)], dtype=object))
    crafted = [archive(header((1,), "|O"), code), archive(header((len(code),), "|O"), code), code]
    file = io.BytesIO()
    np.savez(file, a=np.array([Intruder(trace)], dtype=object))
    trace.unlink(missing_ok=True)
    for data in [*crafted, file.getvalue()]:
        with pytest.raises(BadArrays):
            decode(data)
    assert not trace.exists()
    pickle.loads(code)
    assert trace.exists()  # which is to say that the pickle works


@pytest.mark.parametrize("kind", ["|V8", [("a", "<f4"), ("b", "<f4")], "|S8", "<M8[s]"])
def test_only_numbers_and_text(kind):
    with pytest.raises(BadArrays):
        decode(archive(header((1,), kind), bytes(8)))


def test_no_header_can_run_or_exhaust_anything():
    for text in (b"__import__('os')\n", b"(" * 5000 + b"\n", b"{}\n", b"{'shape': 9**9**9}\n"):
        with pytest.raises(BadArrays):
            decode(archive(text, bytes(8)))


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_noticed_or_does_not_matter(compressed):
    data = encode(ARRAYS, compressed)
    for at in range(0, len(data), 3):
        damaged = data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :]
        try:
            found = decode(damaged)
        except BadArrays:
            continue
        for name in found.keys() & ARRAYS.keys():  # a name may be lost, as any other column
            np.testing.assert_array_equal(found[name], ARRAYS[name])
    for end in range(0, len(data), 40):
        with pytest.raises(BadArrays):
            decode(data[:end])
