"""Which bytes of a file are its sound, and how much sound that is."""

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO

from gru_audio.audio.containers import CONTRADICTORY, EMPTY, TRUNCATED, Unusable
from gru_audio.audio.containers.tags import without_tags

Piece = bytes | tuple[int, int]  # new bytes, or the first and the end of a range of the file

# Programs that write to a pipe cannot go back to fill in a size. They leave 0, or about the largest
# number that a field has: sox 0x7F000000 (AIFF) and 0x7FFFF000, arecord 0x80000000, others
# 0xFFFFFFFF, some of them less the header.
_LEFT_OPEN = (
    range(0x7EFFF000, 0x7F001001),
    range(0x7FFFE000, 0x80001001),
    range(0xFFFFE000, 0x100000000),
    range(0x7FFFFFFFFFFFE000, 0x8000000000001001),
    range(0xFFFFFFFFFFFFE000, 0x10000000000000000),
)
_PADDING = 4097  # bytes: zeros up to a page of a disk
_BUFFER = 1 << 20  # bytes
MOST_CHUNKS = 10_000  # of one file

ChunkEnd = Callable[[BinaryIO, int], int | None]  # of a file and a place: None if no chunk is there


@dataclass(frozen=True)
class Stream:
    """What libsndfile is given, and what must come out.

    Attributes:
      pieces: joined, they are the bytes to decode.
      rate: in Hz.
      channels: how many.
      frames: how many there may be; None: as many as libsndfile counts in these bytes.
      padding: how many more libsndfile may count, which are none.
      raw: subtype and byte order of samples without a header; None: the pieces have a header.
    """

    pieces: tuple[Piece, ...]
    rate: int
    channels: int
    frames: range | None
    padding: int = 0
    raw: tuple[str, str] | None = None

    def count(self, counted: int) -> int:
        """Frames to decode, of as many as libsndfile counts.

        Raises:
          Unusable: it counts others than the file says.
        """
        if self.frames is None:
            return counted
        if counted < self.frames.start:
            raise Unusable(TRUNCATED)
        if counted >= self.frames.stop + self.padding:
            raise Unusable(CONTRADICTORY)
        return min(counted, self.frames[-1])


def shifted(stream: Stream, by: int) -> Stream:
    """The stream of a file that begins so many bytes later."""
    pieces = tuple(p if isinstance(p, bytes) else (p[0] + by, p[1] + by) for p in stream.pieces)
    return replace(stream, pieces=pieces)


def exactly(frames: int) -> range:
    """The range of this number alone."""
    return range(frames, frames + 1)


def joined(file: BinaryIO, pieces: Iterable[Piece]) -> BinaryIO:
    """Pieces of a file as one file; closing it leaves the file open."""
    return io.BufferedReader(_Joined(file, pieces))


class _Joined(io.RawIOBase):
    def __init__(self, file: BinaryIO, pieces: Iterable[Piece]):
        self._file, self._at = file, 0
        self._pieces: list[tuple[int, int, Piece]] = []  # first, end, piece
        self._end = 0
        for piece in pieces:
            length = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            self._pieces.append((self._end, self._end + length, piece))
            self._end += length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        for first, end, piece in self._pieces:
            if not first <= self._at < end or done == len(view):
                continue
            count = min(end - self._at, len(view) - done)
            data = _part(self._file, piece, self._at - first, count)
            view[done : done + len(data)] = data
            done += len(data)
            self._at += len(data)
            if len(data) < count:
                break
        return done


def _part(file: BinaryIO, piece: Piece, offset: int, count: int) -> bytes:
    if isinstance(piece, bytes):
        return piece[offset : offset + count]
    return read_at(file, piece[0] + offset, count)


def read_at(file: BinaryIO, position: int, count: int) -> bytes:
    """At most `count` bytes from `position`: fewer where the file ends."""
    file.seek(position)
    return file.read(count)


def file_size(file: BinaryIO) -> int:
    """In bytes."""
    return file.seek(0, os.SEEK_END)


def pcm(
    begin: int, end: int, *, rate: int, channels: int, subtype: str, order: str = "LITTLE"
) -> Stream:
    """Uncompressed samples between two places of the file: as many as there are bytes for.

    Args:
      begin, end: in bytes.
      rate: in Hz.
      channels: how many.
      subtype: a key of `SAMPLE_BYTES`.
      order: of their bytes: "LITTLE" or "BIG".

    Raises:
      Unusable: there are none.
    """
    block = channels * SAMPLE_BYTES[subtype]
    frames = (end - begin) // block
    if frames <= 0:
        raise Unusable(EMPTY)
    pieces = ((begin, begin + frames * block),)
    return Stream(pieces, rate, channels, exactly(frames), raw=(subtype, order))


SAMPLE_BYTES = {
    **{"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2},
    **{"PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}


def end_of_samples(
    file: BinaryIO, begin: int, length: int | None, *, unit: int, chunks: ChunkEnd | None = None
) -> int:
    """Where samples end that begin at `begin` and are said to have `length` bytes.

    Args:
      file: the file.
      begin: a place in it.
      length: what the header says; None: nobody knew when it was written.
      unit: bytes of a frame.
      chunks: finds the end of a chunk, where chunks may follow the samples.

    Raises:
      Unusable: there are fewer bytes than the header says, or more than it explains.
    """
    size = file_size(file)
    if length == 0 and begin < size and _unexplained(file, begin, size, chunks):
        length = None
    if length is not None and begin + length > size:
        if not any(length in sizes for sizes in _LEFT_OPEN):
            raise Unusable(TRUNCATED)
        length = None
    if length is None:
        return without_tags(file, begin, size)[1]
    if size - (begin + length) >= unit and (
        reason := _unexplained(file, begin + length, size, chunks)
    ):
        raise Unusable(reason)
    return begin + length


def is_zero(file: BinaryIO, at: int, end: int) -> bool:
    """Whether a range of a file holds zeros alone."""
    steps = range(at, end, _BUFFER)
    return not any(read_at(file, step, min(_BUFFER, end - step)).strip(b"\0") for step in steps)


def _unexplained(file: BinaryIO, at: int, end: int, chunks: ChunkEnd | None) -> str | None:
    """Why a range behind the samples holds other than chunks, tags and a little padding."""
    at, end = without_tags(file, at, end)
    for _ in range(MOST_CHUNKS):
        if at >= end:
            return None
        if end - at < _PADDING and is_zero(file, at, end):
            return None
        behind = chunks(file, at) if chunks else None
        if behind is None:
            return CONTRADICTORY
        if behind > end:
            return TRUNCATED
        at = behind
    return CONTRADICTORY
