"""Whether a sound file holds what it promises, as far as that can be told without decoding it.

The length in the header of WAV and AIFF is compared with that of the file, and what the header of a
WAV says twice must agree, or a flipped bit would make a clip twice as long and an octave lower. Ogg
has a checksum in every page, and a last page that says so. FLAC has checksums at which libsndfile
looks itself, but none over its rate. (An MP3 has a Xing header at best: without it a cut-off one
gives what it has, one of varying bit rate what libsndfile makes of its first frames.)
"""

import os
import struct
import zlib
from typing import BinaryIO, Literal

TRUNCATED = "truncated"
EMPTY = "empty"
CONTRADICTORY = "contradictory header"
DAMAGED = "damaged"
SILENT = "silent"
NON_FINITE = "non-finite"
NOT_AUDIO = "not audio"

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a program that writes WAV to a pipe leaves in the header
_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # formats of a WAV
_FLAC_RATES = {  # Hz, by their number in the header of a frame; others stand there in full
    **{1: 88200, 2: 176400, 3: 192000, 4: 8000, 5: 16000, 6: 22050},
    **{7: 24000, 8: 32000, 9: 44100, 10: 48000, 11: 96000},
}
_OGG_HEADER = struct.Struct("<4sBBqIIIB")  # magic ... flags, time, stream, page, CRC, segments
_OGG_END_OF_STREAM = 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Unusable(Exception):
    """A file that cannot be used; `reason` is one of the names at the top of this module."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def check_container(file: BinaryIO) -> None:
    """Raises `Unusable` when a container promises more than the file holds, or was damaged."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise Unusable(EMPTY)
    file.seek(0)
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RIFX"):
        _check_chunks(file, size, b"data", "little" if magic[:4] == b"RIFF" else "big")
    elif magic[:4] == b"FORM":
        _check_chunks(file, size, b"SSND", "big")
    elif magic[:4] == b"OggS":
        _check_pages(file)
    elif magic[:4] == b"fLaC":
        _check_flac_rate(file)


def _check_chunks(
    file: BinaryIO, size: int, wanted: bytes, order: Literal["little", "big"]
) -> None:
    """Walks the chunks of a RIFF (WAV) or IFF (AIFF) file to the one with the samples."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], order)
        if header[:4] == wanted:
            if position + 8 + length > size and length not in _UNKNOWN_SIZES:
                raise Unusable(TRUNCATED)
            return
        if header[:4] == b"fmt ":
            _check_wav_format(file.read(16), order)
        position += 8 + length + length % 2
    raise Unusable(TRUNCATED)


def _check_wav_format(fields: bytes, order: Literal["little", "big"]) -> None:
    """Whether the sizes agree, where a frame is one sample a channel (compressed ones are not)."""
    if len(fields) < 16:
        raise Unusable(TRUNCATED)
    code, channels, rate, byte_rate, block, bits = struct.unpack(
        ("<" if order == "little" else ">") + "HHIIHH", fields
    )
    if code not in (_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE):
        return
    sizes = {-(-bits // 8), 4 if bits == 24 else 0} - {0}  # some programs pad 24 bits
    agree = block in [channels * size for size in sizes] and byte_rate == rate * block
    if not agree or (code in (_A_LAW, _MU_LAW) and bits != 8):
        raise Unusable(CONTRADICTORY)


def _check_flac_rate(file: BinaryIO) -> None:
    """Whether the first frame has the rate that the stream is said to have."""
    file.seek(4)
    rate, last = 0, False
    while not last:
        header = file.read(4).ljust(4, b"\x80")  # a cut-off file is left to the decoder
        last, kind = bool(header[0] & 0x80), header[0] & 0x7F
        block = file.read(int.from_bytes(header[1:], "big"))
        if kind == 0:  # STREAMINFO
            rate = int.from_bytes(block[10:13], "big") >> 4
    frame = file.read(3)
    if len(frame) == 3 and _FLAC_RATES.get(frame[2] & 15, rate) != rate:
        raise Unusable(CONTRADICTORY)


def _check_pages(file: BinaryIO) -> None:
    """Walks the pages of an Ogg file: each whole, as it was written, and behind the one before."""
    file.seek(0)
    following: dict[int, int] = {}  # the number of the next page, by stream
    flags = 0
    while header := file.read(_OGG_HEADER.size):
        if len(header) < _OGG_HEADER.size:
            raise Unusable(TRUNCATED)
        magic, _, flags, _, stream, number, checksum, segments = _OGG_HEADER.unpack(header)
        if magic != b"OggS":
            raise Unusable(DAMAGED)
        table = file.read(segments)
        body = file.read(sum(table))
        if len(table) < segments or len(body) < sum(table):
            raise Unusable(TRUNCATED)
        unsigned = header[:22] + bytes(4) + header[26:]
        if checksum != _ogg_crc(unsigned + table + body) or number != following.get(stream, number):
            raise Unusable(DAMAGED)
        following[stream] = number + 1
    if not flags & _OGG_END_OF_STREAM:
        raise Unusable(TRUNCATED)


def _ogg_crc(page: bytes) -> int:
    """The CRC-32 of Ogg: zlib's with the bits of all bytes, and of the result, in reverse order."""
    ones = 0xFFFFFFFF  # zlib begins with these and inverts by them; Ogg does not
    reverse = zlib.crc32(page.translate(_REVERSED), ones) ^ ones
    return int(f"{reverse:032b}"[::-1], 2)
