"""People's own sounds in a directory per class."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode, sound_files
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import splitting, user_files
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.columns import EVENTS, SEPARATOR, Column, strata, wanted
from gru_audio.data.fields import TagsField, clean, natural
from gru_audio.paths import local_path
from gru_audio.settings import UserError


class Folder(ClipBuilder):
    """Sounds in CLASS/, or in SPLIT/CLASS/ with splits called train, validation and test.

    Every file below a class directory is one of its clips, save hidden ones; links are followed.
    Splits that are drawn have files with the same content in one of them.
    """

    VERSION = tfds.core.Version("1.2.0")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        name: str,
        folder: Path | str | None = None,
        archive: Path | str | None = None,
        tags: Sequence[str] | None = None,
        separator: str = SEPARATOR,
        events: Path | str | None = None,
        split_by: str | None = None,
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
        keep_silence: bool = False,
    ):
        """Takes the sounds from `folder`, or from an `archive` of one.

        Args:
          name: of the new data set.
          tags: ["label"], if the names of directories are sets of tags, such as "speech+music", or
            "none".
          separator: between tags.
          events: a table with the columns file, onset, offset and label; see `Manifest`.
          split_by: a regular expression that finds the group of a clip in its path below
            `folder`: the first parenthesis that takes part in the match, or all it matches where
            it has none. The splits are then drawn at random with no group in two of them, whatever
            the folders say, and the group becomes a field.
          fractions: of train, validation and test, where splits are drawn.
          seed: of the draw.
          keep_silence: takes digital silence for a sound, as where it is a class.
        """
        archives.check_place(folder, archive)
        folder = local_path(folder) if folder else None
        fractions = splitting.shares(fractions)
        self.name = name
        list_of_events = local_path(events) if events else None
        self._wanted = wanted(
            None, tags=tags, text=None, numbers=None, separator=separator, events=list_of_events
        )
        if self._wanted.columns not in ((), (Column("label", "label", "", TagsField),)):
            raise UserError('A folder has the tags "label": --tags label.')
        columns = [*(self._wanted.columns or [Column("label", "label")])]
        self._kind = columns[0].kind
        columns += [Column("group", "group")] if split_by else []
        self.fields = self._wanted.kinds(columns)
        self._folder, self._archive = folder, archive
        self._group_of = _group_finder(split_by) if split_by else None
        self._choose_splits = functools.partial(splitting.choose, fractions=fractions, seed=seed)
        self._decode = functools.partial(decode, keep_silence=keep_silence)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            sounds=str(Path(folder or archive or "").expanduser().resolve()),
            split_by=split_by,
            fractions=fractions,
            seed=seed,
            keep_silence=keep_silence,
            **self._wanted.settings,
        )

    def inputs(self) -> Mapping[str, Path]:
        if self._archive:
            return super().inputs()
        root = self._existing()
        return {sound.path.relative_to(root).as_posix(): sound.path for sound in _sounds(root)}

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch) if self._archive else self._existing()
        sounds = _sounds(root)
        if not sounds:
            raise UserError(f"{root} has no directory per class with files in it.")
        names = [sound.path.relative_to(root).as_posix() for sound in sounds]
        values = [self._group_of(name) for name in names] if self._group_of else []
        groups = splitting.Groups("group", values, asked=True) if values else None
        given = [sound.split for sound in sounds] if sounds[0].split else None
        same = user_files.contents([sound.path for sound in sounds])
        labels = [self._wanted.value(sound.label, self._kind) for sound in sounds]
        events, others = self._wanted.events_of(names)
        splits, remarks = self._choose_splits(given, strata(labels), groups, same)
        self.remarks += [*_empty_folders(root, sounds), *others, *remarks]
        return [
            Clip(
                name=name,
                split=split,
                labels={"label": label, "group": group, EVENTS: of_clip},
                read=functools.partial(self._decode, sound.path, name=name),
            )
            for name, split, sound, label, of_clip, group in zip(
                names, splits, sounds, labels, events, values or [""] * len(sounds), strict=True
            )
        ]

    def _existing(self) -> Path:
        if not self._folder or not self._folder.is_dir():
            raise UserError(f'There is no folder "{self._folder or ""}".')
        return self._folder


def _group_finder(expression: str) -> Callable[[str], str]:
    """Takes the path of a clip to its group."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UserError(f'--split_by "{expression}" is no regular expression: {error}.') from error

    def find(name: str) -> str:
        found = pattern.search(name)
        parts = (found.groups() if pattern.groups else (found[0],)) if found else ()
        group = next((part for part in parts if part is not None), "")
        if not clean(group):
            raise UserError(f'--split_by "{expression}" finds no group in {name}.')
        return clean(group)

    return find


class _Sound(NamedTuple):
    split: str  # "" where the folder has none
    label: str
    path: Path


def _sounds(root: Path) -> list[_Sound]:
    """Every file, in natural order."""
    tops = _folders(root)
    splits = {top: splitting.USUAL_NAMES.get(top.name.lower(), "") for top in tops}
    if not any(splits.values()):
        return [_Sound("", clean(top.name), path) for top in tops for path in _files(top)]
    for top in tops:
        if not splits[top]:
            raise UserError(
                f"{root} has splits, but {top.name}/ is none: put it under one, or elsewhere."
            )
    return [
        _Sound(splits[top], clean(label.name), path)
        for top in tops
        for label in _folders(top)
        for path in _files(label)
    ]


def _empty_folders(root: Path, sounds: Sequence[_Sound]) -> list[str]:
    """A remark on folders of classes without a file."""
    depth = 2 if sounds[0].split else 1
    filled = {sound.path.relative_to(root).parts[:depth] for sound in sounds}
    folders = _folders(root)
    if depth == 2:
        folders = [label for top in folders for label in _folders(top)]
    empty = [folder.relative_to(root) for folder in folders]
    told = [path.as_posix() + "/" for path in empty if path.parts not in filled]
    return [f"There are no files in {', '.join(told)}."] if told else []


def _folders(root: Path) -> list[Path]:
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(folders, key=lambda path: natural(path.name))


def _files(folder: Path) -> list[Path]:
    return sorted(sound_files(folder), key=lambda path: natural(path.as_posix()))
