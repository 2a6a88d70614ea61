"""Helpers that write folders, manifests and archives of synthetic sounds, and build them."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np

from gru_audio.data import index
from gru_audio.data.datasets.clips import ClipBuilder
from gru_audio.data.datasets.folder import Folder
from gru_audio.data.datasets.manifest import Manifest


def build(builder: ClipBuilder) -> tuple[dict, dict[str, np.ndarray]]:
    builder.download_and_prepare()
    folder = Path(builder.data_dir)
    return index.read_description(folder), index.read_columns(folder)


def folder_builder(tmp_path, **options) -> Folder:
    return Folder(data_dir=tmp_path / "data", name="mine", folder=tmp_path / "sounds", **options)


def manifest_builder(tmp_path, rows: list[dict], **options) -> Manifest:
    path = tmp_path / "list.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Manifest(**{"data_dir": tmp_path / "data", "name": "mine", "manifest": path, **options})


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info
