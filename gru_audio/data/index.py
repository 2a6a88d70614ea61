"""What lies beside the records of a prepared data set: all one needs to know without reading clips.

`source.json` holds the description (rate, class names, record files, how it was prepared, what was
skipped), `columns.npz` one row a clip. Neither can carry code: JSON, and arrays without pickles.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from gru_audio.data import npz

DESCRIPTION = "source.json"
COLUMNS = "columns.npz"
SPLIT, LENGTH, CLIP = "split", "length", "clip"  # the columns that every data set has


def write(folder: epath.Path, description: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Writes both files; the description last, since a folder counts as prepared by it."""
    (folder / COLUMNS).write_bytes(npz.encode(columns))
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1))


def read_description(folder: epath.Path) -> dict[str, Any]:
    """The contents of `source.json`."""
    return json.loads((folder / DESCRIPTION).read_text())


def read_columns(folder: epath.Path) -> dict[str, np.ndarray]:
    """The columns, one row a clip.

    Raises:
      BadArrays: they are no numbers and text, or not one a clip; known before any is read.
    """
    rows = sum(count for _, count in read_description(folder)["records"])
    data = (folder / COLUMNS).read_bytes()
    for name, (shape, _) in npz.layouts(data).items():
        if shape != (rows,):
            raise npz.BadArrays(f"column {name} has shape {shape}, and there are {rows} clips")
    return npz.decode(data)


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
