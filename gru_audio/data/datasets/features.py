"""People's own features: what somebody has computed already, as sequences of frames."""

import functools
import hashlib
from collections.abc import Hashable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio, BadAudio
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import feature_files, splitting
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.columns import EVENTS, SEPARATOR, Column, strata, wanted
from gru_audio.data.datasets.feature_files import Sequences
from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.data.fields import Value, clean
from gru_audio.data.signal import Signal, frames
from gru_audio.paths import local_path
from gru_audio.settings import UserError, nearest

USUAL_FIELDS = ("label", "speaker", "group", "fold")
SPHINX_WIDTH = 13  # what Sphinx computes unless told otherwise


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
        """Reads what describes the sequences, and one file of all sequences.

        Columns are arrays of an .npz, columns of a table, or columns of the manifest.

        Args:
          name: of the new data set.
          archive: .npz, .csv, .tsv or .ark; or a folder, tar or zip with a file for each sequence.
          manifest: a CSV with a row for each sequence: in the same order, or told by `clip`.
          clip: the column with the names of sequences; for a file each, with their paths.
          fields: as NAME, NAME=COLUMN, or NAME=COLUMN:NAMES where the column has numbers into an
            array of names. By default those of `USUAL_FIELDS` that there are.
          tags, text, numbers: fields of other types, as NAME or NAME=COLUMN.
          separator: between the tags of a sequence.
          events: a table with the columns file, onset, offset and label, where file is the name of
            a sequence; see `Manifest`.
          split: the column with the splits; by default "split". Without it they are drawn.
          split_by: a column. The splits are then drawn with no value of it in two of them. By
            default "group", if there is neither "split" nor this.
          drop: a column; sequences for which it has a value are left out.
          ignore: columns of a table that are numbers but no features.
          fractions: of train, validation and test, where splits are drawn.
          seed: of the draw.
          rate: frames a second; 1 where frames have no duration.
          width: values in a frame of .mfc files, which do not say.
        """
        archive = local_path(archive)
        listed = read_table(local_path(manifest), ()) if manifest else []
        self._wanted = wanted(
            fields,
            tags=tags,
            text=text,
            numbers=numbers,
            separator=separator,
            events=local_path(events) if events else None,
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
        labels = [self._labels(row) for row in rows]
        given = None
        if self._split:
            given = [row[self._split] for row in rows]
            given = [splitting.USUAL_NAMES.get(split.lower(), split) for split in given]
        column = self._split_by or "group"
        values = [clean(row.get(column, "")) for row in rows]
        groups = splitting.Groups(column, values, bool(self._split_by)) if any(values) else None
        same = [self._content(i, root) for i in kept]
        of_label = strata([of.get("label") for of in labels])
        splits, remarks = self._choose_splits(given, of_label, groups, same)
        names = [self._name(i) for i in kept]
        events, others = self._wanted.events_of(names)
        self.remarks += [*others, *remarks]
        return [
            Clip(
                name=name,
                split=split,
                labels={**of_clip, EVENTS: of_name},
                read=functools.partial(self._read, i, root),
            )
            for i, name, split, of_clip, of_name in zip(
                kept, names, splits, labels, events, strict=True
            )
        ]

    def _content(self, i: int, root: Path) -> Hashable:
        """What tells a sequence from others; its number where it cannot be read."""
        try:
            values = self._sequences.read(i, root)
        except (BadAudio, OSError):
            return i
        return values.shape, hashlib.blake2b(values.tobytes(), digest_size=16).digest()

    def _labels(self, row: Row) -> dict[str, Value]:
        return {
            field.name: self._wanted.value(self._cell(row, field), field.kind)
            for field in self._fields
        }

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
    """The sequences of an archive, by the kind of file it is."""
    if archive.suffix == feature_files.NPZ:
        return feature_files.from_npz(archive)
    if archive.suffix == feature_files.KALDI:
        return feature_files.from_kaldi(archive)
    if archive.suffix in feature_files.TABLES:
        elsewhere = listed[0].keys() if listed else ()
        own = [column for column in used if column not in elsewhere]
        usual = (*USUAL_FIELDS, "split")
        return feature_files.from_table(archive, clip or "clip", own, usual, ignore)
    column = clip or "file"
    if not listed or column not in listed[0]:
        raise UserError(f'{archive} needs a --manifest with a column "{column}" of paths in it.')
    return feature_files.from_files(archive, listed, column, width)


def _described(
    sequences: Sequences, listed: Sequence[Row], clip: str | None
) -> tuple[str | None, Sequence[Row]]:
    """The column of names, and what the sequences and the manifest know of each sequence.

    Raises:
      UserError: they contradict each other.
    """
    own = sequences.rows
    if not own:
        raise UserError("There are no sequences in the archive.")
    columns = own[0].keys() | (listed[0].keys() if listed else set())
    clip = clip or next((column for column in ("clip", "file") if column in columns), None)
    if not listed or listed is own:
        return clip, own
    if clip and clip in own[0] and clip in listed[0]:
        listed = _in_order(listed, [row[clip] for row in own], clip)
    if len(own) != len(listed):
        raise UserError(f"The manifest lists {len(listed)} sequences, the archive has {len(own)}.")
    for i, (one, other) in enumerate(zip(own, listed, strict=True)):
        for column in one.keys() & other.keys():
            if one[column] != other[column]:
                raise UserError(
                    f"The manifest and the archive disagree about {column} of sequence {i}: "
                    f'"{other[column]}" there, "{one[column]}" here.'
                )
    return clip, [{**one, **other} for one, other in zip(own, listed, strict=True)]


def _in_order(listed: Sequence[Row], names: Sequence[str], clip: str) -> list[Row]:
    """The rows of these names; refuses a manifest that has others, or one of them twice."""
    by_name = {row[clip]: row for row in listed}
    odd = sorted(by_name.keys() ^ set(names))
    if odd:
        raise UserError(f"The manifest and the archive do not both have {odd[0]}.")
    if len(by_name) != len(listed):
        raise UserError("The manifest lists a sequence twice.")
    return [by_name[name] for name in names]
