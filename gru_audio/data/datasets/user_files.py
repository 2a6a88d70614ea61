"""Detects changed files, duplicate paths and files with equal content among the user's files."""

import collections
import hashlib
import os
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gru_audio.data.fields import shorten

NAME, SIZE, TIME = "name", "size", "time"  # columns of a listing

_SHOWN = 3  # file names per message
_PROBE = 4096  # bytes in the middle of a file, where most files differ


def listed(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Lists files: the columns `NAME`, `SIZE` in bytes and `TIME` in ns, one row per file.

    A missing file has size and time -1.
    """
    rows = [(name, *_size_and_time(path)) for name, path in files.items()]
    names, sizes, times = zip(*rows, strict=True) if rows else ((), (), ())
    # File names need not be valid UTF-8, but arrays of text must be.
    encodable = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    return {
        NAME: np.array(encodable, np.str_),
        SIZE: np.array(sizes, np.int64),
        TIME: np.array(times, np.int64),
    }


def changes(then: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> str:
    """Describes the differences between two listings as a clause; "" if there are none."""
    before, after = _by_name(then), _by_name(now)
    kinds = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name in after if before.get(name, after[name]) != after[name]],
    }
    clauses = []
    for kind, names in kinds.items():
        if names:
            subject = "1 file was" if len(names) == 1 else f"{len(names)} files were"
            clauses.append(f"{subject} {kind} ({shorten(names, _SHOWN)})")
    return ", ".join(clauses)


def below(place: Path) -> dict[str, Path]:
    """Returns a file by its name, or all files below a folder by their relative paths."""
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


def place(path: Path) -> Hashable:
    """Returns a key of the file at a path that is equal for all spellings of the path.

    Links are resolved. Names that differ in case or Unicode form are equal if the file system takes
    them for the same file.
    """
    real = os.path.realpath(path)
    try:
        info = os.stat(real)
    except (OSError, ValueError):
        return real
    return info.st_dev, info.st_ino, unicodedata.normalize("NFC", real).casefold()


def contents(paths: Sequence[Path]) -> list[int]:
    """Returns a number for each path, equal for paths to files with equal content.

    A file is read completely only if another file has the same size and the same bytes in the
    middle. Empty or unreadable files are equal only to themselves.
    """
    places = {path: place(path) for path in dict.fromkeys(paths)}
    by_place = {where: path for path, where in places.items()}
    keys: dict[Hashable, Hashable] = {where: where for where in by_place}
    for same_size in _alike(by_place.items(), lambda path: os.path.getsize(path) or None):
        for same_probe in _alike(same_size, _probe):
            for same in _alike(same_probe, _checksum):
                for where, _ in same:
                    keys[where] = same[0][0]
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(keys[places[path]], len(numbers)) for path in paths]


def _alike(
    files: Iterable[tuple[Hashable, Path]], measure: Callable[[Path], Hashable]
) -> list[list[tuple[Hashable, Path]]]:
    """Groups files by a measure; drops files without a measure and groups of one file."""
    groups: dict[Hashable, list[tuple[Hashable, Path]]] = collections.defaultdict(list)
    for where, path in files:
        try:
            value = measure(path)
        except (OSError, ValueError):
            continue
        if value is not None:
            groups[value].append((where, path))
    return [group for group in groups.values() if len(group) > 1]


def _probe(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size // 2 - _PROBE // 2))
        return file.read(_PROBE)


def _checksum(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
