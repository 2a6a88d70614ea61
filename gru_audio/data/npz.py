"""Arrays as `.npz` files: whatever comes from strangers as such a file is read here.

A pickle would run code when it is read, so there is none. A header may claim any size, so none is
believed before the file has been found long enough to hold it.
"""

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

_MOST_DEFLATED = 1032  # bytes that deflate can make of one; https://zlib.net/zlib_tech.html
_KINDS = "biufU"  # booleans, numbers and text


class BadArrays(ValueError):
    """These bytes are no arrays, or not those that were written."""


class Layout(NamedTuple):
    """What a header says of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def encode(arrays: Mapping[str, np.ndarray], compressed: bool = True) -> bytes:
    """The bytes of an `.npz` file, with a CRC-32 for each array."""
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, allow_pickle=False, **arrays)
    return file.getvalue()


def layouts(data: bytes) -> dict[str, Layout]:
    """Shapes and types of the arrays in the bytes of an `.npz` file, of which it reads the headers.

    Raises:
      BadArrays: they are no plain arrays, or claim to be larger than `data` can hold.
    """
    with _opened(data) as archive:
        entries = archive.infolist()
        if len({_name(entry) for entry in entries}) < len(entries):
            raise BadArrays("it has an array twice")
        return {_name(entry): _layout(archive, entry, len(data)) for entry in entries}


def decode(data: bytes) -> dict[str, np.ndarray]:
    """The arrays in the bytes of an `.npz` file.

    Raises:
      BadArrays: as for `layouts`; or a checksum is wrong.
    """
    layouts(data)
    arrays = {}
    with _opened(data) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                arrays[_name(entry)] = npy.read_array(file, allow_pickle=False)
    return arrays


def decode_npy(data: bytes) -> np.ndarray:
    """The array in the bytes of a `.npy` file.

    Raises:
      BadArrays: it is no plain array, or claims to be of another size than it is.
    """
    file = io.BytesIO(data)
    try:
        _header(file, len(data), "it")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)
    except BadArrays:
        raise
    except Exception as error:  # parsing raises a dozen kinds for crafted bytes
        raise BadArrays(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except BadArrays:
        raise
    except Exception as error:  # unzipping and parsing raise a dozen kinds for crafted bytes
        raise BadArrays(str(error) or type(error).__name__) from error


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(".npy")


def _layout(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, length: int) -> Layout:
    """What an entry's header says, which must be what `length` bytes can hold."""
    possible = length if entry.compress_type == zipfile.ZIP_STORED else length * _MOST_DEFLATED
    if entry.file_size > possible:
        raise BadArrays(f"{_name(entry)} claims {entry.file_size} bytes, which are not there")
    with archive.open(entry) as file:
        return _header(file, entry.file_size, _name(entry))


def _header(file: IO[bytes], length: int, name: str) -> Layout:
    """What the header of a `.npy` file of so many bytes says, which must be true."""
    read = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }.get(npy.read_magic(file))
    if read is None:
        raise BadArrays(f"{name} is of a format that is not written here")
    shape, _, dtype = read(file)
    if dtype.kind not in _KINDS:
        raise BadArrays(f"{name} holds neither numbers nor text ({dtype})")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != length - file.tell():
        raise BadArrays(f"{name} claims {size} bytes, which are not there")
    return Layout(shape, dtype)
