"""Decoding of sound files to 16-bit mono at one sample rate, with a reason if a file is unusable.

libsndfile decodes a damaged file as far as it can and reports no error. A model would then train on
half a word, or on silence that nobody recorded. So every file is checked before it is decoded
(`containers`). The decoder must return as many frames as the file states, and no more silence than
the frames of an MP3 state.

Sound is decoded and converted block by block. So every file, whatever it states or decompresses to,
needs only the memory of one block and of the resulting clip, whose length is limited.
"""

import contextlib
import errno
import io
import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
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
    Stream,
    Unusable,
    joined,
    probe,
)
from gru_audio.audio.containers.mpeg import Silences
from gru_audio.settings import UserError

LONGEST = 1 << 27  # samples of a clip: 2 hours and 20 minutes at 16 kHz, 256 MiB
ROUNDING = 0.05  # seconds; the end of a part may exceed the file by one rounded decimal

_BLOCK = 1 << 20  # values that are decoded at a time, before or after resampling
# To read from the middle of a file, decoding starts this many frames earlier. Other formats are
# decoded from the start. The data of an MP3 frame may begin in any of the 23 frames before it.
_RUN_UP = {"RAW": 0, "FLAC": 0, "OGG": 0, "MP3": 32 * 1152}
_USER_RATES = range(400, 1_000_001)  # Hz; a user who states a lower number probably means kHz


@dataclass(frozen=True)
class Audio:
    """A mono recording.

    Attributes:
      samples: int16 (n,).
      sample_rate: of the samples, in Hz.
      file_rate: of the file before resampling, in Hz.
    """

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
    """Decodes WAV (also RF64 and W64), AIFF, AU, CAF, NIST SPHERE, FLAC, Ogg and MP3.

    Channels are averaged, soxr's high-quality filter converts the rate, and values outside [-1, 1)
    are clipped. The samples of a mono 16-bit file at `sample_rate` are returned unchanged.

    Args:
        source: a path, or the bytes of a file.
        sample_rate: in Hz; None: that of the file.
        name: the name of the file in errors; by default its path.
        start, end: the part to decode, in seconds; None: to the end of the file. An `end` up to
          `ROUNDING` seconds after the end of the file means the end of the file.
        keep_silence: accept a part that is entirely digital silence.

    Raises:
        BadAudio: the file cannot be used, for one of `containers.REASONS`. A file that ends before
          `end` is truncated.
        OSError: the file cannot be read.
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
    """Returns the duration of a file in seconds, without decoding it.

    Raises:
        BadAudio: the file cannot be used.
        OSError: the file cannot be read.
    """
    with _named(os.fspath(path)), _opened(path) as file, _Sound(file) as sound:
        return sound.frames / sound.rate


def decode_blocks(path: epath.PathLike, sample_rate: int) -> Iterator[np.ndarray]:
    """Yields the samples of a whole file, int16 (n,), in blocks; for files larger than memory.

    The concatenated blocks equal the result of `decode`. Digital silence is accepted.

    Raises:
        BadAudio: as `decode`, but the blocks before the damage are returned first.
        OSError: the file cannot be read.
    """
    with _named(os.fspath(path)), _opened(path) as file, _Sound(file) as sound:
        yield from convert(sound.blocks(0, sound.frames, sample_rate), sound.rate, sample_rate)


def convert(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Converts consecutive float32 blocks (frames, channels) to int16 mono (n,).

    The resampling filter keeps its state between blocks. So the result does not depend on the
    borders of the blocks.

    Args:
        blocks: values in [-1, 1).
        rate: of the blocks, in Hz.
        sample_rate: of the result, in Hz.

    Raises:
        Unusable: a value is not finite.
    """
    resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
    for block in blocks:
        with np.errstate(over="ignore", invalid="ignore"):
            mono = _finite(block.mean(axis=1))
        yield _int16(resampler.resample_chunk(mono) if resampler else mono)
    if resampler:
        yield _int16(resampler.resample_chunk(np.empty(0, np.float32), last=True))


def _int16(mono: np.ndarray) -> np.ndarray:
    clipped = np.clip(_finite(mono), -1, 1)  # avoids overflow in the product
    return np.clip(np.rint(clipped * 32768), -32768, 32767).astype(np.int16)


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise Unusable(NON_FINITE)
    return values


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Converts `Unusable` to `BadAudio` with the name of the file."""
    try:
        yield
    except Unusable as error:
        raise BadAudio(name, error.reason) from error


def _opened(source: epath.PathLike | bytes) -> BinaryIO:
    """Opens a regular file or bytes. Opening a pipe, a socket or a device could block forever."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path = epath.Path(source)
    if "\0" in str(path):
        raise FileNotFoundError(errno.ENOENT, "a file name cannot contain NUL", str(path))
    if "://" not in str(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise Unusable(NOT_A_FILE)
    return path.open("rb")


class _Sound:
    """A checked file that is open for decoding.

    Attributes:
      rate: in Hz.
      frames: number of frames.
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
        """Converts a part in seconds to its first frame and the end of its frames."""
        first = round(start * self.rate)
        last = self.frames if end is None else round(end * self.rate)
        if last > self.frames + ROUNDING * self.rate:
            raise Unusable(TRUNCATED)
        last = min(last, self.frames)
        if first >= last:
            raise Unusable(EMPTY)
        return first, last

    def blocks(self, first: int, last: int, sample_rate: int) -> Iterator[np.ndarray]:
        """Yields the frames [first, last) as float32 (frames, channels) in [-1, 1].

        The size of a block is limited, also after resampling to `sample_rate` Hz.
        """
        values = max(self._sound.channels, -(-sample_rate // self.rate))
        size = max(1, _BLOCK // values)
        whole = (first, last) == (0, self.frames)
        silences = Silences() if whole and self._sound.format == "MP3" else None
        for block in self._frames(first, last, size):
            if silences:
                silences.add(block)
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
        except soundfile.LibsndfileError as error:  # the header is valid, the data is not
            raise Unusable(TRUNCATED) from error


class _Sequential(soundfile.SoundFile):
    """A sound file that is read without seeking between blocks.

    soundfile seeks to the end of each block after reading it. Some codecs then lose the bits in
    which the next frames begin, and others fail.
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
        return _Sequential(file, **headerless)
    except soundfile.LibsndfileError as error:
        raise Unusable(UNSUPPORTED) from error


def sound_files(folder: Path) -> list[Path]:
    """Returns all files in a folder and its subfolders, unsorted; follows links.

    Files and folders whose name begins with a dot are skipped, among them those that macOS adds.
    File name extensions do not matter: `decode` refuses files that are not audio.
    """
    paths, visited = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link to a folder that contains it
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(place, name) for name in files if not name.startswith(".")]
    return paths


def check_rate(rate: float) -> None:
    """Checks a sample rate that a user states.

    Raises:
      UserError: it is not a whole number of Hz in the allowed range, for example because it is in
        kHz.
    """
    if _is_allowed(rate):
        return
    in_hz = round(1000 * rate, 3)
    lowest, highest = _USER_RATES[0], _USER_RATES[-1]
    hint = f" Did you mean {in_hz:.0f}?" if rate < lowest and _is_allowed(in_hz) else ""
    raise UserError(
        f"A sample rate is a whole number of Hz from {lowest} to {highest}, not {rate:g}.{hint}"
    )


def _is_allowed(rate: float) -> bool:
    return _USER_RATES[0] <= rate <= _USER_RATES[-1] and rate == int(rate)
