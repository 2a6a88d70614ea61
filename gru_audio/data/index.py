"""The index files of a prepared data set: everything but the samples of the clips.

`source.json` holds the description (rate, fields, record files, settings of the preparation,
skipped clips). `columns.npz` has one row per clip. `inputs.npz` has one row for each of the user's
files. Reading them runs no code: they are JSON and arrays without pickles.

A field whose values are several arrays has a column NAME/ARRAY for each of them.

The description holds a checksum of itself and of the columns. For each record file it holds the
size and a checksum of the first and last 64 KiB, which detects a replaced or truncated file without
reading all of it. ArrayRecord has checksums of its own for each clip. Data sets that were prepared
before the checksums existed are read without them.
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
from gru_audio.files import open_regular, read_bytes, read_json, write_atomically

DESCRIPTION = "source.json"
COLUMNS = "columns.npz"
INPUTS = "inputs.npz"
SPLIT, LENGTH, CLIP = "split", "length", "clip"  # columns of every data set
UNKNOWN_LICENCE = "unknown, ask the source of the data"

_CHECKSUM, _FILES = "checksum", "files"  # keys of the description
_EDGE = 1 << 16  # bytes
_OWN = {SPLIT: Leaf("U"), LENGTH: Leaf("i"), CLIP: Leaf("U")}


def write(
    folder: epath.Path,
    description: Mapping[str, Any],
    columns: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Writes the index files. The description comes last, since it marks the folder as prepared.

    Args:
      folder: the folder of the data set, with its record files.
      description: the contents of `source.json`; its "records" name the record files.
      columns: arrays with one row per clip, or a dict of such arrays for one field.
      inputs: arrays with one row for each file that the data set was made from.
    """
    flat: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        leaves = values if isinstance(values, dict) else {"": values}
        flat |= {_column(name, leaf): array for leaf, array in leaves.items()}
    data = npz.encode(flat)
    write_atomically(folder / COLUMNS, data)
    write_atomically(folder / INPUTS, npz.encode(inputs or {}))
    files = {name: _edge_checksum(folder / name) for name, _ in description["records"]}
    write_description(folder, {**description, _FILES: files | {COLUMNS: _bytes_checksum(data)}})


def write_description(folder: epath.Path, description: Mapping[str, Any]) -> None:
    """Writes `source.json` with a checksum of its contents."""
    signed = {**description, _CHECKSUM: _description_checksum(description)}
    write_atomically(folder / DESCRIPTION, json.dumps(signed, indent=1))


def read_description(folder: epath.Path) -> dict[str, Any]:
    """Reads `source.json`.

    Raises:
      ValueError: its checksum does not match.
    """
    description = read_json(folder / DESCRIPTION)
    if _CHECKSUM in description and description[_CHECKSUM] != _description_checksum(description):
        raise ValueError(f"{DESCRIPTION} has changed since it was written")
    return description


def read_fields(description: Mapping[str, Any]) -> dict[str, Field]:
    """Returns the fields of a description by name.

    Raises:
      ValueError, UserError: a field is invalid.
    """
    fields = description.get("fields")
    if fields is None:  # the format of before there were other fields than classes
        names = description["class_names"]
        fields = {name: {"kind": "class", "names": names[name]} for name in names}
    return {str(name): described(field) for name, field in fields.items()}


def read_columns(folder: epath.Path) -> dict[str, Any]:
    """Reads the columns that `write` wrote, with one row per clip.

    Raises:
      BadArrays: a column has the wrong type or shape. This is checked before any column is read.
      ValueError: the checksum does not match, or a column holds invalid values.
    """
    description = read_description(folder)
    rows = sum(count for _, count in description["records"])
    data = read_bytes(folder / COLUMNS)
    if _FILES in description and description[_FILES][COLUMNS] != _bytes_checksum(data):
        raise ValueError(f"{COLUMNS} has changed since it was written")
    fields = read_fields(description)
    leaves = {name: field.leaves() for name, field in fields.items()}
    expected = _OWN | {
        _column(name, leaf): array for name in fields for leaf, array in leaves[name].items()
    }
    found = npz.layouts(data)
    if wrong := sorted(found.keys() ^ expected.keys()):
        raise npz.BadArrays(f"column {wrong[0]} is missing, or belongs to no field")
    for name, (shape, dtype) in found.items():
        if shape[:1] != (rows,):
            raise npz.BadArrays(f"column {name} has shape {shape}, but there are {rows} clips")
        if not expected[name].fits(shape, dtype):
            raise npz.BadArrays(f"column {name} has the wrong type or shape: {dtype} {shape}")
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
    """Reads the list of files that the data set was made from; {} if it was not recorded."""
    path = folder / INPUTS
    return npz.decode(read_bytes(path)) if path.exists() else {}


def check_records(folder: epath.Path) -> None:
    """Checks that the record files are regular, and unchanged if there are checksums.

    Raises:
      ValueError: a record file has changed since it was written.
      OSError: a record file cannot be read.
    """
    description = read_description(folder)
    for name, _ in description["records"]:
        found = _edge_checksum(folder / epath.Path(name).name)
        if _FILES in description and description[_FILES].get(name) != found:
            raise ValueError(f"{name} has changed since it was written")


def _description_checksum(description: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a description without its checksum; whitespace does not matter."""
    content = {key: value for key, value in description.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _bytes_checksum(data: bytes) -> list[int | str]:
    return [len(data), hashlib.sha256(data).hexdigest()]


def _edge_checksum(path: epath.Path) -> list[int | str]:
    """Returns the size of a file and the SHA-256 of its first and last 64 KiB."""
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        checksum = hashlib.sha256()
        for start in (0, max(0, size - _EDGE)):
            file.seek(start)
            checksum.update(file.read(_EDGE))
    return [size, checksum.hexdigest()]


def versions(data_dir: epath.PathLike, name: str) -> list[epath.Path]:
    """Returns the folders of the finished versions of a data set, the newest last."""
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
    """Returns the names of the prepared data sets in `data_dir`."""
    root = epath.Path(data_dir)
    if not root.is_dir():
        return []
    return sorted(child.name for child in root.iterdir() if versions(root, child.name))


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
