"""What lies beside the records of a prepared data set: all one needs to know without reading clips.

`source.json` holds the description (rate, fields, record files, how it was prepared, what was
skipped), `columns.npz` one row a clip, `inputs.npz` one row for each of the user's files. None can
carry code: JSON, and arrays without pickles.

A field whose values are several arrays has a column NAME/ARRAY for each of them.

The description binds the files together. It has a checksum of itself and of the columns, and the
size of each record file with a checksum of its first and last 64 KiB: enough to notice that a file
is not the one that was written, whatever its size. What lies between is read clip by clip, where
ArrayRecord has checksums of its own. Data sets that were prepared before there were checksums are
read without.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from gru_audio.data import npz
from gru_audio.data.fields import Field, Leaf, described
from gru_audio.files import read_bytes, read_json, write_atomically

DESCRIPTION = "source.json"
COLUMNS = "columns.npz"
INPUTS = "inputs.npz"
SPLIT, LENGTH, CLIP = "split", "length", "clip"  # the columns that every data set has

_CHECKSUM, _FILES = "checksum", "files"  # keys of the description
_EDGE = 1 << 16  # bytes
_OWN = {SPLIT: Leaf("U"), LENGTH: Leaf("i"), CLIP: Leaf("U")}


def write(
    folder: epath.Path,
    description: Mapping[str, Any],
    columns: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Writes what lies beside the records; the description last: by it a folder counts as prepared.

    Args:
      folder: of the data set, with its record files.
      description: what `source.json` says; its "records" name the record files.
      columns: one row a clip; those of a field may be several arrays, by their names.
      inputs: one row for each file that the data set was made of.
    """
    flat: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        leaves = values if isinstance(values, dict) else {"": values}
        flat |= {_column(name, leaf): array for leaf, array in leaves.items()}
    data = npz.encode(flat)
    write_atomically(folder / COLUMNS, data)
    write_atomically(folder / INPUTS, npz.encode(inputs or {}))
    files = {name: _edges(folder / name) for name, _ in description["records"]}
    write_description(folder, {**description, _FILES: files | {COLUMNS: _of_bytes(data)}})


def write_description(folder: epath.Path, description: Mapping[str, Any]) -> None:
    """Writes `source.json` with a checksum of what it says."""
    signed = {**description, _CHECKSUM: _of_description(description)}
    write_atomically(folder / DESCRIPTION, json.dumps(signed, indent=1))


def read_description(folder: epath.Path) -> dict[str, Any]:
    """The contents of `source.json`.

    Raises:
      ValueError: they are not what was written.
    """
    description = read_json(folder / DESCRIPTION)
    if _CHECKSUM in description and description[_CHECKSUM] != _of_description(description):
        raise ValueError(f"{DESCRIPTION} is not as it was written")
    return description


def read_fields(description: Mapping[str, Any]) -> dict[str, Field]:
    """The fields by name, as a description has them.

    Raises:
      ValueError, UserError: they are none.
    """
    fields = description.get("fields")
    if fields is None:  # prepared when all fields were classes
        names = description["class_names"]
        fields = {name: {"kind": "class", "names": names[name]} for name in names}
    return {str(name): described(field) for name, field in fields.items()}


def read_columns(folder: epath.Path) -> dict[str, Any]:
    """The columns, one row a clip: those of `write`.

    Raises:
      BadArrays: they are not what the fields need, or not one a clip; known before any is read.
      ValueError: they are not what was written, or hold no values of their fields.
    """
    description = read_description(folder)
    rows = sum(count for _, count in description["records"])
    data = read_bytes(folder / COLUMNS)
    if _FILES in description and description[_FILES][COLUMNS] != _of_bytes(data):
        raise ValueError(f"{COLUMNS} is not as it was written")
    fields = read_fields(description)
    leaves = {name: field.leaves() for name, field in fields.items()}
    expected = _OWN | {
        _column(name, leaf): array for name in fields for leaf, array in leaves[name].items()
    }
    found = npz.layouts(data)
    if odd := sorted(found.keys() ^ expected.keys()):
        raise npz.BadArrays(f"column {odd[0]} is missing, or belongs to no field")
    for name, (shape, dtype) in found.items():
        if shape[:1] != (rows,):
            raise npz.BadArrays(f"column {name} has shape {shape}, and there are {rows} clips")
        if not expected[name].fits(shape, dtype):
            raise npz.BadArrays(f"column {name} is {dtype} {shape}, which no such field has")
    flat = npz.decode(data)
    columns: dict[str, Any] = {name: flat[name] for name in _OWN}
    for name, field in fields.items():
        values = {leaf: flat[_column(name, leaf)] for leaf in leaves[name]}
        columns[name] = values.get("", values)
        try:
            field.check(columns[name])
        except ValueError as error:
            raise ValueError(f"column {name}: {error}") from error
    return columns


def _column(name: str, leaf: str) -> str:
    return f"{name}/{leaf}" if leaf else name


def read_inputs(folder: epath.Path) -> dict[str, np.ndarray]:
    """The files that the data set was made of; {} where that was not recorded."""
    path = folder / INPUTS
    return npz.decode(read_bytes(path)) if path.exists() else {}


def check_records(folder: epath.Path) -> None:
    """Raises `ValueError` for a record file that is not the one that was written."""
    description = read_description(folder)
    if _FILES not in description:
        return
    for name, _ in description["records"]:
        if description[_FILES].get(name) != _edges(folder / epath.Path(name).name):
            raise ValueError(f"{name} is not as it was written")


def _of_description(description: Mapping[str, Any]) -> str:
    """A checksum of what a description says but for the checksum, however it is laid out."""
    said = {key: value for key, value in description.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _of_bytes(data: bytes) -> list[int | str]:
    return [len(data), hashlib.sha256(data).hexdigest()]


def _edges(path: epath.Path) -> list[int | str]:
    """Size of a file, and a checksum of its first and last bytes."""
    with epath.Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        checksum = hashlib.sha256()
        for start in (0, max(0, size - _EDGE)):
            file.seek(start)
            checksum.update(file.read(_EDGE))
    return [size, checksum.hexdigest()]


def versions(data_dir: epath.PathLike, name: str) -> list[epath.Path]:
    """The folders that hold a finished version of a data set, the newest version last."""
    root = epath.Path(data_dir) / name
    if not root.is_dir():
        return []
    finished = [
        folder
        for folder in root.iterdir()
        if _numbers(folder.name) and (folder / DESCRIPTION).exists()
    ]
    return sorted(finished, key=lambda folder: _numbers(folder.name))


def prepared(data_dir: epath.PathLike) -> list[str]:
    """Names of the data sets that are ready in `data_dir`."""
    root = epath.Path(data_dir)
    if not root.is_dir():
        return []
    return sorted(child.name for child in root.iterdir() if versions(root, child.name))


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
