"""Reads Kaldi archives of matrices safely, without kaldiio.

kaldiio can unpickle entries, runs names that end in a pipe as commands, and allocates any size that
an entry states. This reader refuses every entry that is not a matrix, and checks sizes against the
bytes in the file. The format: https://kaldi-asr.org/doc/io.html.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_SPACE = b" \n\r\t"
_PLAIN = {b"FM": "<f4", b"DM": "<f8"}
_COMPRESSED = (b"CM", b"CM2", b"CM3")
_EDGES = (0, 64, 192, 255)  # bytes of a "CM" column at its minimum, quartiles and maximum


class Matrix(NamedTuple):
    """One matrix of an archive; `read` returns its values (rows, columns), float32 or float64."""

    rows: int
    columns: int
    read: Callable[[], np.ndarray]


def parse(content: bytes) -> dict[str, Matrix]:
    """Parses a binary or text archive; returns its matrices by key, in order.

    Binary matrices are not decoded until they are read.

    Raises:
      ValueError: an entry is not a matrix or is truncated, or a key appears twice.
    """
    found: dict[str, Matrix] = {}
    at = _skip_space(content, 0)
    while at < len(content):
        space = content.find(b" ", at)
        if space < 0:
            raise ValueError("a key without a matrix at its end")
        key = content[at:space].decode("utf-8")
        if key in found:
            raise ValueError(f"it has {key!r} twice")
        kind = content[space + 1 : space + 3]
        matrix, at = (_binary if kind == b"\0B" else _text)(content, space + 1, key)
        found[key] = matrix
        at = _skip_space(content, at)
    return found


def _skip_space(content: bytes, at: int) -> int:
    while content[at : at + 1] and content[at : at + 1] in _SPACE:
        at += 1
    return at


def _binary(content: bytes, at: int, key: str) -> tuple[Matrix, int]:
    """Parses the binary matrix at `at`; returns it and its end."""
    kind = content[at + 2 : at + 6].partition(b" ")[0]
    at += 2 + len(kind) + 1
    if kind in _PLAIN:
        rows, columns = _unpack("<xixi", content, at)
        at += 10
        dtype = np.dtype(_PLAIN[kind])
        size = _checked(rows, columns, dtype.itemsize * rows * columns, content, at, key)
        values = content[at : at + size]
        return Matrix(
            rows, columns, lambda: np.frombuffer(values, dtype).reshape(rows, columns)
        ), at + size
    if kind not in _COMPRESSED:
        raise ValueError(f"{key!r} is {kind!r}, not a matrix")
    least, extent, rows, columns = _unpack("<ffii", content, at)
    at += 16
    column_bytes = {b"CM": rows + 8, b"CM2": 2 * rows, b"CM3": rows}[kind]
    size = _checked(rows, columns, column_bytes * columns, content, at, key)
    values = content[at : at + size]
    return Matrix(
        rows, columns, lambda: _decompressed(kind, values, rows, columns, least, extent)
    ), at + size


def _unpack(form: str, content: bytes, at: int) -> tuple:
    try:
        return struct.unpack_from(form, content, at)
    except struct.error as error:
        raise ValueError("it is truncated") from error


def _checked(rows: int, columns: int, size: int, content: bytes, at: int, key: str) -> int:
    if min(rows, columns) < 0 or size > len(content) - at:
        raise ValueError(f"{key!r} should have {rows} x {columns} values but has fewer")
    return size


def _decompressed(
    kind: bytes, values: bytes, rows: int, columns: int, least: float, extent: float
) -> np.ndarray:
    """Decodes Kaldi's CompressedMatrix to float32 (rows, columns)."""
    if kind != b"CM":
        dtype, most = {b"CM2": ("<u2", 65535), b"CM3": ("u1", 255)}[kind]
        whole = np.frombuffer(values, dtype).reshape(rows, columns).astype(np.float32)
        return np.float32(least) + whole * np.float32(extent / most)
    heads = np.frombuffer(values, "<u2", 4 * columns).reshape(columns, 4).astype(np.float64)
    heads = least + heads * (extent / 65535)
    bodies = np.frombuffer(values, "u1", offset=8 * columns).reshape(columns, rows)
    curves = [np.interp(body, _EDGES, head) for body, head in zip(bodies, heads, strict=True)]
    return np.array(curves, np.float32).reshape(columns, rows).T


def _text(content: bytes, at: int, key: str) -> tuple[Matrix, int]:
    """Parses the text matrix at `at`, in brackets with a line per row; returns it and its end."""
    at = _skip_space(content, at)
    end = content.find(b"]", at)
    if content[at : at + 1] != b"[" or end < 0:
        raise ValueError(f"{key!r} is not a matrix")
    lines = [line.split() for line in content[at + 1 : end].splitlines() if line.strip()]
    width = len(lines[0]) if lines else 0
    if any(len(line) != width for line in lines):
        raise ValueError(f"{key!r} has rows of different lengths")
    values = np.array(lines, np.float64).reshape(len(lines), width)
    return Matrix(len(lines), width, lambda: values), end + 1
