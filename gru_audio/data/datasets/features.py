"""A data set of the user's precomputed features: sequences of frames."""

import functools
import hashlib
from collections.abc import Hashable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio, BadAudio
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import feature_files, splitting
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.columns import EVENTS, KEEP, SEPARATOR, Column, strata, wanted
from gru_audio.data.datasets.feature_files import Sequences
from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.data.fields import Value
from gru_audio.data.signal import Signal, frames
from gru_audio.paths import local_path
from gru_audio.settings import UserError, nearest

USUAL_FIELDS = ("label", "speaker", "group", "fold")
SPHINX_WIDTH = 13  # Sphinx's default


class Features(ClipBuilder):
    """Sequences of frames from NumPy, Sphinx or Kaldi files, or from a table."""

    VERSION = tfds.core.Version("1.2.0")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        name: str,
        archive: Path | str,
        manifest: Path | str | None = None,
        clip: str | None = None,
        fields: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        text: Sequence[str] | None = None,
        numbers: Sequence[str] | None = None,
        separator: str = SEPARATOR,
        events: Path | str | None = None,
        unannotated: str | None = None,
        case: str = KEEP,
        strip_punctuation: bool = False,
        split: str | None = None,
        split_by: str | None = None,
        drop: str | None = None,
        ignore: Sequence[str] = (),
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        seed: int = 0,
        rate: int = 1,
        width: int = SPHINX_WIDTH,
        on_bad_file: str = SKIP,
    ):
        """Reads the descriptions of the sequences, and the file of all sequences if there is one.

        A column is an array of an .npz, or a column of a table or of the manifest.

        Args:
          name: the name of the new data set.
          archive: .npz, .csv, .tsv or .ark; or a folder, tar or zip with one file per sequence.
          manifest: a CSV with one row per sequence, in the same order or matched by `clip`.
          clip: the column with the names of the sequences, or the paths of their files.
          fields: class fields as NAME, NAME=COLUMN, or NAME=COLUMN:NAMES if the column has indices
            into an array of class names. By default the existing columns of `USUAL_FIELDS`.
          tags, text, numbers: fields of other types, as NAME or NAME=COLUMN.
          separator: the separator between tags.
          events: a table with the columns file, onset, offset and label, where file is the name of
            a sequence; see `Manifest`, also for `unannotated`.
          case, strip_punctuation: how texts are written; see `Manifest`.
          split: the column with the splits; by default "split". Without it splits are drawn.
          split_by: a column. The splits are then drawn so that each of its values is in one split
            only. By default "group", if there is neither "split" nor this.
          drop: a column; sequences with a value in it are left out.
          ignore: columns of numbers in a table that are not features.
          fractions: the shares of train, validation and test, if splits are drawn.
          seed: the seed of the splits.
          rate: frames per second; 1 if frames have no duration.
          width: values per frame of .mfc files, which do not store it.

        Raises:
          UserError: a file or column is missing, or manifest and archive contradict each other.
        """
        archive = local_path(archive)
        listed = read_table(local_path(manifest), ()) if manifest else []
        self._wanted = wanted(
            fields,
            tags=tags,
            text=text,
            numbers=numbers,
            separator=separator,
            events=events,
            unannotated=unannotated,
            case=case,
            strip_punctuation=strip_punctuation,
        )
        chosen = self._wanted.columns
        used = [field.column for field in chosen] + [c for c in (split, split_by, drop) if c]
        self._sequences = _open(archive, listed, clip, used, ignore, width)
        self._clip, self._rows = _described(self._sequences, listed, clip)
        columns = self._rows[0]
        for column in [*used, *([clip] if clip else [])]:
            if column not in columns:
                raise UserError(f'There is no column "{column}".{nearest(column, columns)}')
        taken = {field.name for field in chosen} | {field.column for field in chosen}
        usual = [c for c in USUAL_FIELDS if c in columns and c not in taken and not fields]
        self._fields = [*chosen, *(Column(c, c) for c in usual)]
        self.fields = self._wanted.kinds(self._fields)
        self.name = name
        self._archive, self._split_by, self._drop = archive, split_by, drop
        self._split = split or ("split" if "split" in columns else None)
        fractions = splitting.shares(fractions)
        self._choose_splits = functools.partial(splitting.choose, fractions=fractions, seed=seed)
        super().__init__(
            data_dir=data_dir,
            sample_rate=rate,
            on_bad_file=on_bad_file,
            archive=str(archive.resolve()),
            manifest=archives.sha256(local_path(manifest)) if manifest else None,
            clip=clip,
            fields=list(map(str, fields or [])),
            **self._wanted.settings,
            split=split,
            split_by=split_by,
            drop=drop,
            ignore=list(ignore),
            fractions=fractions,
            seed=seed,
            width=width,
        )

    @property
    def signal(self) -> Signal:
        return frames(self._sequences.width, self._sequences.dtype, self._sample_rate)

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = self._archive
        if root.suffix not in feature_files.OF_ALL:
            root = archives.unpack(root, scratch)
        kept = [i for i, row in enumerate(self._rows) if not (self._drop and row[self._drop])]
        rows = [self._rows[i] for i in kept]
        labels = [self._labels(i) for i in kept]
        existing = None
        if self._split:
            existing = [row[self._split] for row in rows]
            existing = [splitting.USUAL_NAMES.get(split.lower(), split) for split in existing]
        groups = splitting.groups_of(rows, self._split_by)
        contents = [self._content(i, root) for i in kept]
        label_strata = strata([values.get("label") for values in labels])
        splits, remarks = self._choose_splits(existing, label_strata, groups, contents)
        names = [self._name(i) for i in kept]
        events, event_remarks = self._wanted.events_of(names)
        self.remarks += [*event_remarks, *remarks]
        return [
            Clip(
                name=name,
                split=split,
                labels={**values, EVENTS: clip_events},
                read=functools.partial(self._read, i, root),
            )
            for i, name, split, values, clip_events in zip(
                kept, names, splits, labels, events, strict=True
            )
        ]

    def _content(self, i: int, root: Path) -> Hashable:
        """Returns a key that is equal for equal sequences; the index if it cannot be read."""
        try:
            values = self._sequences.read(i, root)
        except (BadAudio, OSError):
            return i
        return values.shape, hashlib.blake2b(values.tobytes(), digest_size=16).digest()

    def _labels(self, i: int) -> dict[str, Value]:
        cells = [self._cell(self._rows[i], field) for field in self._fields]
        try:
            return {
                field.name: self._wanted.value(cell, field.kind)
                for field, cell in zip(self._fields, cells, strict=True)
            }
        except UserError as error:
            raise UserError(f"Sequence {self._name(i)}: {error}") from error

    def _cell(self, row: Row, field: Column) -> str:
        value = row[field.column]
        if not field.names:
            return value
        names = self._sequences.names.get(field.names)
        if names is None:
            hint = nearest(field.names, self._sequences.names)
            raise UserError(f'There is no array of names "{field.names}".{hint}')
        if not value.isdecimal() or int(value) >= len(names):
            raise UserError(f"{field.column} has {value}, but {field.names} only {len(names)}.")
        return names[int(value)]

    def _name(self, i: int) -> str:
        return self._rows[i][self._clip] if self._clip else f"{i:05d}"

    def _read(self, i: int, root: Path, rate: int) -> Audio:
        sequences = self._sequences
        values = feature_files.check(sequences.read(i, root), sequences.width, self._name(i))
        return Audio(values, rate, rate)


def _open(
    archive: Path,
    listed: Sequence[Row],
    clip: str | None,
    used: Sequence[str],
    ignore: Sequence[str],
    width: int,
) -> Sequences:
    """Opens the sequences of an archive, by its file type."""
    if archive.suffix == feature_files.NPZ:
        return feature_files.from_npz(archive)
    if archive.suffix == feature_files.KALDI:
        return feature_files.from_kaldi(archive)
    if archive.suffix in feature_files.TABLES:
        in_manifest = listed[0].keys() if listed else ()
        columns = [column for column in used if column not in in_manifest]
        usual = (*USUAL_FIELDS, "split")
        return feature_files.from_table(archive, clip or "clip", columns, usual, ignore)
    column = clip or "file"
    if not listed or column not in listed[0]:
        raise UserError(f'{archive} needs a --manifest with a column "{column}" of paths.')
    return feature_files.from_files(archive, listed, column, width)


def _described(
    sequences: Sequences, listed: Sequence[Row], clip: str | None
) -> tuple[str | None, Sequence[Row]]:
    """Returns the column of names, and the merged rows of the archive and the manifest.

    Raises:
      UserError: archive and manifest contradict each other, or there are no sequences.
    """
    rows = sequences.rows
    if not rows:
        raise UserError("There are no sequences in the archive.")
    columns = rows[0].keys() | (listed[0].keys() if listed else set())
    clip = clip or next((column for column in ("clip", "file") if column in columns), None)
    if not listed or listed is rows:
        return clip, rows
    if clip and clip in rows[0] and clip in listed[0]:
        listed = _in_order(listed, [row[clip] for row in rows], clip)
    if len(rows) != len(listed):
        raise UserError(f"The manifest lists {len(listed)} sequences, the archive has {len(rows)}.")
    for i, (one, other) in enumerate(zip(rows, listed, strict=True)):
        for column in one.keys() & other.keys():
            if one[column] != other[column]:
                raise UserError(
                    f"The manifest and the archive disagree about {column} of sequence {i}: "
                    f'"{other[column]}" and "{one[column]}".'
                )
    return clip, [{**one, **other} for one, other in zip(rows, listed, strict=True)]


def _in_order(listed: Sequence[Row], names: Sequence[str], clip: str) -> list[Row]:
    """Returns the rows in the order of `names`; refuses other and duplicate names."""
    by_name = {row[clip]: row for row in listed}
    unmatched = sorted(by_name.keys() ^ set(names))
    if unmatched:
        raise UserError(f"The manifest and the archive do not both have {unmatched[0]}.")
    if len(by_name) != len(listed):
        raise UserError("The manifest lists a sequence twice.")
    return [by_name[name] for name in names]
