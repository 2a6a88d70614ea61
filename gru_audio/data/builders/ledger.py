"""Clips before they are read, and what was written of them."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gru_audio.audio.io import Audio, BadAudio
from gru_audio.data import index
from gru_audio.data.builders import quality
from gru_audio.data.signal import Signal


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip before it is read.

    `name` is unique in its data set; `labels` gives a class name for each field ("": unknown);
    `read(sample_rate)` returns the sound, or raises `BadAudio` or `OSError`.
    """

    name: str
    split: str
    labels: Mapping[str, str]
    read: Callable[[int], Audio]


class Ledger:
    """What was written and what was skipped: one row a clip, and a running hash over all of it.

    Records hold the number of a class in `class_names`. A class of which no clip was written is
    left out of `columns` and `description`, which number the others.
    """

    def __init__(self, class_names: Mapping[str, tuple[str, ...]], signal: Signal):
        self._stored = np.dtype(signal.dtype).newbyteorder("<")
        self.skipped: list[tuple[str, str]] = []  # name of the clip, reason
        self._skipped_labels: list[Mapping[str, str]] = []
        self._class_names = class_names
        self._ids = {
            field: {name: i for i, name in enumerate(names)} | {"": -1}
            for field, names in class_names.items()
        }
        self._rows: list[tuple[str, str, int, tuple[int, ...]]] = []
        self._contents: list[bytes] = []  # a short hash of each clip
        self._rates: collections.Counter[int] = collections.Counter()
        self._hash = hashlib.sha256(repr(sorted(class_names.items())).encode())

    @property
    def clips(self) -> int:
        return len(self._rows)

    def add(self, clip: Clip, audio: Audio) -> dict[str, int]:
        """Enters a clip; returns its class ids."""
        ids = {field: self._ids[field][clip.labels.get(field, "")] for field in self._class_names}
        row = (clip.split, clip.name, len(audio.samples), tuple(ids.values()))
        content = audio.samples.astype(self._stored).tobytes()
        self._rows.append(row)
        self._contents.append(hashlib.blake2b(content, digest_size=16).digest())
        self._rates[audio.file_rate] += 1
        self._hash.update(repr((row, audio.sample_rate)).encode())
        self._hash.update(content)
        return ids

    def skip(self, clip: Clip, error: BadAudio | OSError) -> None:
        """Enters a clip that cannot be used."""
        reason = error.reason if isinstance(error, BadAudio) else error.strerror or str(error)
        self.skipped.append((clip.name, reason))
        self._skipped_labels.append(clip.labels)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `gru_audio.data.source.Source`."""
        split, name, length, _ = zip(*self._rows, strict=True)
        columns = {
            index.SPLIT: np.array(split),
            index.LENGTH: np.array(length, np.int32),
            index.CLIP: np.array(name),
        }
        for field, ids in self._class_ids().items():
            numbers = np.cumsum(self._used(ids, field)) - 1
            columns[field] = np.append(numbers, -1)[ids].astype(np.int32)  # -1 stays what it is
        return columns

    def description(self) -> dict[str, Any]:
        """What `source.json` says about the clips."""
        return {
            "class_names": {
                field: [
                    name
                    for name, used in zip(
                        self._class_names[field], self._used(ids, field), strict=True
                    )
                    if used
                ]
                for field, ids in self._class_ids().items()
            },
            "fingerprint": self._hash.hexdigest(),
            "file_rates": sorted(self._rates.items()),
            "skipped": self.skipped,
        }

    def remarks(self) -> list[str]:
        """What the user should know about the clips: see `gru_audio.data.builders.quality`."""
        columns, names = self.columns(), self.description()["class_names"]
        reasons = [reason for _, reason in self.skipped]
        left_out = []
        for field, all_names in self._class_names.items():
            of_field = [labels.get(field, "") for labels in self._skipped_labels]
            missing = sorted(set(all_names) - set(names[field]))
            left_out += quality.without_clips(field, missing, of_field, reasons)
        return left_out + quality.remarks(columns, names, self._contents)

    def complaint(self) -> str:
        """What a refusal says: every bad file with its reason."""
        lines = [f"  {name}: {reason}" for name, reason in self.skipped]
        return "\n".join(
            [
                f"{len(lines)} of {len(lines) + self.clips} clips cannot be used:",
                *lines,
                "Mend or remove them, or pass --on_bad_file skip to leave them out."
                if self.clips
                else "There is nothing left to prepare.",
            ]
        )

    def _class_ids(self) -> dict[str, np.ndarray]:
        """The classes of each clip as they were written, int64 (clips,), -1 where unknown."""
        ids = np.array([ids for *_, ids in self._rows], np.int64).reshape(self.clips, -1)
        return {field: ids[:, i] for i, field in enumerate(self._class_names)}

    def _used(self, ids: np.ndarray, field: str) -> np.ndarray:
        """Whether there is a clip of each class, bool (classes,)."""
        return np.bincount(ids[ids >= 0], minlength=len(self._class_names[field])) > 0
