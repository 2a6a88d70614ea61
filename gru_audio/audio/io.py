"""Sound files to 16-bit mono at one sample rate, and a named reason when a file cannot be used.

libsndfile reads a damaged file as well as it can and says nothing, which trains a model on half a
word, or on a silence that nobody recorded. So every file is checked before it is decoded
(`containers`), must give as many frames as it promises, and an MP3 no more silence than it says.

Sound is decoded and converted block by block: no file, whatever it claims or unpacks to, takes more
memory than a block and the clip that comes out, whose length is limited.
"""

import contextlib
import errno
import io
import math
import os
import stat
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
    NOT_A_FILE,
    SILENT,
    TOO_LONG,
    TRUNCATED,
    UNSUPPORTED,
    Unusable,
)
from gru_audio.audio.containers.mpeg import Silences
from gru_audio.audio.containers.probe import probe
from gru_audio.audio.containers.stream import Stream, joined

LONGEST = 1 << 27  # samples of a clip: 2 hours and 20 minutes at 16 kHz, 256 MiB
ROUNDING = 0.05  # seconds by which the end of a part may exceed its file: one decimal, rounded

_BLOCK = 1 << 20  # values that are decoded at a time, before or after resampling
# Frames before the place to which a codec is set, by format; other formats are read up to it. The
# bits of an MP3's frame may begin in any of the 23 frames before it.
_RUN_UP = {"RAW": 0, "FLAC": 0, "OGG": 0, "MP3": 32 * 1152}


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
    """Reads WAV (also RF64 and W64), AIFF, AU, CAF, NIST SPHERE, FLAC, Ogg and MP3.

    Channels are averaged, the rate is converted by soxr's high-quality filter, and values outside
    [-1, 1) are clipped. A mono 16-bit file at `sample_rate` comes out bit for bit.

    Args:
        source: a path, or the bytes of a file.
        sample_rate: in Hz; None keeps the file's.
        name: what to call the file in errors; by default its path.
        start, end: in seconds; only this part is read. None: to the end of the file. An `end` up
          to `ROUNDING` behind it is the end of the file.
        keep_silence: digital silence is a sound like others.

    Raises:
        BadAudio: the file cannot be used, for one of `containers.REASONS`; one that ends before
          `end` is truncated.
        OSError: the file cannot be read at all.
    """
    name = name or ("<bytes>" if isinstance(source, bytes) else os.fspath(source))
    with _named(name), _opened(source) as file, _Sound(file) as sound:
        first, last = sound.span(start, end)
        sample_rate = sample_rate or sound.rate
        if math.ceil((last - first) * sample_rate / sound.rate) > LONGEST:
            raise Unusable(TOO_LONG)
        blocks = list(convert(sound.blocks(first, last, sample_rate), sound.rate, sample_rate))
        samples = np.concatenate(blocks) if blocks else np.empty(0, np.int16)
        if not len(samples):
            raise Unusable(EMPTY)
        if not (keep_silence or samples.any()):
            raise Unusable(SILENT)
        return Audio(samples, sample_rate, sound.rate)


def duration(path: epath.PathLike) -> float:
    """Seconds that a file lasts, as far as that is known without decoding it.

    Raises:
        BadAudio: the file cannot be used.
        OSError: the file cannot be read at all.
    """
    with _named(os.fspath(path)), _opened(path) as file, _Sound(file) as sound:
        return sound.frames / sound.rate


def decode_blocks(path: epath.PathLike, sample_rate: int) -> Iterator[np.ndarray]:
    """What `decode` gives of a whole file, int16, block by block: for what no memory holds.

    Silence is no error here.

    Raises:
        BadAudio: as `decode`, but a file that breaks off later does so after its good blocks.
        OSError: the file cannot be read at all.
    """
    with _named(os.fspath(path)), _opened(path) as file, _Sound(file) as sound:
        yield from convert(sound.blocks(0, sound.frames, sample_rate), sound.rate, sample_rate)


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


def _int16(mono: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Gives what is unusable the name of its file."""
    try:
        yield
    except Unusable as error:
        raise BadAudio(name, error.reason) from error


def _opened(source: epath.PathLike | bytes) -> BinaryIO:
    """A regular file, or bytes. Opening a pipe, a socket or a device could wait for ever."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path = epath.Path(source)
    if "\0" in str(path):
        raise FileNotFoundError(errno.ENOENT, "no file can have a NUL in its name", str(path))
    if "://" not in str(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise Unusable(NOT_A_FILE)
    return path.open("rb")


class _Sound:
    """A checked file that is being decoded.

    Attributes:
      rate: in Hz.
      frames: how many there are.
    """

    def __init__(self, file: BinaryIO):
        self._stream = probe(file)
        self._joined = joined(file, self._stream.pieces)
        self._sound = _sound_file(self._joined, self._stream)
        self.rate = self._sound.samplerate
        try:
            if (self.rate, self._sound.channels) != (self._stream.rate, self._stream.channels):
                raise Unusable(CONTRADICTORY)
            self.frames = self._stream.count(self._sound.frames)
        except Unusable:
            self._sound.close()
            raise

    def __enter__(self) -> "_Sound":
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()

    def span(self, start: float, end: float | None) -> tuple[int, int]:
        """The first frame of a part in seconds, and the one behind its last."""
        first = round(start * self.rate)
        last = self.frames if end is None else round(end * self.rate)
        if last > self.frames + ROUNDING * self.rate:
            raise Unusable(TRUNCATED)
        last = min(last, self.frames)
        if first >= last:
            raise Unusable(EMPTY)
        return first, last

    def blocks(self, first: int, last: int, sample_rate: int) -> Iterator[np.ndarray]:
        """Frames from `first` to `last` as float32 (frames, channels) in [-1, 1].

        A block is short enough that neither it nor what it becomes at `sample_rate` Hz is large.
        """
        values = max(self._sound.channels, -(-sample_rate // self.rate))
        size = max(1, _BLOCK // values)
        whole = (first, last) == (0, self.frames)
        silences = Silences() if whole and self._sound.format == "MP3" else None
        for block in self._frames(first, last, size):
            if silences:
                silences.heard(block)
            yield block
        if silences and silences.unexplained(self._joined):
            raise Unusable(DAMAGED)

    def _frames(self, first: int, last: int, size: int) -> Iterator[np.ndarray]:
        at = 0
        try:
            if first and self._sound.format in _RUN_UP:
                at = self._sound.seek(max(0, first - _RUN_UP[self._sound.format]))
            while at < last:
                count = min(size, (first if at < first else last) - at)
                block = self._sound.read(count, dtype="float32", always_2d=True)
                if len(block) < count:
                    raise Unusable(TRUNCATED)
                if at >= first:
                    yield block
                at += count
        except soundfile.LibsndfileError as error:  # a good header, then a broken stream
            raise Unusable(TRUNCATED) from error


class _Forward(soundfile.SoundFile):
    """Reads on from block to block.

    soundfile seeks to the end of each block it has read, at which some codecs lose the bits that
    the next frames begin in, and others fail.
    """

    def seekable(self) -> bool:
        return False


def _sound_file(file: BinaryIO, stream: Stream) -> soundfile.SoundFile:
    headerless = {}
    if stream.raw:
        subtype, order = stream.raw
        headerless = {
            **{"format": "RAW", "subtype": subtype, "endian": order},
            **{"samplerate": stream.rate, "channels": stream.channels},
        }
    try:
        return _Forward(file, **headerless)
    except soundfile.LibsndfileError as error:
        raise Unusable(UNSUPPORTED) from error
