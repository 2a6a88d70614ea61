"""The base class of all data set builders: it turns a list of clips into a prepared data set.

A builder lists its clips (`ClipBuilder.clips`). Reading, checking and writing them are the same for
all builders. Clips are read one at a time while their shard is written, so the memory needed does
not depend on the size of the data set.
"""

import abc
import collections
import dataclasses
import functools
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from gru_audio.audio.io import BadAudio, check_rate
from gru_audio.data import index
from gru_audio.data.datasets import user_files
from gru_audio.data.datasets.ledger import Clip as Clip
from gru_audio.data.datasets.ledger import Ledger
from gru_audio.data.datasets.records import STORED, name_classes
from gru_audio.data.fields import Field
from gru_audio.data.signal import FRAMES, SOUND, Signal
from gru_audio.paths import local_path
from gru_audio.settings import UserError

CLIPS_PER_SHARD = 8192
SPLITS = ("train", "validation", "test")
UNFINISHED = "incomplete."  # prefix of the names of unfinished folders, as in TFDS
SKIP, REFUSE = "skip", "refuse"  # the values of on_bad_file
_RESERVED = (index.SPLIT, index.LENGTH, index.CLIP, SOUND, FRAMES)  # not allowed as field names


class ClipBuilder(tfds.core.ShardBasedBuilder, abc.ABC):
    """A TFDS builder of labelled clips: a signal, "audio" (None,) or "frames", and fields.

    It needs no TensorFlow: signals are stored as bytes in ArrayRecord files. The folder also holds
    the index files of `gru_audio.data.index`.

    Attributes:
      fields: the field types by name; see `gru_audio.data.fields`. The first is the usual target.
      progress: called with (clips read, all clips) after each clip; may be replaced.
      verified: a text on what was verified by checksums or counts.
      remarks: notes for the user on how the clips were chosen; `clips` adds to them.
      licence: the licence of the data, as their source states it.
    """

    fields: Mapping[str, type[Field]]
    _archive: Any = None  # the user's --archive, if any
    homepage: ClassVar[str | None] = None
    licence: str = index.UNKNOWN_LICENCE

    def __init_subclass__(cls, **kwargs: Any):
        # The TFDS registry already has a spoken_digit.
        super().__init_subclass__(skip_registration=True, **kwargs)

    def __init__(
        self, *, data_dir: Path | str, sample_rate: float, on_bad_file: str, **settings: Any
    ):
        """Sets up the builder; these arguments mean the same for all builders.

        Args:
          data_dir: the folder of prepared data sets.
          sample_rate: of the prepared data set, in Hz; steps per second of frames.
          on_bad_file: "skip" or "refuse".
          **settings: stored with the data set, to detect a preparation with other settings.

        Raises:
          UserError: a field has an invalid name, or the sample rate is invalid.
        """
        for field in self.fields:
            if problem := problem_of_name(field):
                raise UserError(f'No field can be called "{field}", as {problem}.')
        if type(self).signal is ClipBuilder.signal:  # sound
            check_rate(sample_rate)
        self._sample_rate = int(sample_rate)
        kind = {"builder": type(self).__name__, "sample_rate": self._sample_rate}
        self.settings = {**kind, **settings}
        self.progress: Callable[[int, int], None] = lambda done, total: None
        self.verified = "no, because nothing is published to compare with"
        self.remarks: list[str] = []
        self._on_bad_file = on_bad_file
        super().__init__(data_dir=data_dir, file_format="array_record")

    @property
    def signal(self) -> Signal:
        """The kind of sequence; sound, unless a subclass overrides it."""
        return Signal(self._sample_rate)

    @abc.abstractmethod
    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        """Lists all clips of the data set, in a deterministic order.

        Args:
          scratch: an empty folder for unpacked files; it is deleted once all clips are read.
          downloads: a folder for downloaded files; it is kept.
        """

    def inputs(self) -> Mapping[str, Path]:
        """Returns the user's files by name, which are checked for later changes.

        Raises:
          UserError: the folder of the files does not exist.
        """
        return user_files.below(local_path(self._archive)) if self._archive else {}

    def _info(self) -> tfds.core.DatasetInfo:
        signal = self.signal
        steps = tfds.features.Tensor(
            shape=(None, *signal.shape), dtype=np.dtype(signal.dtype), encoding="bytes"
        )
        labels = {field: STORED[kind].feature() for field, kind in self.fields.items()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict({signal.feature: steps, **labels}),
            homepage=self.homepage,
            disable_shuffling=True,
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        with tempfile.TemporaryDirectory(dir=self.data_path, prefix=UNFINISHED) as scratch:
            inputs = user_files.listed(self.inputs())
            clips = self.clips(Path(scratch), Path(dl_manager.download_dir))
            self._clips = _in_order([_cleaned(clip, self.fields) for clip in clips])
            self._ledger = Ledger(self._clips, self.fields, self.signal)
            for name, field in self._ledger.fields.items():
                name_classes(self.info.features[name], field)
            super()._download_and_prepare(dl_manager, download_config)
        ledger = self._ledger
        if ledger.skipped and (self._on_bad_file == REFUSE or not ledger.clips):
            raise UserError(ledger.complaint())
        description = {
            "name": self.name,
            "version": str(self.version),
            "sample_rate": self._sample_rate,
            **({} if self.signal.is_sound else {"signal": _described(self.signal)}),
            "settings": self.settings,
            "verified": self.verified,
            "licence": self.licence,
            "records": self._records(),
            "remarks": [*self.remarks, *ledger.remarks()],
            **ledger.description(),
        }
        index.write(Path(self.data_path), description, ledger.columns(), inputs)

    def _shard_iterators_per_split(self, dl_manager: Any) -> Mapping[str, Sequence[Any]]:
        by_split: dict[str, list[Clip]] = collections.defaultdict(list)
        for clip in self._clips:
            by_split[clip.split].append(clip)
        return {
            split: [
                functools.partial(self._examples, clips[first : first + CLIPS_PER_SHARD])
                for first in range(0, len(clips), CLIPS_PER_SHARD)
            ]
            for split, clips in by_split.items()
        }

    def _examples(self, clips: Sequence[Clip]) -> Iterator[tuple[str, dict[str, Any]]]:
        ledger = self._ledger
        for clip in clips:
            try:
                audio = clip.read(self._sample_rate)
                _check_labels(clip, self.fields, len(audio.samples) / self._sample_rate)
            except (BadAudio, OSError) as error:
                ledger.skip(clip, error)
            else:
                example = {self.signal.feature: audio.samples, **ledger.add(clip, audio)}
                yield clip.name, example
                example.clear()  # TFDS keeps every example of a shard until the shard is written
            self.progress(ledger.clips + len(ledger.skipped), len(self._clips))

    def _make_download_manager(self, download_dir: Any, download_config: Any) -> Any:
        """Returns a plain manager; the default one needs a package that TFDS does not declare."""
        return tfds.download.DownloadManager(
            download_dir=download_dir or self.data_dir_root / "downloads"
        )

    def _log_download_bytes(self) -> None:
        """Suppresses the message of TFDS about a download of unknown size."""

    def _log_download_done(self) -> None:
        """Suppresses the message of TFDS, which names a folder that is renamed afterwards."""

    def _records(self) -> list[tuple[str, int]]:
        return [
            (Path(path).name, length)
            for split in dict.fromkeys(clip.split for clip in self._clips)
            for path, length in zip(
                self.info.splits[split].filepaths,
                self.info.splits[split].shard_lengths,
                strict=True,
            )
            if length
        ]


def problem_of_name(field: str) -> str:
    """Returns why a field name is invalid; "" if it is valid."""
    if field in _RESERVED:
        return "that name is reserved: rename the column"
    if not re.fullmatch(r"\w[\w .-]*", field):
        return "field names have only letters, digits, underscores, spaces, dots and hyphens"
    return ""


def _described(signal: Signal) -> dict[str, Any]:
    """Returns the JSON description of a signal of frames, without its rate."""
    return {"dtype": signal.dtype, "shape": signal.shape, "block": signal.block}


def _cleaned(clip: Clip, fields: Mapping[str, type[Field]]) -> Clip:
    """Returns the clip with a canonical value, or None, for each field."""
    values = {name: clip.labels.get(name) for name in fields}
    labels = {
        name: None if value is None else fields[name].clean(value) for name, value in values.items()
    }
    return dataclasses.replace(clip, labels=labels)


def _check_labels(clip: Clip, fields: Mapping[str, type[Field]], seconds: float) -> None:
    """Raises `BadAudio` if a label is invalid for a clip of this duration."""
    for name, value in clip.labels.items():
        if value is not None and (problem := fields[name].problem(value, seconds)):
            raise BadAudio(clip.name, f"{name}: {problem}")


def _in_order(clips: Sequence[Clip]) -> list[Clip]:
    """Orders clips by split, `SPLITS` first; refuses duplicate clips and invalid names."""
    if not clips:
        raise UserError("There are no clips to prepare.")
    counts = collections.Counter(clip.name for clip in clips)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"The same clip is listed {counts[twice[0]]} times: {twice[0]}")
    for clip in clips:
        try:
            "".join((clip.name, *map(str, clip.labels.values()))).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"Rename {clip.name!r}: it is not written in UTF-8.") from error
    splits = {clip.split for clip in clips}
    for split in splits:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", split) or split == "all":
            raise UserError(f'"{split}" cannot name a split: use letters, digits and underscores.')
    order = {name: i for i, name in enumerate((*SPLITS, *sorted(splits - set(SPLITS))))}
    return sorted(clips, key=lambda clip: order[clip.split])
