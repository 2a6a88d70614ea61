"""Ogg with Vorbis, Opus or FLAC: every page has a checksum and a number, the last one says so.

The last page also has the number of the last sample. Of several streams libsndfile decodes the
first alone, so a file with several is refused.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import BinaryIO

from gru_audio.audio.containers import (
    DAMAGED,
    EMPTY,
    SEVERAL,
    TRUNCATED,
    UNSUPPORTED,
    Unusable,
    check_rate_and_channels,
)
from gru_audio.audio.containers.stream import Stream, is_zero

MAGIC = b"OggS"

_HEADER = struct.Struct("<4sBBqIIIB")  # magic, version, flags, time, stream, page, CRC, segments
_BEGIN_OF_STREAM, _END_OF_STREAM = 2, 4  # flags
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz at which libsndfile decodes it
_OPUS_CLOCK = 48000  # Hz of its times


def probe(file: BinaryIO, end: int) -> Stream:
    """Walks the pages up to a place: each whole, as it was written, and behind the one before.

    Raises:
      Unusable: a page is damaged or missing, or there are several streams.
    """
    file.seek(0)
    page, head, first, flags, following = b"", b"", 0, 0, 0
    times: list[int] = []
    while file.tell() < end:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise Unusable(TRUNCATED)
        magic, _, kind, time, stream, number, checksum, segments = _HEADER.unpack(header)
        if magic != MAGIC:
            if is_zero(file, file.tell() - len(header), end):
                break
            raise Unusable(DAMAGED)
        table = file.read(segments)
        body = file.read(sum(table))
        if len(table) < segments or len(body) < sum(table):
            raise Unusable(TRUNCATED)
        if checksum != _crc(header[:22] + bytes(4) + header[26:] + table + body):
            raise Unusable(DAMAGED)
        if not page:
            page, head, first, following = header + table + body, body, stream, number
        elif stream != first or kind & _BEGIN_OF_STREAM:
            raise Unusable(SEVERAL)
        if number != following:
            raise Unusable(DAMAGED)
        following, flags = number + 1, kind
        if time > 0:
            times.append(time)
    if not flags & _END_OF_STREAM:
        raise Unusable(TRUNCATED)
    if not times:
        raise Unusable(EMPTY)
    return _stream(head, times, page, (len(page), end))


def _stream(head: bytes, times: Sequence[int], page: bytes, rest: tuple[int, int]) -> Stream:
    """What the first packet says, with the times at which pages of sound end.

    Args:
      head: the first packet.
      times: in samples, of the clock of the format.
      page: the one with this packet.
      rest: the pages behind it.
    """
    skipped, clock = 0, 0
    if head[:7] == b"\x01vorbis" and len(head) >= 16:
        channels, rate = head[11], int.from_bytes(head[12:16], "little")
    elif head[:8] == b"OpusHead" and len(head) >= 16:
        channels, skipped = head[9], int.from_bytes(head[10:12], "little")
        asked = int.from_bytes(head[12:16], "little")
        if not asked:  # unknown, for which libsndfile takes the lowest rate
            asked = _OPUS_CLOCK
            page = _with_body(page, head[:12] + asked.to_bytes(4, "little") + head[16:])
        rate = next((rate for rate in _OPUS_RATES if rate >= asked), _OPUS_CLOCK)
        clock = _OPUS_CLOCK
    elif head[:5] == b"\x7fFLAC" and len(head) >= 35:
        packed = int.from_bytes(head[27:35], "big")  # of a STREAMINFO, as `flac` reads it
        channels, rate = (packed >> 41 & 7) + 1, packed >> 44
    else:
        raise Unusable(UNSUPPORTED)
    check_rate_and_channels(rate, channels)
    most = times[-1] - skipped
    # A stream that was cut out of a longer one does not begin at 0, but within its first page.
    least = times[-1] - max(times[0], skipped)
    scale = Fraction(rate, clock or rate)
    frames = range(math.floor(least * scale), math.ceil(most * scale) + 1)
    return Stream((page, rest), rate, channels, frames)


def _with_body(page: bytes, body: bytes) -> bytes:
    """A page with another body of the same length."""
    page = page[: -len(body)] + body
    return page[:22] + _crc(page[:22] + bytes(4) + page[26:]).to_bytes(4, "little") + page[26:]


def _crc(page: bytes) -> int:
    """The CRC-32 of Ogg: zlib's with the bits of all bytes, and of the result, in reverse order."""
    ones = 0xFFFFFFFF  # zlib begins with these and inverts by them; Ogg does not
    reverse = zlib.crc32(page.translate(_REVERSED), ones) ^ ones
    return int(f"{reverse:032b}"[::-1], 2)
