"""YesNo: 60 recordings of one man. Each has eight words, yes or no in Hebrew (OpenSLR 1)."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.download import download
from gru_audio.data.fields import Field, TextField
from gru_audio.settings import UserError

URL = "https://www.openslr.org/resources/1/waves_yesno.tar.gz"
RECORDINGS = 60
WORDS = {"1": "YES", "0": "NO"}

_RECORDING = re.compile(r"[01](_[01]){7}\.(wav|flac)")
_EVERY = 6  # of the recordings for training, every sixth is for validation


class Yesno(ClipBuilder):
    """YesNo: transcripts of eight words, YES or NO.

    The name of a file is its transcript: 1 is YES, 0 is NO. As in Kaldi's recipe, the first half of
    the names is the training split and the second half is the test split. Every sixth recording of
    the training split is for validation instead. There is one speaker, so results say nothing about
    other voices.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields: Mapping[str, type[Field]] = {"text": TextField}
    homepage = "https://www.openslr.org/1/"

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str | None = None,
        verify: bool = True,
        sample_rate: int = 8000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive` (WAV or FLAC files), or downloads the release.

        Args:
          verify: refuse an archive with another number of recordings.
        """
        super().__init__(data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file)
        self._archive, self._verify = archive, verify

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        archive = self._archive or download(URL, downloads / Path(URL).name)
        root = archives.unpack(archive, scratch)
        found = sorted(path for path in root.rglob("*") if _RECORDING.fullmatch(path.name))
        if not found:
            raise UserError(f"{archive} has no recordings such as 0_1_0_1_1_0_0_1.wav.")
        if self._verify:
            if len({path.stem for path in found}) != RECORDINGS or len(found) != RECORDINGS:
                raise UserError(
                    f"{archive} has {len(found)} recordings, not {RECORDINGS} different ones. To "
                    "prepare it anyway, pass --noverify."
                )
            self.verified = f"{RECORDINGS} different recordings"
        half = len(found) // 2
        return [_clip(path, i, half) for i, path in enumerate(found)]


def _clip(path: Path, place: int, half: int) -> Clip:
    held_out = place % _EVERY == _EVERY - 1
    return Clip(
        name=path.name,
        split="test" if place >= half else "validation" if held_out else "train",
        labels={"text": " ".join(WORDS[digit] for digit in path.stem.split("_"))},
        read=functools.partial(decode, path, name=path.name),
    )
