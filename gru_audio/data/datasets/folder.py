"""A data set of the user's sounds, with one directory per class."""

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
from gru_audio.data.datasets.folds import FOLD, draw_folds
from gru_audio.data.fields import TagsField, clean, natural
from gru_audio.paths import local_path
from gru_audio.settings import UserError


class Folder(ClipBuilder):
    """Sounds in CLASS/, or in SPLIT/CLASS/ with splits called train, validation and test.

    Every file below a class directory is a clip of that class, except hidden files; links are
    followed. Drawn splits keep files with the same content together.
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
        unannotated: str | None = None,
        split_by: str | None = None,
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        folds: int | None = None,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
        keep_silence: bool = False,
    ):
        """Sets up a data set of the sounds in `folder`, or in an `archive` of such a folder.

        Args:
          name: the name of the new data set.
          folder: the folder of the class or split directories.
          archive: a tar or zip of such a folder.
          tags: ["label"] if the names of directories are sets of tags, such as "speech+music" or
            "none".
          separator: the separator between tags.
          events: a list of events; see `event_lists`.
          unannotated: see `Manifest`.
          split_by: a regular expression that finds the group of a clip in its path below `folder`:
            the first group of parentheses that matches, or the whole match if there are no
            parentheses. The splits are then drawn at random, whatever the folders say, with each
            group in one split only, and the group becomes a field.
          fractions: the shares of train, validation and test, if splits are drawn.
          folds: number of folds to draw for cross-validation, the field "fold".
          seed: the seed of the splits and of the folds.
          keep_silence: whether to keep clips of digital silence, for example as a class.

        Raises:
          UserError: an option is invalid.
        """
        archives.check_place(folder, archive)
        folder = local_path(folder) if folder else None
        fractions = splitting.shares(fractions)
        self.name = name
        self._wanted = wanted(
            tags=tags, separator=separator, events=events, unannotated=unannotated
        )
        if self._wanted.columns not in ((), (Column("label", "label", "", TagsField),)):
            raise UserError('The only tags of a folder are "label": pass --tags label.')
        columns = [*(self._wanted.columns or [Column("label", "label")])]
        self._kind = columns[0].kind
        columns += [Column("group", "group")] if split_by else []
        columns += [Column(FOLD, FOLD)] if folds else []
        self.fields = self._wanted.kinds(columns)
        self._folder, self._archive = folder, archive
        self._group_of = _group_finder(split_by) if split_by else None
        self._choose_splits = functools.partial(splitting.choose, fractions=fractions, seed=seed)
        self._draw_folds = functools.partial(draw_folds, folds, seed=seed)
        self._decode = functools.partial(decode, keep_silence=keep_silence)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            sounds=str(Path(folder or archive or "").expanduser().resolve()),
            split_by=split_by,
            fractions=fractions,
            folds=folds,
            seed=seed,
            keep_silence=keep_silence,
            **self._wanted.settings,
        )

    def inputs(self) -> Mapping[str, Path]:
        if self._archive:
            return super().inputs()
        root = self._existing_folder()
        return {sound.path.relative_to(root).as_posix(): sound.path for sound in _sounds(root)}

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch) if self._archive else self._existing_folder()
        sounds = _sounds(root)
        if not sounds:
            raise UserError(f"{root} has no directory per class with files in it.")
        names = [sound.path.relative_to(root).as_posix() for sound in sounds]
        values = [self._group_of(name) for name in names] if self._group_of else []
        groups = splitting.Groups("group", values, requested=True) if values else None
        existing = [sound.split for sound in sounds] if sounds[0].split else None
        contents = user_files.contents([sound.path for sound in sounds])
        labels = [self._wanted.value(sound.label, self._kind) for sound in sounds]
        events, event_remarks = self._wanted.events_of(names)
        splits, remarks = self._choose_splits(existing, strata(labels), groups, contents)
        folds = self._draw_folds(strata(labels), groups, contents)
        self.remarks += [*_empty_folders(root, sounds), *event_remarks, *remarks]
        return [
            Clip(
                name=name,
                split=split,
                labels={"label": label, "group": group, FOLD: fold, EVENTS: clip_events},
                read=functools.partial(self._decode, sound.path, name=name),
            )
            for name, split, sound, label, clip_events, group, fold in zip(
                names,
                splits,
                sounds,
                labels,
                events,
                values or [""] * len(sounds),
                folds,
                strict=True,
            )
        ]

    def _existing_folder(self) -> Path:
        if not self._folder or not self._folder.is_dir():
            raise UserError(f'There is no folder "{self._folder or ""}".')
        return self._folder


def _group_finder(expression: str) -> Callable[[str], str]:
    """Returns a function from the path of a clip to its group."""
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
    split: str  # "" if the folder has no splits
    label: str
    path: Path


def _sounds(root: Path) -> list[_Sound]:
    """Lists every file in natural order."""
    tops = _folders(root)
    splits = {top: splitting.USUAL_NAMES.get(top.name.lower(), "") for top in tops}
    if not any(splits.values()):
        return [_Sound("", clean(top.name), path) for top in tops for path in _files(top)]
    for top in tops:
        if not splits[top]:
            raise UserError(
                f"{root} has splits, but {top.name}/ is none: move it into one, or elsewhere."
            )
    return [
        _Sound(splits[top], clean(label.name), path)
        for top in tops
        for label in _folders(top)
        for path in _files(label)
    ]


def _empty_folders(root: Path, sounds: Sequence[_Sound]) -> list[str]:
    """Returns a remark on class directories without files."""
    depth = 2 if sounds[0].split else 1
    filled = {sound.path.relative_to(root).parts[:depth] for sound in sounds}
    folders = _folders(root)
    if depth == 2:
        folders = [label for top in folders for label in _folders(top)]
    relative = [folder.relative_to(root) for folder in folders]
    names = [path.as_posix() + "/" for path in relative if path.parts not in filled]
    return [f"There are no files in {', '.join(names)}."] if names else []


def _folders(root: Path) -> list[Path]:
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(folders, key=lambda path: natural(path.name))


def _files(folder: Path) -> list[Path]:
    return sorted(sound_files(folder), key=lambda path: natural(path.as_posix()))
