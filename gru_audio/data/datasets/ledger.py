"""Clips to read, and the record of which clips were written or skipped."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.audio.io import Audio, BadAudio
from gru_audio.data import index
from gru_audio.data.datasets import quality
from gru_audio.data.datasets.records import STORED
from gru_audio.data.fields import ClassesField, Field, Value, describe
from gru_audio.data.signal import Signal


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip that has not been read yet.

    Attributes:
      name: its name, unique in the data set.
      split: the name of its split.
      labels: the known values of its fields; see `gru_audio.data.fields`.
      read: returns the sound at a sample rate in Hz; raises `BadAudio` or `OSError`.
    """

    name: str
    split: str
    labels: Mapping[str, Value]
    read: Callable[[int], Audio]


class Ledger:
    """Records which clips were written and skipped, with a running hash of the written ones.

    `fields` are the fields of all clips, and the records use their class indices. `columns` and
    `description` leave out classes without a written clip, and use indices without gaps.
    """

    def __init__(self, clips: Sequence[Clip], kinds: Mapping[str, type[Field]], signal: Signal):
        self._stored = np.dtype(signal.dtype).newbyteorder("<")
        self.skipped: list[tuple[str, str]] = []  # name of the clip, reason
        self._skipped_clips: list[Clip] = []
        self._kinds = kinds
        self.fields = _fields_of(clips, kinds)
        self._clips: list[Clip] = []
        self._lengths: list[int] = []
        self._contents: list[bytes] = []  # a short hash of each clip
        self._rates: collections.Counter[int] = collections.Counter()
        self._cut: collections.Counter[str] = collections.Counter()  # events of each field
        named = [(n, f.names) for n, f in self.fields.items() if isinstance(f, ClassesField)]
        self._hash = hashlib.sha256(repr(sorted(named)).encode())

    @property
    def clips(self) -> int:
        return len(self._clips)

    def add(self, clip: Clip, audio: Audio) -> dict[str, Any]:
        """Adds a written clip; returns the encoded labels for its record.

        Events are cut at the end of the clip.
        """
        clip = self._fitted(clip, len(audio.samples) / audio.sample_rate)
        labels = {
            name: STORED[kind].encode(self.fields[name], clip.labels[name])
            for name, kind in self._kinds.items()
        }
        row = (clip.split, clip.name, len(audio.samples), tuple(labels.values()))
        content = audio.samples.astype(self._stored).tobytes()
        self._clips.append(clip)
        self._lengths.append(len(audio.samples))
        self._contents.append(hashlib.blake2b(content, digest_size=16).digest())
        self._rates[audio.file_rate] += 1
        self._hash.update(repr((row, audio.sample_rate)).encode())
        self._hash.update(content)
        return labels

    def skip(self, clip: Clip, error: BadAudio | OSError) -> None:
        """Adds a clip that cannot be used."""
        reason = error.reason if isinstance(error, BadAudio) else error.strerror or str(error)
        self.skipped.append((clip.name, reason))
        self._skipped_clips.append(clip)

    def columns(self) -> dict[str, Any]:
        """Returns the columns of `gru_audio.data.source.Source`."""
        values = {
            name: field.arrays([clip.labels[name] for clip in self._clips])
            for name, field in self._written().items()
        }
        return {
            index.SPLIT: np.array([clip.split for clip in self._clips]),
            index.LENGTH: np.array(self._lengths, np.int32),
            index.CLIP: np.array([clip.name for clip in self._clips]),
            **values,
        }

    def description(self) -> dict[str, Any]:
        """Returns the entries of `source.json` that describe the clips."""
        return {
            "fields": {name: describe(field) for name, field in self._written().items()},
            "fingerprint": self._hash.hexdigest(),
            "file_rates": sorted(self._rates.items()),
            "skipped": self.skipped,
        }

    def remarks(self) -> list[str]:
        """Returns notes for the user on the clips; see `gru_audio.data.datasets.quality`."""
        reasons = [reason for _, reason in self.skipped]
        written = self._written()
        filled = {clip.split for clip in self._clips}
        empty = dict.fromkeys(c.split for c in self._skipped_clips if c.split not in filled)
        left_out = [f"No clip of the split {split} can be used." for split in empty]
        for name, field in self.fields.items():
            if isinstance(field, ClassesField):
                missing = sorted(set(field.names) - set(written[name].names))
                values = [clip.labels[name] for clip in self._skipped_clips]
                classes = [field.classes_of(v) if v is not None else () for v in values]
                left_out += quality.without_clips(name, missing, classes, reasons)
        late = [
            f"{name}: {count} events end after their clip, and were cut at its end."
            for name, count in self._cut.items()
            if count
        ]
        labels = [clip.labels for clip in self._clips]
        return left_out + late + quality.remarks(self.columns(), written, labels, self._contents)

    def complaint(self) -> str:
        """Returns the error message for bad files: every bad file with its reason."""
        lines = [f"  {name}: {reason}" for name, reason in self.skipped]
        return "\n".join(
            [
                f"{len(lines)} of {len(lines) + self.clips} clips cannot be used:",
                *lines,
                "Repair or remove them, or pass --on_bad_file skip to leave them out."
                if self.clips
                else "There is nothing left to prepare.",
            ]
        )

    def _fitted(self, clip: Clip, seconds: float) -> Clip:
        labels = dict(clip.labels)
        for name, kind in self._kinds.items():
            if labels[name] is not None:
                labels[name], cut = kind.fitted(labels[name], seconds)
                self._cut[name] += cut
        return dataclasses.replace(clip, labels=labels)

    def _written(self) -> dict[str, Any]:
        """Returns the fields of the written clips."""
        return _fields_of(self._clips, self._kinds)


def _fields_of(clips: Sequence[Clip], kinds: Mapping[str, type[Field]]) -> dict[str, Any]:
    training = [clip.split == "train" for clip in clips]
    return {
        name: kind.of([clip.labels[name] for clip in clips], training)
        for name, kind in kinds.items()
    }
