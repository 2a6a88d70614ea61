"""People's own sounds, listed in a CSV file."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.config import UserError
from gru_audio.data.builders import archive as archives
from gru_audio.data.builders import splitting
from gru_audio.data.builders.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.builders.tables import Row, read_table


class Manifest(ClipBuilder):
    """Sounds listed with the columns file and label.

    Optional columns: split; speaker and group, which become fields; start and end, in seconds,
    where a row is a part of its file. Other columns are ignored. An empty label is unknown. Where
    splits are drawn, the parts of a file stay together.
    """

    VERSION = tfds.core.Version("1.1.0")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        name: str,
        manifest: Path | str,
        folder: Path | str | None = None,
        archive: Path | str | None = None,
        split_by: str | None = None,
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Reads the list; the sounds come when the data set is prepared.

        Args:
          name: of the new data set.
          folder: what the paths in the list are relative to; by default the list's own folder.
          archive: what holds the sounds, where no folder does.
          split_by: a column. The splits are then drawn at random with no value of it in two of
            them, whatever the column "split" says, and it becomes a field.
          fractions: of train, validation and test, where splits are drawn.
          seed: of the draw.
        """
        archives.check_place(folder, archive)
        manifest = Path(manifest).expanduser()
        required = ("file", "label", *([split_by] if split_by else []))
        self._rows = read_table(manifest, required)
        columns = self._rows[0].keys()
        extra = [column for column in ("speaker", "group") if column in columns]
        self.fields = tuple(dict.fromkeys(["label", *extra, *([split_by] if split_by else [])]))
        self.name = name
        self._folder = Path(folder).expanduser() if folder else manifest.parent
        self._archive = archive
        self._split_by = split_by
        fractions = splitting.shares(fractions)
        self._choose_splits = functools.partial(splitting.choose, fractions=fractions, seed=seed)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            manifest=archives.sha256(manifest),
            split_by=split_by,
            fractions=fractions,
            seed=seed,
        )

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch) if self._archive else self._folder
        rows = self._rows
        given = None
        if "split" in rows[0]:
            given = [splitting.USUAL_NAMES.get(row["split"].lower(), row["split"]) for row in rows]
        spans = [(_seconds(row, "start") or 0.0, _seconds(row, "end")) for row in rows]
        parts = any(span != (0.0, None) for span in spans)
        split_by = self._split_by or ("file" if parts and given is None else None)
        groups = [row[split_by] for row in rows] if split_by else None
        splits = self._choose_splits(given, [row["label"] for row in rows], groups)
        return [self._clip(*of_clip, root) for of_clip in zip(rows, splits, spans, strict=True)]

    def _clip(self, row: Row, split: str, span: tuple[float, float | None], root: Path) -> Clip:
        start, end = span
        part = f"@{start:g}-{'' if end is None else f'{end:g}'}" if start or end else ""
        name = row["file"] + part
        return Clip(
            name=name,
            split=split,
            labels={field: row[field] for field in self.fields},
            read=functools.partial(decode, root / row["file"], name=name, start=start, end=end),
        )


def _seconds(row: Row, column: str) -> float | None:
    value = row.get(column, "")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f'{row["file"]}: {column} is "{value}", not seconds.')
    return seconds
