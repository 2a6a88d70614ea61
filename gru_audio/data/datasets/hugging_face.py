"""Data sets of Hugging Face on disk, as `save_to_disk` of the package datasets wrote them."""

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio, BadAudio, decode
from gru_audio.data.datasets import columns, splitting, user_files
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder, problem_of_name
from gru_audio.data.fields import ClassField, Field, NumberField, TagsField, TextField, Value
from gru_audio.data.index import UNKNOWN_LICENCE
from gru_audio.paths import local_path
from gru_audio.settings import UserError

_KINDS: Mapping[str, type[Field]] = {
    columns.CLASS: ClassField,
    columns.NUMBER: NumberField,
    columns.TEXT: TextField,
}


class HuggingFace(ClipBuilder):
    """A data set with one Audio column, which is decoded by gru_audio, without torchcodec.

    Class labels become classes, sequences of them tags, and strings and numbers what a column of
    such values would be in a manifest. Other columns are left out. The splits are those of the data
    set. If it has none, or --split_by names a column, they are drawn.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        name: str,
        path: Path | str,
        split_by: str | None = None,
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
        keep_silence: bool = False,
    ):
        """Reads the columns; the preparation reads the sounds.

        Args:
          name: the name of the new data set.
          path: the folder of the data set on disk.
          split_by: a column. The splits are then drawn at random, so that each of its values is in
            one split only.
          fractions: the shares of train, validation and test, if splits are drawn.
          seed: the seed of the splits.
          keep_silence: whether to keep clips of digital silence, for example as a class.

        Raises:
          UserError: the package datasets is missing, the folder is no such data set, or it has no
            column or several of type Audio.
        """
        self._path = local_path(path)
        self._splits = _load(self._path)
        first = next(iter(self._splits.values()))
        self._audio = _audio_column(first, self._path)
        self._splits = {split: _raw(data, self._audio) for split, data in self._splits.items()}
        self._columns: dict[str, list[Value]] = {}
        fields: dict[str, type[Field]] = {}
        left_out: dict[str, str] = {}
        for column, feature in first.features.items():
            if column == self._audio:
                continue
            cells = [cell for data in self._splits.values() for cell in list(data[column])]
            kind, values = _interpreted(feature, cells)
            if kind is None or problem_of_name(column):
                left_out[column] = "another type"
            else:
                fields[column], self._columns[column] = kind, values
        order = [ClassField, TagsField, TextField, NumberField]  # the first is the usual target
        self.fields = dict(sorted(fields.items(), key=lambda item: order.index(item[1])))
        if split_by and split_by not in self.fields:
            raise UserError(f'--split_by: {self._path} has no column "{split_by}" of classes.')
        self.name = name
        self.licence = first.info.license or UNKNOWN_LICENCE
        self._split_by = split_by
        fractions = splitting.shares(fractions)
        self._choose_splits = functools.partial(splitting.choose, fractions=fractions, seed=seed)
        self._decode = functools.partial(decode, keep_silence=keep_silence)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            path=str(self._path.resolve()),
            split_by=split_by,
            fractions=fractions,
            seed=seed,
            keep_silence=keep_silence,
        )
        self.remarks += columns.not_kept(left_out)

    def inputs(self) -> Mapping[str, Path]:
        return user_files.below(self._path)

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        places = [(s, i) for s, data in self._splits.items() for i in range(len(data))]
        existing = [re.sub(r"\W", "_", splitting.USUAL_NAMES.get(s.lower(), s)) for s, _ in places]
        groups = None
        if self._split_by:
            values = [str(value or "") for value in self._columns[self._split_by]]
            groups = splitting.Groups(self._split_by, values, requested=True)
        labels = next((v for n, v in self._columns.items() if self.fields[n] is ClassField), None)
        splits, remarks = self._choose_splits(
            existing if all(split for split, _ in places) else None,
            columns.strata(labels) if labels else [""] * len(places),
            groups,
            [self._content(*place) for place in places],
        )
        self.remarks += remarks
        return [
            Clip(
                name=(name := f"{place[0]}_{place[1]:06d}".lstrip("_")),
                split=split,
                labels={column: values[row] for column, values in self._columns.items()},
                read=functools.partial(self._read, *place, name),
            )
            for row, (place, split) in enumerate(zip(places, splits, strict=True))
        ]

    def _content(self, split: str, row: int) -> str:
        """Returns a checksum of a sound; of its path if it is in a file."""
        sound = self._splits[split][row][self._audio] or {}
        return hashlib.sha256(sound.get("bytes") or str(sound.get("path")).encode()).hexdigest()

    def _read(self, split: str, row: int, name: str, sample_rate: int) -> Audio:
        sound = self._splits[split][row][self._audio] or {}
        content = sound.get("bytes")
        if content is None and not sound.get("path"):
            raise BadAudio(name, "it has no sound")
        source = content if content is not None else local_path(sound["path"], self._path)
        return self._decode(source, sample_rate, name=name)


def _load(path: Path) -> dict[str, Any]:
    """Returns the data set of each split; "": it has no splits."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f'hf needs the package datasets ({error}): pip install "gru-audio[hf]"'
        ) from error
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets and Arrow raise errors of many kinds
        raise UserError(
            f"{path} is no data set that save_to_disk of Hugging Face wrote: {error}"
        ) from error
    splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
    if not any(map(len, splits.values())):
        raise UserError(f"{path} has no examples.")
    return splits


def _audio_column(data: Any, path: Path) -> str:
    from datasets import Audio as AudioFeature

    found = [name for name, feature in data.features.items() if isinstance(feature, AudioFeature)]
    if len(found) != 1:
        raise UserError(f"{path} has {len(found)} columns of type Audio, not one.")
    return found[0]


def _raw(data: Any, column: str) -> Any:
    """Returns the data set with sounds as encoded bytes or paths."""
    from datasets import Audio as AudioFeature

    return data.with_format(None).cast_column(column, AudioFeature(decode=False))


def _interpreted(feature: Any, cells: Sequence[Any]) -> tuple[type[Field] | None, list[Value]]:
    """Returns the type of field of a column, None if there is none, and its values."""
    from datasets import ClassLabel
    from datasets import Value as Plain

    def named(label: ClassLabel, number: int | None) -> str | None:
        return None if number is None or number < 0 else label.int2str(number)

    of_list = getattr(feature, "feature", None)
    if isinstance(feature, ClassLabel):
        return ClassField, [named(feature, cell) for cell in cells]
    if isinstance(of_list, ClassLabel):
        tags = [None if cell is None else [named(of_list, each) for each in cell] for cell in cells]
        return TagsField, [t if t is None else frozenset(filter(None, t)) for t in tags]
    if not isinstance(feature, Plain):
        return None, []
    texts = ["" if cell is None else str(cell) for cell in cells]
    kind = _KINDS.get(columns.kind(texts))
    if kind is NumberField and not feature.dtype.startswith(("int", "uint", "float")):
        kind = TextField
    if kind is NumberField:
        return kind, [None if cell is None else float(cell) for cell in cells]
    if kind is TextField and not any(" " in text.strip() for text in texts):
        return None, []  # such as file names
    return kind, [None if cell is None else text for cell, text in zip(cells, texts, strict=True)]
