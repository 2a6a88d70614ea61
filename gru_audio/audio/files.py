"""Which files of a folder are taken for sounds."""

import os
from pathlib import Path


def sound_files(folder: Path) -> list[Path]:
    """Every file below a folder but hidden ones, in no order; links are followed.

    Endings do not count: what is no sound is refused when it is read, and named. Files and folders
    whose names begin with a dot are hidden, as are those that a Mac leaves beside others.
    """
    paths, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # by a link back to where it lies
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(place, name) for name in files if not name.startswith(".")]
    return paths
