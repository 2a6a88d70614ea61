"""What the parsers of sound files share: reasons to refuse, access to bytes, tags, and chunks.

The result of a parser is a `Stream`: the bytes that libsndfile must decode, and the number of
frames that must come out.
"""

import io
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal, NamedTuple

TRUNCATED = "truncated"
EMPTY = "empty"
CONTRADICTORY = "contradictory header"
DAMAGED = "damaged"
SILENT = "silent"
NON_FINITE = "non-finite"
NOT_AUDIO = "not audio"
NOT_A_FILE = "not a regular file"
SEVERAL = "several streams in one file"
UNSUPPORTED = "unsupported format: convert it to WAV or FLAC"
TOO_LONG = "too long for one clip: cut it, or list its parts with start and end in a manifest"

REASONS = (
    *(TRUNCATED, EMPTY, CONTRADICTORY, DAMAGED, SILENT, NON_FINITE, NOT_AUDIO),
    *(NOT_A_FILE, SEVERAL, UNSUPPORTED, TOO_LONG),
)

RATES = range(100, 1_000_001)  # Hz; resampling from other rates could need too much memory
CHANNELS = range(1, 1025)  # libsndfile's limit
MOST_CHUNKS = 10_000  # per file
MOST_TAGS = 100  # per file
SAMPLE_BYTES = {
    **{"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2},
    **{"PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}

Order = Literal["little", "big"]  # byte order
Piece = bytes | tuple[int, int]  # new bytes, or a range of the file: begin and end

_PADDING = 4097  # bytes; files may be padded with zeros to a disk page
_BUFFER = 1 << 20  # bytes
# A program that writes to a pipe cannot go back and write the length. It leaves 0, or about the
# largest value of the field: sox 0x7F000000 (AIFF) and 0x7FFFF000, arecord 0x80000000, others
# 0xFFFFFFFF. Some subtract the size of the header.
_UNKNOWN_LENGTHS = (
    range(0x7EFFF000, 0x7F001001),
    range(0x7FFFE000, 0x80001001),
    range(0xFFFFE000, 0x100000000),
    range(0x7FFFFFFFFFFFE000, 0x8000000000001001),
    range(0xFFFFFFFFFFFFE000, 0x10000000000000000),
)


class Unusable(Exception):
    """A file that cannot be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def check_rate_and_channels(rate: float, channels: int) -> None:
    """Raises `Unusable` if the rate in Hz or the number of channels is out of range."""
    if not RATES[0] <= rate <= RATES[-1] or channels not in CHANNELS:
        raise Unusable(CONTRADICTORY)


@dataclass(frozen=True)
class Stream:
    """The input for libsndfile, and the expected output.

    Attributes:
      pieces: their concatenation is what libsndfile decodes.
      rate: in Hz.
      channels: number of channels.
      frames: allowed numbers of frames.
      padding: libsndfile may count up to this many additional frames, which are dropped.
      raw: subtype and byte order of samples without a header; None: the pieces have a header.
    """

    pieces: tuple[Piece, ...]
    rate: int
    channels: int
    frames: range
    padding: int = 0
    raw: tuple[str, str] | None = None

    def count(self, counted: int) -> int:
        """Returns the number of frames to decode, if libsndfile counts `counted`.

        Raises:
          Unusable: the count contradicts the file's own length.
        """
        if counted < self.frames.start:
            raise Unusable(TRUNCATED)
        if counted >= self.frames.stop + self.padding:
            raise Unusable(CONTRADICTORY)
        return min(counted, self.frames[-1])


def shifted(stream: Stream, by: int) -> Stream:
    """Returns the stream with all ranges moved by `by` bytes."""
    pieces = tuple(p if isinstance(p, bytes) else (p[0] + by, p[1] + by) for p in stream.pieces)
    return replace(stream, pieces=pieces)


def exactly(frames: int) -> range:
    """Returns the range that contains only this number."""
    return range(frames, frames + 1)


def pcm(
    begin: int, end: int, *, rate: int, channels: int, subtype: str, order: str = "LITTLE"
) -> Stream:
    """Returns the stream of uncompressed samples between two byte positions.

    Args:
      begin, end: in bytes; an incomplete frame at the end is dropped.
      rate: in Hz.
      channels: number of channels.
      subtype: a key of `SAMPLE_BYTES`.
      order: byte order, "LITTLE" or "BIG".

    Raises:
      Unusable: there is no complete frame.
    """
    block = channels * SAMPLE_BYTES[subtype]
    frames = (end - begin) // block
    if frames <= 0:
        raise Unusable(EMPTY)
    pieces = ((begin, begin + frames * block),)
    return Stream(pieces, rate, channels, exactly(frames), raw=(subtype, order))


def joined(file: BinaryIO, pieces: Iterable[Piece]) -> BinaryIO:
    """Returns the concatenated pieces as a file. Closing it does not close `file`."""
    return io.BufferedReader(_Joined(file, pieces))


class _Joined(io.RawIOBase):
    def __init__(self, file: BinaryIO, pieces: Iterable[Piece]):
        self._file, self._at = file, 0
        self._pieces: list[tuple[int, int, Piece]] = []  # begin, end, piece
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
        for begin, end, piece in self._pieces:
            if not begin <= self._at < end or done == len(view):
                continue
            count = min(end - self._at, len(view) - done)
            data = _part(self._file, piece, self._at - begin, count)
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
    """Reads at most `count` bytes from `position`; fewer at the end of the file."""
    file.seek(position)
    return file.read(count)


def file_size(file: BinaryIO) -> int:
    """Returns the size of a file in bytes."""
    return file.seek(0, os.SEEK_END)


def is_zero(file: BinaryIO, at: int, end: int) -> bool:
    """Returns whether all bytes of a range are zero."""
    steps = range(at, end, _BUFFER)
    return not any(read_at(file, step, min(_BUFFER, end - step)).strip(b"\0") for step in steps)


class Chunk(NamedTuple):
    """A chunk of a file: its content begins at byte `begin`, the next chunk at `next`."""

    name: bytes
    begin: int
    length: int
    next: int


def is_chunk_name(name: bytes) -> bool:
    """Returns whether all bytes are printable ASCII."""
    return all(0x20 <= byte < 0x7F for byte in name)


def riff_chunk(order: Order, file: BinaryIO, at: int) -> Chunk | None:
    """Reads the header of a RIFF or IFF chunk; None: there is no chunk at this position."""
    header = read_at(file, at, 8)
    if len(header) < 8 or not is_chunk_name(header[:4]):
        return None
    length = int.from_bytes(header[4:], order)
    return Chunk(header[:4], at + 8, length, at + 8 + length + length % 2)


ChunkReader = Callable[[BinaryIO, int], Chunk | None]
ChunkEnd = Callable[[BinaryIO, int], int | None]  # end of the chunk at a position; None: no chunk


def chunk_end(
    read: ChunkReader, file: BinaryIO, positions: Iterable[int], refused: Iterable[bytes]
) -> int | None:
    """Returns the end of the chunk at the first of some positions; None: there is none.

    Args:
      read: reads a chunk at a position.
      file: the file.
      positions: positions at which the chunk may begin.
      refused: names of chunks that must not follow the samples.
    """
    for position in positions:
        chunk = read(file, position)
        if chunk and chunk.name not in refused:
            end = chunk.begin + chunk.length
            return chunk.next if end < file_size(file) else end  # the last may lack its padding
    return None


def end_of_samples(
    file: BinaryIO, begin: int, length: int | None, *, unit: int, chunks: ChunkEnd | None = None
) -> int:
    """Returns the position at which samples end.

    Args:
      file: the file.
      begin: position of the first sample.
      length: bytes of samples according to the header; None: the header does not say.
      unit: bytes of a frame.
      chunks: finds the end of a chunk, if chunks may follow the samples.

    Raises:
      Unusable: there are fewer bytes than the header says, or bytes that it does not explain.
    """
    size = file_size(file)
    if length == 0 and begin < size and _unexplained(file, begin, size, chunks):
        length = None
    if length is not None and begin + length > size:
        if not any(length in lengths for lengths in _UNKNOWN_LENGTHS):
            raise Unusable(TRUNCATED)
        length = None
    if length is None:
        return without_tags(file, begin, size)[1]
    if size - (begin + length) >= unit and (
        reason := _unexplained(file, begin + length, size, chunks)
    ):
        raise Unusable(reason)
    return begin + length


def _unexplained(file: BinaryIO, at: int, end: int, chunks: ChunkEnd | None) -> str | None:
    """Returns a reason if a range has other content than chunks, tags and short padding."""
    at, end = without_tags(file, at, end)
    for _ in range(MOST_CHUNKS):
        if at >= end:
            return None
        if end - at < _PADDING and is_zero(file, at, end):
            return None
        following = chunks(file, at) if chunks else None
        if following is None:
            return CONTRADICTORY
        if following > end:
            return TRUNCATED
        at = following
    return CONTRADICTORY


# Tags before and after the sound: names, lyrics and pictures, which any program may add.
_ID3V1, _ID3V1_EXTENDED = 128, 227  # bytes
_ID3V2_HEADER = 10
_APE_FOOTER = 32
_APE_HAS_HEADER, _APE_IS_HEADER = 1 << 31, 1 << 29  # flags
_LONGEST_LYRICS = 1 << 20  # bytes


def without_tags(file: BinaryIO, begin: int, end: int) -> tuple[int, int]:
    """Returns a range of a file without the tags at its beginning and its end.

    Raises:
      Unusable: a tag at the beginning is longer than the range, or there are too many tags.
    """
    for _ in range(MOST_TAGS):
        first = tag_length(file, begin, end)
        if begin + first > end:
            raise Unusable(TRUNCATED)
        begin += first
        last = _last_tag_length(file, begin, end)
        if last > end - begin:
            last = 0
        end -= last
        if not (first or last):
            return begin, end
    raise Unusable(DAMAGED)


def tag_length(file: BinaryIO, at: int, end: int) -> int:
    """Returns the bytes of the tag that begins at a position; 0: there is none."""
    head = read_at(file, at, _APE_FOOTER)
    if head[:3] == b"ID3" and len(head) >= _ID3V2_HEADER and head[3] < 0xFF:
        size = _syncsafe(head[6:10])
        return 0 if size is None else _ID3V2_HEADER + size + _ID3V2_HEADER * (head[5] >> 4 & 1)
    if head[:8] == b"APETAGEX" and len(head) == _APE_FOOTER:
        flags = int.from_bytes(head[20:24], "little")
        size = int.from_bytes(head[12:16], "little")
        return _APE_FOOTER + (size if flags & _APE_IS_HEADER else 0)
    if head[:4] == b"TAG+" and end - at >= _ID3V1_EXTENDED + _ID3V1:
        return _ID3V1_EXTENDED
    if head[:3] == b"TAG" and end - at >= _ID3V1:
        return _ID3V1
    if head[:11] == b"LYRICSBEGIN":
        lyrics = read_at(file, at, min(end - at, _LONGEST_LYRICS))
        match = re.search(rb"LYRICS(END|200)", lyrics)
        return match.end() if match else 0
    return 0


def _last_tag_length(file: BinaryIO, begin: int, end: int) -> int:
    """Returns the bytes of the tag that ends at `end`, as it states them; 0: there is none."""

    def last(count: int) -> bytes:
        return read_at(file, max(begin, end - count), min(count, end - begin))

    if last(_ID3V1)[:3] == b"TAG":
        return _ID3V1
    if last(_ID3V1_EXTENDED)[:4] == b"TAG+":
        return _ID3V1_EXTENDED
    footer = last(_APE_FOOTER)
    if footer[:8] == b"APETAGEX":
        flags = int.from_bytes(footer[20:24], "little")
        size = int.from_bytes(footer[12:16], "little")
        return size + _APE_FOOTER * bool(flags & _APE_HAS_HEADER)
    if footer[-10:-7] == b"3DI":
        return (_syncsafe(footer[-4:]) or 0) + 2 * _ID3V2_HEADER
    if footer.endswith(b"LYRICS200") and footer[-15:-9].isdigit():
        return int(footer[-15:-9]) + 15
    if footer.endswith(b"LYRICSEND"):
        lyrics = last(_LONGEST_LYRICS)
        position = lyrics.rfind(b"LYRICSBEGIN")
        return len(lyrics) - position if position >= 0 else 0
    return 0


def _syncsafe(data: bytes) -> int | None:
    """Decodes a 28-bit number with 7 bits per byte; None: an eighth bit is set."""
    if max(data) > 0x7F:
        return None
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]
