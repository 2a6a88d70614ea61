"""Reads and writes `.npz` files. The readers are safe for untrusted files.

Pickles are refused, because reading them can run code. The size in a header is checked against the
length of the file before memory is allocated.
"""

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

_MOST_DEFLATED = 1032  # deflate's largest compression ratio; https://zlib.net/zlib_tech.html
_KINDS = "biufU"  # booleans, numbers and text


class BadArrays(ValueError):
    """The bytes are not valid arrays, or are damaged."""


class Layout(NamedTuple):
    """The shape and dtype in the header of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def encode(arrays: Mapping[str, np.ndarray], compressed: bool = True) -> bytes:
    """Returns the bytes of an `.npz` file, with a CRC-32 for each array."""
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, allow_pickle=False, **arrays)
    return file.getvalue()


def layouts(data: bytes) -> dict[str, Layout]:
    """Returns the shapes and dtypes in the bytes of an `.npz` file; reads the headers alone.

    Raises:
      BadArrays: an array is not plain, or its header states a larger size than `data` can hold.
    """
    with _opened(data) as archive:
        entries = archive.infolist()
        if len({_name(entry) for entry in entries}) < len(entries):
            raise BadArrays("two arrays have the same name")
        return {_name(entry): _layout(archive, entry, len(data)) for entry in entries}


def decode(data: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays in the bytes of an `.npz` file.

    Raises:
      BadArrays: as for `layouts`, or a checksum is wrong.
    """
    layouts(data)
    arrays = {}
    with _opened(data) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                arrays[_name(entry)] = npy.read_array(file, allow_pickle=False)
    return arrays


def decode_npy(data: bytes) -> np.ndarray:
    """Returns the array in the bytes of a `.npy` file.

    Raises:
      BadArrays: the array is not plain, or its header states a wrong size.
    """
    file = io.BytesIO(data)
    try:
        _header(file, len(data), "it")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)
    except BadArrays:
        raise
    except Exception as error:  # crafted bytes raise many kinds of errors
        raise BadArrays(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except BadArrays:
        raise
    except Exception as error:  # as above
        raise BadArrays(str(error) or type(error).__name__) from error


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(".npy")


def _layout(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, length: int) -> Layout:
    """Reads an entry's header; refuses a size that `length` bytes cannot hold."""
    possible = length if entry.compress_type == zipfile.ZIP_STORED else length * _MOST_DEFLATED
    if entry.file_size > possible:
        raise BadArrays(f"{_name(entry)} should have {entry.file_size} bytes but has fewer")
    with archive.open(entry) as file:
        return _header(file, entry.file_size, _name(entry))


def _header(file: IO[bytes], length: int, name: str) -> Layout:
    """Reads the header of a `.npy` file of `length` bytes; refuses a wrong size."""
    read = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }.get(npy.read_magic(file))
    if read is None:
        raise BadArrays(f"{name} has an unsupported version of the format")
    shape, _, dtype = read(file)
    if dtype.kind not in _KINDS:
        raise BadArrays(f"{name} holds neither numbers nor text ({dtype})")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != length - file.tell():
        raise BadArrays(f"{name} should have {size} bytes but does not")
    return Layout(shape, dtype)
