"""People's own sounds in a directory per class."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from gru_audio.audio.files import sound_files
from gru_audio.audio.io import decode
from gru_audio.config import UserError
from gru_audio.data.builders import archive as archives
from gru_audio.data.builders import splitting
from gru_audio.data.builders.clips import SKIP, Clip, ClipBuilder, natural


class Folder(ClipBuilder):
    """Sounds in CLASS/, or in SPLIT/CLASS/ with splits called train, validation and test.

    Every file below a class directory is one of its clips, save hidden ones; links are followed.
    """

    VERSION = tfds.core.Version("1.1.0")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        name: str,
        folder: Path | str | None = None,
        archive: Path | str | None = None,
        split_by: str | None = None,
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Takes the sounds from `folder`, or from an `archive` of one.

        Args:
          name: of the new data set.
          split_by: a regular expression that finds the group of a clip in its path below
            `folder` (its first parenthesis, else all it matches). The splits are then drawn
            at random with no group in two of them, and the group becomes a field.
          fractions: of train, validation and test, where splits are drawn.
          seed: of the draw.
        """
        archives.check_place(folder, archive)
        fractions = splitting.shares(fractions)
        self.name = name
        self.fields = ("label", "group") if split_by else ("label",)
        self._folder, self._archive = folder, archive
        self._group_of = _group_finder(split_by) if split_by else None
        self._choose_splits = functools.partial(splitting.choose, fractions=fractions, seed=seed)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            sounds=str(Path(folder or archive or "").expanduser().resolve()),
            split_by=split_by,
            fractions=fractions,
            seed=seed,
        )

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch) if self._archive else self._existing()
        sounds = _sounds(root)
        if not sounds:
            raise UserError(f"{root} has no directory per class with files in it.")
        names = [sound.path.relative_to(root).as_posix() for sound in sounds]
        groups = [self._group_of(name) for name in names] if self._group_of else None
        given = [sound.split for sound in sounds] if sounds[0].split else None
        splits = self._choose_splits(given, [sound.label for sound in sounds], groups)
        return [
            Clip(
                name=name,
                split=split,
                labels={"label": sound.label, "group": group},
                read=functools.partial(decode, sound.path, name=name),
            )
            for name, split, sound, group in zip(
                names, splits, sounds, groups or [""] * len(sounds), strict=True
            )
        ]

    def _existing(self) -> Path:
        folder = Path(self._folder or "").expanduser()
        if not self._folder or not folder.is_dir():
            raise UserError(f'There is no folder "{self._folder or ""}".')
        return folder


def _group_finder(expression: str) -> Callable[[str], str]:
    """Takes the path of a clip to its group."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UserError(f'--split_by "{expression}" is no regular expression: {error}.') from error

    def find(name: str) -> str:
        found = pattern.search(name)
        if not found:
            raise UserError(f'--split_by "{expression}" finds no group in {name}.')
        return found[1] if pattern.groups else found[0]

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
        return [_Sound("", top.name, path) for top in tops for path in _files(top)]
    for top in tops:
        if not splits[top]:
            raise UserError(
                f"{root} has splits, but {top.name}/ is none: put it under one, or elsewhere."
            )
    return [
        _Sound(splits[top], label.name, path)
        for top in tops
        for label in _folders(top)
        for path in _files(label)
    ]


def _folders(root: Path) -> list[Path]:
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(folders, key=lambda path: natural(path.name))


def _files(folder: Path) -> list[Path]:
    return sorted(sound_files(folder), key=lambda path: natural(path.as_posix()))
