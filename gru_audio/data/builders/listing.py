"""The files that a data set was prepared from: their names, sizes and times, to tell changes."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

NAME, SIZE, TIME = "name", "size", "time"  # columns of a listing

_SHOWN = 3  # names of files


def listed(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """A listing: the columns `NAME`, `SIZE` in bytes and `TIME` in ns, one row for each file.

    A file that is not there has size and time -1.
    """
    rows = [(name, *_size_and_time(path)) for name, path in files.items()]
    names, sizes, times = zip(*rows, strict=True) if rows else ((), (), ())
    # Names of files need not be UTF-8, which arrays of text are.
    encodable = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    return {
        NAME: np.array(encodable, np.str_),
        SIZE: np.array(sizes, np.int64),
        TIME: np.array(times, np.int64),
    }


def changes(then: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> str:
    """What is different between two listings, as part of a sentence; "" if nothing is."""
    before, after = _by_name(then), _by_name(now)
    kinds = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name in after if before.get(name, after[name]) != after[name]],
    }
    told = []
    for kind, names in kinds.items():
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            told.append(f"{len(names)} {'file was' if len(names) == 1 else 'files were'} {kind}")
            told[-1] += f" ({shown})"
    return ", ".join(told)


def below(place: Path) -> dict[str, Path]:
    """A file by its name, or all files below a folder by their paths in it."""
    if not place.is_dir():
        return {place.name: place}
    return {
        path.relative_to(place).as_posix(): path
        for folder, _, names in sorted(os.walk(place))
        for path in (Path(folder, name) for name in sorted(names))
    }


def _by_name(listing: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    columns = (listing[column].tolist() for column in (NAME, SIZE, TIME))
    return {name: (size, time) for name, size, time in zip(*columns, strict=True)}


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return info.st_size, info.st_mtime_ns
