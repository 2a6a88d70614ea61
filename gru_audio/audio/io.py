"""Sound files to 16-bit mono at one sample rate, and a named reason when a file cannot be used.

libsndfile reads a cut-off file up to where it ends and says nothing, which trains a model on half
a word. So what a container promises is checked against what there is: the length in the header of
WAV, AIFF and FLAC, the end-of-stream page of Ogg, the Xing header of MP3. (An MP3 without that
header promises nothing: a cut-off one gives what it has, one of varying bit rate what libsndfile
makes of its first frames.)
"""

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from etils import epath

TRUNCATED = "truncated"
EMPTY = "empty"
SILENT = "silent"
NON_FINITE = "non-finite"
NOT_AUDIO = "not audio"

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a program that writes WAV to a pipe leaves in the header
_BLOCK = 1 << 20  # frames
_OGG_PAGE_MAX = 27 + 255 + 255 * 255  # bytes: header, segment table, segments
_OGG_END_OF_STREAM = 4


@dataclass(frozen=True)
class Audio:
    """A mono recording: `samples` int16 (n,), at `sample_rate` Hz; its file had `file_rate` Hz."""

    samples: np.ndarray
    sample_rate: int
    file_rate: int


class BadAudio(ValueError):
    """A file that cannot be used; `reason` is one of the names at the top of this module."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self):
        return BadAudio, (self.path, self.reason)


def decode(
    source: epath.PathLike | bytes,
    sample_rate: int | None,
    *,
    name: str = "",
    start: float = 0.0,
    end: float | None = None,
) -> Audio:
    """Reads WAV, FLAC, Ogg, MP3 and whatever else libsndfile knows.

    Channels are averaged, the rate is converted by soxr's high-quality filter, and values outside
    [-1, 1) are clipped. A mono 16-bit file at `sample_rate` comes out bit for bit.

    Args:
        source: a path, or the bytes of a file.
        sample_rate: in Hz; None keeps the file's.
        name: what to call the file in errors; by default its path.
        start, end: in seconds; only this part is read. None: to the end of the file.

    Raises:
        BadAudio: truncated (or ends before `end`), empty, silent, non-finite, or not audio.
        OSError: the file cannot be read at all.
    """
    if isinstance(source, bytes):
        name, file = name or "<bytes>", io.BytesIO(source)
    else:
        name, file = name or os.fspath(source), epath.Path(source).open("rb")
    with file:
        try:
            waveform, file_rate = _read(file, start, end)
        except _Unusable as error:
            raise BadAudio(name, error.reason) from error
    return _finish(name, waveform, file_rate, sample_rate or file_rate)


class _Unusable(Exception):
    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def _read(file: BinaryIO, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """Float32 (frames, channels) in [-1, 1], and its rate."""
    _check_container(file)
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a file named *.raw
        raise _Unusable(NOT_AUDIO) from error
    with sound:
        rate = sound.samplerate
        first = round(start * rate)
        last = sound.frames if end is None else round(end * rate)
        if last > sound.frames:
            raise _Unusable(TRUNCATED)
        if first >= last:
            raise _Unusable(EMPTY)
        try:
            sound.seek(first)
            waveform = _frames(sound, last - first)
        except soundfile.LibsndfileError as error:  # a good header, then a broken stream
            raise _Unusable(TRUNCATED) from error
    if len(waveform) < last - first:
        raise _Unusable(TRUNCATED)
    return waveform, rate


def _frames(sound: soundfile.SoundFile, count: int) -> np.ndarray:
    """The next `count` frames or as many as there are: a header may promise the moon."""
    blocks = [np.empty((0, sound.channels), np.float32)]
    while count > 0:
        block = sound.read(min(count, _BLOCK), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block)
        count -= len(block)
    return np.concatenate(blocks)


def _finish(name: str, waveform: np.ndarray, file_rate: int, sample_rate: int) -> Audio:
    if not np.isfinite(waveform).all():
        raise BadAudio(name, NON_FINITE)
    mono = waveform.mean(axis=1)
    if sample_rate != file_rate:
        mono = soxr.resample(mono, file_rate, sample_rate)
    samples = np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)
    if not len(samples):
        raise BadAudio(name, EMPTY)
    if not samples.any():
        raise BadAudio(name, SILENT)
    return Audio(samples, sample_rate, file_rate)


def _check_container(file: BinaryIO) -> None:
    """Raises `_Unusable` when a container promises more than the file holds."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise _Unusable(EMPTY)
    file.seek(0)
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RIFX"):
        _check_chunks(file, size, b"data", "little" if magic[:4] == b"RIFF" else "big")
    elif magic[:4] == b"FORM":
        _check_chunks(file, size, b"SSND", "big")
    elif magic[:4] == b"OggS":
        _check_ogg(file, size)


def _check_chunks(file: BinaryIO, size: int, wanted: bytes, order: str) -> None:
    """Walks the chunks of a RIFF (WAV) or IFF (AIFF) file to the one with the samples."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], order)  # type: ignore[arg-type]
        if header[:4] == wanted:
            if position + 8 + length > size and length not in _UNKNOWN_SIZES:
                raise _Unusable(TRUNCATED)
            return
        position += 8 + length + length % 2
    raise _Unusable(TRUNCATED)


def _check_ogg(file: BinaryIO, size: int) -> None:
    """The last page must be whole and say that it is the last."""
    start = max(0, size - _OGG_PAGE_MAX)
    file.seek(start)
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(segments)
    if not whole or not page[5] & _OGG_END_OF_STREAM:
        raise _Unusable(TRUNCATED)
