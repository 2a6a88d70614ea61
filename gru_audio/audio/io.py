"""Sound files to 16-bit mono at one sample rate, and a named reason when a file cannot be used.

libsndfile reads a damaged file as well as it can and says nothing, which trains a model on half a
word, or on a silence that nobody recorded. So every file is checked before it is decoded
(`containers`) and, where an MP3 falls silent, after (`mp3`).
"""

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from etils import epath

from gru_audio.audio.containers import (
    CONTRADICTORY,
    DAMAGED,
    EMPTY,
    NON_FINITE,
    NOT_AUDIO,
    SILENT,
    TRUNCATED,
    Unusable,
    check_container,
)
from gru_audio.audio.mp3 import has_unexplained_silence

_RATES = range(100, 1_000_001)  # Hz; what resampling makes of others would fill the memory
_BLOCK = 1 << 20  # frames


@dataclass(frozen=True)
class Audio:
    """A mono recording: `samples` int16 (n,), at `sample_rate` Hz; its file had `file_rate` Hz."""

    samples: np.ndarray
    sample_rate: int
    file_rate: int


class BadAudio(ValueError):
    """A file that cannot be used; `reason` is one of the names in `containers`."""

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
        BadAudio: truncated (or ends before `end`), empty, silent, non-finite, damaged, with a
          contradictory header, or not audio.
        OSError: the file cannot be read at all.
    """
    if isinstance(source, bytes):
        name, file = name or "<bytes>", io.BytesIO(source)
    else:
        name, file = name or os.fspath(source), epath.Path(source).open("rb")
    with file:
        try:
            waveform, file_rate = _read(file, start, end)
        except Unusable as error:
            raise BadAudio(name, error.reason) from error
    return _finish(name, waveform, file_rate, sample_rate or file_rate)


def _read(file: BinaryIO, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """Float32 (frames, channels) in [-1, 1], and its rate."""
    check_container(file)
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a file named *.raw
        raise Unusable(NOT_AUDIO) from error
    with sound:
        rate = sound.samplerate
        if rate not in _RATES:
            raise Unusable(CONTRADICTORY)
        first = round(start * rate)
        last = sound.frames if end is None else round(end * rate)
        if last > sound.frames:
            raise Unusable(TRUNCATED)
        if first >= last:
            raise Unusable(EMPTY)
        try:
            sound.seek(first)
            waveform = _frames(sound, last - first)
        except soundfile.LibsndfileError as error:  # a good header, then a broken stream
            raise Unusable(TRUNCATED) from error
    if len(waveform) < last - first:
        raise Unusable(TRUNCATED)
    if sound.format == "MP3" and len(waveform) == sound.frames:  # of a part one cannot tell
        file.seek(0)
        if has_unexplained_silence(file.read(), waveform):
            raise Unusable(DAMAGED)
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
