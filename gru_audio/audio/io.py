"""Sound files to 16-bit mono at one sample rate, and a named reason when a file cannot be used.

libsndfile reads a damaged file as well as it can and says nothing, which trains a model on half a
word, or on a silence that nobody recorded. So every file is checked before it is decoded
(`containers`) and, where an MP3 falls silent, after (`mp3`).
"""

import io
import os
from collections.abc import Iterable, Iterator
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
    keep_silence: bool = False,
) -> Audio:
    """Reads WAV, FLAC, Ogg, MP3 and whatever else libsndfile knows.

    Channels are averaged, the rate is converted by soxr's high-quality filter, and values outside
    [-1, 1) are clipped. A mono 16-bit file at `sample_rate` comes out bit for bit.

    Args:
        source: a path, or the bytes of a file.
        sample_rate: in Hz; None keeps the file's.
        name: what to call the file in errors; by default its path.
        start, end: in seconds; only this part is read. None: to the end of the file.
        keep_silence: digital silence is a sound like others.

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
    return _finish(name, waveform, file_rate, sample_rate or file_rate, keep_silence)


def duration(path: epath.PathLike) -> float:
    """Seconds that a file lasts, as its header tells.

    Raises:
        BadAudio: the header cannot be used.
        OSError: the file cannot be read at all.
    """
    with epath.Path(path).open("rb") as file:
        try:
            with _open(file) as sound:
                return sound.frames / sound.samplerate
        except Unusable as error:
            raise BadAudio(os.fspath(path), error.reason) from error


def decode_blocks(path: epath.PathLike, sample_rate: int) -> Iterator[np.ndarray]:
    """What `decode` gives of a whole file, int16, block by block: for what no memory holds.

    Silence is no error here, and an MP3 is not searched for damage.

    Raises:
        BadAudio: as `decode`, but a file that breaks off later does so after its good blocks.
        OSError: the file cannot be read at all.
    """
    with epath.Path(path).open("rb") as file:
        try:
            with _open(file) as sound:
                yield from convert(_blocks(sound, sound.frames), sound.samplerate, sample_rate)
        except Unusable as error:
            raise BadAudio(os.fspath(path), error.reason) from error


def convert(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Consecutive float32 blocks (frames, channels) at `rate` Hz to int16 mono at `sample_rate`.

    The filter goes on across the borders: joined, the blocks are what `decode` makes of the whole.

    Raises:
        Unusable: there are values that are not finite.
    """
    resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
    for block in blocks:
        if not np.isfinite(block).all():
            raise Unusable(NON_FINITE)
        mono = block.mean(axis=1)
        yield _int16(resampler.resample_chunk(mono) if resampler else mono)
    if resampler:
        yield _int16(resampler.resample_chunk(np.empty(0, np.float32), last=True))


def _open(file: BinaryIO) -> soundfile.SoundFile:
    check_container(file)
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a file named *.raw
        raise Unusable(NOT_AUDIO) from error
    if sound.samplerate not in _RATES:
        sound.close()
        raise Unusable(CONTRADICTORY)
    return sound


def _read(file: BinaryIO, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """Float32 (frames, channels) in [-1, 1], and its rate."""
    with _open(file) as sound:
        rate = sound.samplerate
        first = round(start * rate)
        last = sound.frames if end is None else round(end * rate)
        if last > sound.frames:
            raise Unusable(TRUNCATED)
        if first >= last:
            raise Unusable(EMPTY)
        try:
            sound.seek(first)
        except soundfile.LibsndfileError as error:
            raise Unusable(TRUNCATED) from error
        waveform = np.concatenate(list(_blocks(sound, last - first)))
    if sound.format == "MP3" and len(waveform) == sound.frames:  # of a part one cannot tell
        file.seek(0)
        if has_unexplained_silence(file.read(), waveform):
            raise Unusable(DAMAGED)
    return waveform, rate


def _blocks(sound: soundfile.SoundFile, count: int) -> Iterator[np.ndarray]:
    """The next `count` frames, as long as there are any: a header may promise the moon."""
    while count > 0:
        try:
            block = sound.read(min(count, _BLOCK), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:  # a good header, then a broken stream
            raise Unusable(TRUNCATED) from error
        if not len(block):
            raise Unusable(TRUNCATED)
        yield block
        count -= len(block)


def _finish(
    name: str, waveform: np.ndarray, file_rate: int, sample_rate: int, keep_silence: bool
) -> Audio:
    if not np.isfinite(waveform).all():
        raise BadAudio(name, NON_FINITE)
    mono = waveform.mean(axis=1)
    if sample_rate != file_rate:
        mono = soxr.resample(mono, file_rate, sample_rate)
    samples = _int16(mono)
    if not len(samples):
        raise BadAudio(name, EMPTY)
    if not (keep_silence or samples.any()):
        raise BadAudio(name, SILENT)
    return Audio(samples, sample_rate, file_rate)


def _int16(mono: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)
