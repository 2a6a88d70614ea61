"""GTZAN: ten genres of music, 100 excerpts of 30 s each, which everybody has to find for oneself.

Tzanetakis and Cook 2002, "Musical genre classification of audio signals". About its faults, and the
split that avoids them, see `gtzan_faultless`.
"""

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import BadAudio, decode, duration
from gru_audio.config import UserError
from gru_audio.data.builders import archive as archives
from gru_audio.data.builders import gtzan_faultless, splitting
from gru_audio.data.builders.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.fields import classes

FILTERED, RANDOM = "filtered", "random"

_TRACK = re.compile(rf"({'|'.join(gtzan_faultless.GENRES)})\.[0-9]{{5}}\.(wav|au)")
_WARNING = (
    "the split is random: artists and copies of tracks are in several parts of it, and faulty "
    "tracks are in all. Results look better than they are; never compare them"
)


class Gtzan(ClipBuilder):
    """GTZAN: which of ten genres, and which track.

    The split leaves faulty tracks out and has no artist in two parts: 443 tracks to train on, 197
    to validate and 290 to test. One of them, jazz.00054, is damaged in most copies.
    """

    VERSION = tfds.core.Version("1.1.0")
    fields = classes("label", "track")
    homepage = "http://marsyas.info/downloads/datasets.html"

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str,
        split: str = FILTERED,
        segment_seconds: float | None = None,
        fractions: Sequence[float | str] = splitting.FRACTIONS,
        seed: int = 0,
        sample_rate: int = 22050,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive`, a tar, zip or folder with GENRE.NUMBER.wav or .au somewhere in it.

        Args:
          split: "filtered", or "random" over all tracks, which is to be avoided.
          segment_seconds: cuts each track in parts of about this length, whose last may be shorter.
          fractions: of train, validation and test in the random split.
          seed: of the random split.
        """
        if split not in (FILTERED, RANDOM):
            raise UserError(f'gtzan has no split "{split}": --split is {FILTERED} or {RANDOM}.')
        if segment_seconds is not None and not segment_seconds > 0:
            raise UserError(f"--segment_seconds must be more than 0, not {segment_seconds:g}.")
        fractions = splitting.shares(fractions)
        self._archive, self._segment_seconds = archive, segment_seconds
        self._random = functools.partial(splitting.stratified, fractions=fractions, seed=seed)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            split=split,
            segment_seconds=segment_seconds,
            fractions=fractions,
            seed=seed,
        )

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch)
        files = {path.stem: path for path in root.rglob("*") if _TRACK.fullmatch(path.name)}
        if not files:
            raise UserError(f"{self._archive} has no tracks GENRE/GENRE.NUMBER.wav or .au.")
        splits = self._splits(sorted(files))
        absent = root / "absent"  # so that tracks that are not there are reported as bad files
        return [
            clip
            for track, split in splits.items()
            for clip in _cut(files.get(track, absent), track, split, self._segment_seconds)
        ]

    def _splits(self, tracks: Sequence[str]) -> Mapping[str, str]:
        if self.settings["split"] == FILTERED:
            self.verified = "the split is that without faulty tracks, or an artist in two parts"
            return gtzan_faultless.splits()
        self.verified = f"nothing; {_WARNING}"
        print(f"gtzan: {_WARNING}.", file=sys.stderr)
        return dict(zip(tracks, self._random([_genre(track) for track in tracks]), strict=True))


def _cut(path: Path, track: str, split: str, seconds: float | None) -> list[Clip]:
    """The clips of a track: one, or its segments."""
    return [
        Clip(
            name=f"{track}@{start:g}" if seconds else track,
            split=split,
            labels={"label": _genre(track), "track": track},
            read=functools.partial(decode, path, name=track, start=start, end=end),
        )
        for start, end in _segments(path, seconds)
    ]


def _segments(path: Path, seconds: float | None) -> list[tuple[float, float | None]]:
    """Starts and ends; None is the end of the track."""
    try:
        total = duration(path) if seconds else 0.0
    except (BadAudio, OSError):
        total = 0.0  # whoever reads it will say what is wrong
    if not seconds or not total:
        return [(0.0, None)]
    count = max(1, round(total / seconds))
    ends = [(i + 1) * seconds for i in range(count)]
    return [(i * seconds, end if end <= total else None) for i, end in enumerate(ends)]


def _genre(track: str) -> str:
    return track.partition(".")[0]
