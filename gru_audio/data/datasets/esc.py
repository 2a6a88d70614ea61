"""ESC-50 and ESC-10: environmental sounds of 50 and of 10 classes, 40 clips of 5 s each.

Piczak 2015, "ESC: Dataset for Environmental Sound Classification" (doi 10.1145/2733373.2806390).
Clips from the same recording are in the same one of five folds; results are means over folds.
"""

import collections
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.download import download
from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.data.fields import classes
from gru_audio.settings import UserError

URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
FOLDS = ("1", "2", "3", "4", "5")
CLIPS_PER_FOLD = 8  # of each class

_SPLITS = {"4": "validation", "5": "test"}  # the other folds: train


class Esc50(ClipBuilder):
    """ESC-50: environmental sounds of 50 classes in five folds.

    Folds 1 to 3 are the training split, 4 is validation, 5 is test. For a cross-validation, hold
    out one fold after another.
    """

    VERSION = tfds.core.Version("2.0.0")
    fields = classes("label", "fold")
    homepage = "https://github.com/karolpiczak/ESC-50"
    licence = "CC BY-NC 3.0"
    classes: ClassVar[int] = 50

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str | None = None,
        verify: bool = True,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive` (audio/, meta/esc50.csv or meta/esc10.csv), or downloads ESC-50.

        Args:
          verify: refuse a list that does not have 8 clips of each class in each fold.
        """
        super().__init__(data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file)
        self._archive, self._verify = archive, verify

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        archive = self._archive or download(URL, downloads / "ESC-50-master.zip")
        root = archives.unpack(archive, scratch)
        rows = [row for row in _table(root, archive) if self._has(row)]
        if self._verify:
            _check_counts(rows, self.classes)
            self.verified = f"{self.classes} classes with {CLIPS_PER_FOLD} clips in each fold"
        return [_clip(row, root) for row in rows]

    def _has(self, row: Row) -> bool:
        return True


class Esc10(Esc50):
    """ESC-10: the ten-class subset of ESC-50; see `Esc50`."""

    licence = "CC BY 3.0"
    classes = 10

    def _has(self, row: Row) -> bool:
        return row["esc10"] == "True"


def _table(root: Path, archive: Path | str) -> Sequence[Row]:
    for name in ("esc50.csv", "esc10.csv"):
        path = root / "meta" / name
        if path.is_file():
            return read_table(path, ("filename", "fold", "category", "esc10"))
    raise UserError(f"{archive} has neither meta/esc50.csv nor meta/esc10.csv.")


def _check_counts(rows: Sequence[Row], classes: int) -> None:
    counts = collections.Counter((row["category"], row["fold"]) for row in rows)
    labels = {label for label, _ in counts}
    if len(labels) != classes:
        raise UserError(
            f"The archive lists {len(labels)} classes, not {classes}. "
            "To prepare it anyway, pass --noverify."
        )
    for label in sorted(labels):
        for fold in FOLDS:
            if counts[label, fold] != CLIPS_PER_FOLD:
                raise UserError(
                    f"Fold {fold} has {counts[label, fold]} clips of {label}, not "
                    f"{CLIPS_PER_FOLD}. To prepare it anyway, pass --noverify."
                )


def _clip(row: Row, root: Path) -> Clip:
    name, fold = row["filename"], row["fold"]
    if fold not in FOLDS:
        raise UserError(f'{name} is in fold "{fold}", but the folds are {", ".join(FOLDS)}.')
    return Clip(
        name=name,
        split=_SPLITS.get(fold, "train"),
        labels={"label": row["category"], "fold": fold},
        read=functools.partial(decode, root / "audio" / name, name=name),
    )
