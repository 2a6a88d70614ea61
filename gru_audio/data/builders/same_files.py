"""Which paths lead to the same file, or to files with the same content."""

import collections
import hashlib
import os
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

_PROBE = 4096  # bytes in the middle of a file: most files differ there


def place(path: Path) -> Hashable:
    """Where a path leads: the same for every spelling of it.

    Links are resolved. Names in another case, or in another Unicode form, are the same where the
    disk takes them for the same file.
    """
    real = os.path.realpath(path)
    try:
        info = os.stat(real)
    except (OSError, ValueError):
        return real
    return info.st_dev, info.st_ino, unicodedata.normalize("NFC", real).casefold()


def contents(paths: Sequence[Path]) -> list[int]:
    """A number for each path, equal for paths to files with the same content.

    A file is read whole only where another one has the same size and the same bytes in the middle.
    Files that are empty, or cannot be read, are equal to themselves alone.
    """
    places = {path: place(path) for path in dict.fromkeys(paths)}
    by_place = {where: path for path, where in places.items()}
    keys: dict[Hashable, Hashable] = {where: where for where in by_place}
    for of_size in _alike(by_place.items(), lambda path: os.path.getsize(path) or None):
        for of_probe in _alike(of_size, _probe):
            for same in _alike(of_probe, _checksum):
                for where, _ in same:
                    keys[where] = same[0][0]
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(keys[places[path]], len(numbers)) for path in paths]


def _alike(
    files: Iterable[tuple[Hashable, Path]], measure: Callable[[Path], Hashable]
) -> list[list[tuple[Hashable, Path]]]:
    """The files of which several have the same measure; those that have none are left out."""
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
