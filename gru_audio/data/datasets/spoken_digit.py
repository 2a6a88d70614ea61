"""The Free Spoken Digit Dataset, release 1.0.10: 3000 recordings of digits by six men at 8 kHz."""

import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.download import download
from gru_audio.data.datasets.tables import read_table
from gru_audio.data.fields import classes
from gru_audio.paths import local_path
from gru_audio.settings import UserError

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
# A hash of the names and contents of the recordings: the release exists in several archives.
CONTENT_SHA256 = "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"

_RECORDING = re.compile(r"[0-9]_[a-z]+_[0-9]+\.wav")


class SpokenDigit(ClipBuilder):
    """Free Spoken Digit Dataset: digits and speakers.

    The official test split has takes 0 to 4 of every digit and speaker. There is no official
    validation split; takes 5 to 9 of the official training split serve as one.
    """

    VERSION = tfds.core.Version("1.0.10")
    fields = classes("digit", "speaker")
    homepage = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    licence = "CC BY-SA 4.0"

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str | None = None,
        manifest: Path | str | None = None,
        verify: bool = True,
        sample_rate: int = 8000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive`, or downloads the release.

        Args:
          manifest: a CSV (filename, split) to check the recordings against.
          verify: refuse recordings that are not exactly those of the release.
        """
        super().__init__(data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file)
        self._archive = archive
        self._manifest = manifest
        self._verify = verify

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        archive = self._archive or download(URL, downloads / "spoken_digit-1.0.10.tar.gz")
        root = archives.unpack(archive, scratch)
        recordings = sorted(
            path for path in root.glob("recordings/*.wav") if _RECORDING.fullmatch(path.name)
        )
        if not recordings:
            raise UserError(f"{archive} has no recordings/DIGIT_SPEAKER_TAKE.wav.")
        clips = [_clip(path) for path in recordings]
        if self._manifest:
            _check_manifest(clips, local_path(self._manifest))
        if self._verify:
            _check_content(recordings, archive)
            self.verified = f"the recordings are those of release {self.VERSION}, by sha256"
        return clips


def official_split(take: int) -> str:
    """Returns the split of a recording by its take number; see `SpokenDigit`."""
    return "test" if take < 5 else "validation" if take < 10 else "train"


def _clip(path: Path) -> Clip:
    digit, speaker, take = path.stem.split("_")
    return Clip(
        name=path.name,
        split=official_split(int(take)),
        labels={"digit": digit, "speaker": speaker},
        read=functools.partial(decode, path, name=path.name),
    )


def _check_content(recordings: Sequence[Path], archive: Path | str) -> None:
    lines = "".join(f"{archives.sha256(path)}  {path.name}\n" for path in recordings)
    if hashlib.sha256(lines.encode()).hexdigest() != CONTENT_SHA256:
        raise UserError(
            f"The checksum of the {len(recordings)} recordings in {archive} is not that of the "
            "3000 of release 1.0.10. To prepare them anyway, pass --noverify."
        )


def _check_manifest(clips: Sequence[Clip], manifest: Path) -> None:
    listed = {row["filename"]: row["split"] for row in read_table(manifest, ("filename", "split"))}
    found = {clip.name: "test" if clip.split == "test" else "train" for clip in clips}
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            raise UserError(
                f"{manifest} and the archive disagree about {name}: "
                f"{listed.get(name, 'absent')} there, {found.get(name, 'absent')} here."
            )
