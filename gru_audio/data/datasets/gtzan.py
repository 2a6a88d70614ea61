"""GTZAN: ten genres of music, 100 excerpts of 30 s each; users must provide the files.

Tzanetakis and Cook 2002, "Musical genre classification of audio signals". It has exact copies,
copies of one recording, distorted and mislabelled tracks, and whole albums of one artist (Sturm
2013, arXiv 1306.1461). Kereliuk, Sturm and Larsen 2015, "Deep Learning and Music Adversaries"
(arXiv 1507.04761), excluded the faulty tracks and kept artists together. `TRAIN`, `VALIDATION` and
`TEST` are the numbers of their tracks by genre, from torchaudio (datasets/gtzan.py), which took
them from https://github.com/jordipons/sklearn-audio-transfer-learning.
"""

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import BadAudio, decode, duration
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import splitting
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.fields import classes
from gru_audio.settings import UserError

FILTERED, RANDOM = "filtered", "random"

GENRES = (
    *("blues", "classical", "country", "disco", "hiphop"),
    *("jazz", "metal", "pop", "reggae", "rock"),
)

TRAIN = """
blues 29-49 73-97
classical 30-33 43-48 50-67 80-99
country 19-26 28 29 65-99
disco 5 15-20 22-37 39-45 47 49 53 54 56 57 59 61 70 73 74 89
hiphop 2-25 28 29 31-38 41 42 55-61 77-80
jazz 0 1 11-24 41 47-72
metal 2 3 5 21 24 35 46-57 59-66 69 71 72 79 80 84 86 89-99
pop 2-9 11 12 16-20 23-29 31-36 38-42 44 46 49 50 80 97-99
reggae 0-2 4 6 9 11 12 14-32 42-45 49-51 54-60 63 69
rock 0-9 16-26 57-70 91-99
"""
VALIDATION = """
blues 0-11 50-60
classical 0-10 68-76
country 0-7 9-18 27 41 42 45 49
disco 0 2-4 6-14 46 48 52 67 68 72 75 90 95
hiphop 81-98
jazz 2-10 25-32
metal 0 1 6-11 16-20 36 37 68 76 77 81 82
pop 10 53 55 58-62 81 83-86
reggae 61 62 70 72 74 76-78 85 92-99
rock 38 49-56 71-85
"""
TEST = """
blues 12-28 61-72 98 99
classical 11-29 34-41 49 77-79
country 30-40 43 44 46-48 50 51 53-64
disco 1 21 58 62-66 69 76-88 91-94 96 97 99
hiphop 0 26 27 30 40 43-45 51-54 62-75 99
jazz 73-99
metal 12-15 22 23 25-33 38 39 67 70 73-75 78 83 85 87 88
pop 0 1 13 14 43 63-66 69-79 82 88-96
reggae 34-40 46-48 52 53 64-68 71 79 82-84 87-90
rock 10-15 27-37 39-48 86-90
"""

_TRACK = re.compile(rf"({'|'.join(GENRES)})\.[0-9]{{5}}\.(wav|au)")
_WARNING = (
    "the split is random: artists and copies of tracks are in several splits, and so are faulty "
    "tracks. Results are too optimistic; never compare them with others"
)


class Gtzan(ClipBuilder):
    """GTZAN: music of ten genres.

    The default splits exclude faulty tracks and have each artist in one split only: 443 tracks for
    training, 197 for validation and 290 for testing. One of them, jazz.00054, is damaged in most
    copies.
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
          split: "filtered", or "random" over all tracks, which gives misleading results.
          segment_seconds: cuts each track into parts of this length; the last may be shorter.
          fractions: the shares of train, validation and test in the random split.
          seed: the seed of the random split.

        Raises:
          UserError: an option is invalid.
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
        absent = root / "absent"  # reports missing tracks as bad files
        return [
            clip
            for track, split in splits.items()
            for clip in _cut(files.get(track, absent), track, split, self._segment_seconds)
        ]

    def _splits(self, tracks: Sequence[str]) -> Mapping[str, str]:
        if self.settings["split"] == FILTERED:
            self.verified = "the splits have no faulty tracks, and each artist is in one split"
            return faultless_splits()
        self.verified = f"nothing; {_WARNING}"
        print(f"gtzan: {_WARNING}.", file=sys.stderr)
        return dict(zip(tracks, self._random([_genre(track) for track in tracks]), strict=True))


def _cut(path: Path, track: str, split: str, seconds: float | None) -> list[Clip]:
    """Returns the clips of a track: the whole track, or its segments."""
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
    """Returns starts and ends in seconds; None: the end of the track."""
    try:
        total = duration(path) if seconds else 0.0
    except (BadAudio, OSError):
        total = 0.0  # reading the clip will report the error
    if not seconds or not total:
        return [(0.0, None)]
    count = max(1, round(total / seconds))
    ends = [(i + 1) * seconds for i in range(count)]
    return [(i * seconds, end if end <= total else None) for i, end in enumerate(ends)]


def _genre(track: str) -> str:
    return track.partition(".")[0]


def faultless_splits() -> Mapping[str, str]:
    """Returns the split of every track without faults by its name, such as "blues.00029"."""
    parts = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    return {track: split for split, part in parts.items() for track in _tracks(part)}


def _tracks(part: str) -> list[str]:
    tracks = []
    for line in part.strip().splitlines():
        genre, *ranges = line.split()
        for numbers in ranges:
            first, _, last = numbers.partition("-")
            tracks += [f"{genre}.{i:05d}" for i in range(int(first), int(last or first) + 1)]
    return tracks
