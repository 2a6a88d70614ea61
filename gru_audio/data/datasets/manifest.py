"""A data set of the user's sounds, listed in a CSV file, a NeMo manifest or a Kaldi folder."""

import collections
import functools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import columns, speech_lists, splitting, user_files
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder, problem_of_name
from gru_audio.data.datasets.columns import EVENTS, KEEP, SEPARATOR, Column
from gru_audio.data.datasets.folds import FOLD, draw_folds
from gru_audio.data.datasets.tables import Row
from gru_audio.data.fields import Value
from gru_audio.paths import local_path
from gru_audio.settings import UserError

FILE, LABEL, SPLIT, GROUP, START, END = "file", "label", "split", "group", "start", "end"
USUAL_FIELDS = (LABEL, "speaker", GROUP, "fold")  # always classes, whatever their values


class Manifest(ClipBuilder):
    """Sounds listed with the columns file and label.

    Optional columns: split; start and end in seconds, if a row is a part of its file; speaker,
    group and fold, which become fields. Any other column whose values repeat like classes becomes a
    field too. An empty value is unknown. Different spellings of a path are the same file.

    The user may declare columns as tags, texts or numbers; the label is then optional. A second
    table lists events with the columns file, onset and offset, in seconds, and label. A row with a
    file alone means that the file has no events. The events of a file without a row are unknown.

    In a NeMo manifest (.json, .jsonl) audio_filepath, offset and duration take the place of file,
    start and end; in a Kaldi folder wav.scp and segments. Its text is a field of texts, and its
    utt2spk is the column speaker. The names of several Kaldi folders in one
    folder are the splits.

    Drawn splits keep each group, and each file with its copies, in one split.
    """

    VERSION = tfds.core.Version("1.2.0")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        name: str,
        manifest: Path | str,
        folder: Path | str | None = None,
        archive: Path | str | None = None,
        fields: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        text: Sequence[str] | None = None,
        numbers: Sequence[str] | None = None,
        separator: str = SEPARATOR,
        events: Path | str | None = None,
        unannotated: str | None = None,
        case: str = KEEP,
        strip_punctuation: bool = False,
        split_by: str | None = None,
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        folds: int | None = None,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
        keep_silence: bool = False,
    ):
        """Reads the list; the preparation reads the sounds.

        Args:
          name: the name of the new data set.
          manifest: the CSV file, the NeMo manifest or the Kaldi folder.
          folder: the paths in the list are relative to it; by default the folder of the list.
          archive: an archive with the sounds, instead of a folder.
          fields: class fields besides the label, as NAME or NAME=COLUMN; by default all columns
            that hold classes.
          tags, text, numbers: fields of other types, as NAME or NAME=COLUMN.
          separator: the separator between tags. "none" is a clip without tags.
          events: the list of events: a table, or a folder of label tracks; see `event_lists`.
          unannotated: files that the list lacks: "refuse" them, "empty": they have no events; by
            default their events are unknown.
          case: "upper" or "lower" changes the letters of texts; "keep" does not.
          strip_punctuation: whether texts lose their punctuation, except apostrophes in words.
          split_by: a column. The splits are then drawn at random, whatever the column "split" says,
            so that each of its values is in one split only, and the column becomes a field. "file"
            keeps the rows of each file together. By default "group", if there is neither "split"
            nor this.
          fractions: the shares of train, validation and test, if splits are drawn.
          folds: number of folds to draw for cross-validation, the field "fold".
          seed: the seed of the splits and of the folds.
          keep_silence: whether to keep clips of digital silence, for example as a class.

        Raises:
          UserError: an option or the list is invalid.
        """
        archives.check_place(folder, archive)
        self._manifest = local_path(manifest)
        speech = speech_lists.is_speech(self._manifest)
        if speech and not (fields or tags or text or numbers):
            text = [speech_lists.TEXT]
        self._wanted = columns.wanted(
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
        chosen = [*self._wanted.columns]
        for field in chosen:
            if field.names:
                raise UserError(f"--fields of a manifest are NAME or NAME=COLUMN, not {field}.")
        if not (tags or text or numbers or events or any(f.name == LABEL for f in chosen)):
            chosen.insert(0, Column(LABEL, LABEL))
        required = (FILE, *(field.column for field in chosen), *([split_by] if split_by else []))
        self._rows = speech_lists.read_list(self._manifest, required)
        self._fields, not_kept = _fields(self._rows, chosen, split_by, everything=fields is None)
        drawn = [Column(FOLD, FOLD)] if folds else []
        self.fields = self._wanted.kinds([*self._fields, *drawn])
        self.name = name
        beside = self._manifest if self._manifest.is_dir() else self._manifest.parent
        self._folder = local_path(folder) if folder else beside
        self._archive = archive
        self._split_by = split_by
        fractions = splitting.shares(fractions)
        self._choose_splits = functools.partial(splitting.choose, fractions=fractions, seed=seed)
        self._draw_folds = functools.partial(draw_folds, folds, seed=seed)
        self._decode = functools.partial(decode, keep_silence=keep_silence)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            manifest=speech_lists.checksum(self._manifest),
            fields=None if fields is None else list(map(str, fields)),
            **self._wanted.settings,
            split_by=split_by,
            fractions=fractions,
            folds=folds,
            seed=seed,
            keep_silence=keep_silence,
        )
        self.remarks += not_kept

    def inputs(self) -> Mapping[str, Path]:
        if self._archive:
            return super().inputs()
        names = dict.fromkeys(row[FILE] for row in self._rows if row[FILE])
        return {name: local_path(name, self._folder) for name in names}

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch) if self._archive else self._folder
        rows = self._rows
        for number, row in enumerate(rows, 1):
            if not row[FILE]:
                raise UserError(f"{self._manifest}: row {number} names no file.")
        by_name = {name: local_path(name, root) for name in dict.fromkeys(r[FILE] for r in rows)}
        paths = [by_name[row[FILE]] for row in rows]
        spans = [(_seconds(row, START) or 0.0, _seconds(row, END)) for row in rows]
        _check_listed_once(rows, paths, spans)
        existing = None
        if SPLIT in rows[0]:
            if without := sum(not row[SPLIT] for row in rows):
                raise UserError(
                    f"{without} of {len(rows)} rows have no split: give each of them one, or "
                    "remove the column to have splits drawn."
                )
            existing = [splitting.USUAL_NAMES.get(row[SPLIT].lower(), row[SPLIT]) for row in rows]
        labels = self._labels(rows)
        events, event_remarks = self._wanted.events_of([row[FILE] for row in rows])
        for values, file_events, span in zip(labels, events, spans, strict=True):
            values[EVENTS] = columns.part_of(file_events, *span)
        groups = splitting.groups_of(rows, self._split_by)
        if self._split_by == FILE:
            groups = splitting.Groups(FILE, [""] * len(rows), requested=True)
        strata = columns.strata([values.get(LABEL) for values in labels])
        contents = user_files.contents(paths)
        if FOLD in self.fields and not any(f.name == FOLD for f in self._fields):
            for values, fold in zip(
                labels, self._draw_folds(strata, groups, contents), strict=True
            ):
                values[FOLD] = fold
        splits, remarks = self._choose_splits(
            existing,
            strata,
            groups,
            contents,
            parts=any(span != (0.0, None) for span in spans),
        )
        self.remarks += [*event_remarks, *remarks]
        return [self._clip(*clip) for clip in zip(rows, paths, splits, spans, labels, strict=True)]

    def _labels(self, rows: Sequence[Row]) -> list[dict[str, Value]]:
        labels: list[dict[str, Value]] = []
        for number, row in enumerate(rows, 1):
            try:
                labels.append(
                    {f.name: self._wanted.value(row[f.column], f.kind) for f in self._fields}
                )
            except UserError as error:
                raise UserError(f"{self._manifest}, row {number}: {error}") from error
        return labels

    def _clip(
        self,
        row: Row,
        path: Path,
        split: str,
        span: tuple[float, float | None],
        labels: Mapping[str, Value],
    ) -> Clip:
        start, end = span
        name = row[FILE] + _part(span)
        read = functools.partial(self._decode, path, name=name, start=start, end=end)
        return Clip(name, split, labels, read)


def _fields(
    rows: Sequence[Row], chosen: Sequence[Column], split_by: str | None, everything: bool
) -> tuple[list[Column], list[str]]:
    """Returns the fields, and remarks on the columns that are not kept.

    Args:
      rows: the rows of the list.
      chosen: the fields that the user requests.
      split_by: a column that becomes a field, unless it is FILE.
      everything: whether all other columns with classes become fields too.
    """
    found = list(chosen)
    used = {field.column for field in found} | {FILE, SPLIT, START, END}
    if split_by and split_by != FILE and split_by not in {field.column for field in found}:
        found.append(Column(split_by, split_by))
        used.add(split_by)
    not_kept: dict[str, str] = {}
    for column in rows[0] if everything else [name for name in rows[0] if name == LABEL]:
        if column in used or any(field.name == column for field in found):
            continue
        kind = columns.kind([row[column] for row in rows])
        if problem_of_name(column):
            not_kept[column] = "not a valid field name"
        elif kind == columns.CLASS or (column in USUAL_FIELDS and kind != columns.EMPTY):
            found.append(Column(column, column))
        else:
            not_kept[column] = kind
    return found, columns.not_kept(not_kept)


def _check_listed_once(
    rows: Sequence[Row], paths: Sequence[Path], spans: Sequence[tuple[float, float | None]]
) -> None:
    """Refuses a list with the same file, or the same part of a file, twice."""
    places = {path: user_files.place(path) for path in dict.fromkeys(paths)}
    listed: dict[object, list[str]] = collections.defaultdict(list)
    for row, path, span in zip(rows, paths, spans, strict=True):
        listed[places[path], span].append(row[FILE] + _part(span))
    twice = [names for names in listed.values() if len(names) > 1]
    if twice:
        names = " and ".join(dict.fromkeys(twice[0]))
        others = f" ({len(twice) - 1} others, too)" if twice[1:] else ""
        raise UserError(
            f"The same clip is listed {len(twice[0])} times: {names}{others}. Keep one row of "
            "each, with its tags joined by + for --tags; --events takes a list of events."
        )


def _part(span: tuple[float, float | None]) -> str:
    """Returns the suffix of the name of a part of a file; "" for a whole file."""
    start, end = span
    return f"@{start:.9g}-{'' if end is None else f'{end:.9g}'}" if start or end else ""


def _seconds(row: Row, column: str) -> float | None:
    value = row.get(column, "")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        point = value.replace(",", ".")
        hint = f": write {point}" if re.fullmatch(r"\d+\.\d+", point) else ""
        raise UserError(f'{row[FILE]}: {column} is "{value}", not seconds{hint}.')
    return seconds
