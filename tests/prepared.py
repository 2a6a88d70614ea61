"""What a builder made of an archive, read back for tests."""

import collections
import io
import tarfile
from pathlib import Path

import numpy as np

from gru_audio.data.source import Source, open_source
from gru_audio.prepare import prepare


def prepared(recipe: str, data_dir: Path, **options) -> Source:
    prepare(recipe, data_dir, **options)
    return open_source(options.get("name", recipe), data_dir)


def values(source: Source, field: str) -> list[str]:
    """The name of each clip's class; "" where it is unknown."""
    names = np.array([*source.fields[field].names, ""])
    return names[source.columns[field]].tolist()


def counts(source: Source, *fields: str) -> collections.Counter:
    """How many clips there are of each split and class."""
    columns = [source.columns["split"].tolist(), *(values(source, field) for field in fields)]
    return collections.Counter(zip(*columns, strict=True))


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
