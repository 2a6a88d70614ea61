"""Ogg with Vorbis, Opus or FLAC.

Every page has a checksum and a sequence number. The last page is marked, and has the number of the
last sample. libsndfile decodes only the first of several streams, so such a file is refused.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import BinaryIO

from gru_audio.audio.containers.stream import (
    DAMAGED,
    EMPTY,
    SEVERAL,
    TRUNCATED,
    UNSUPPORTED,
    Stream,
    Unusable,
    check_rate_and_channels,
    is_zero,
)

MAGIC = b"OggS"

_HEADER = struct.Struct("<4sBBqIIIB")  # magic, version, flags, time, stream, page, CRC, segments
_BEGIN_OF_STREAM, _END_OF_STREAM = 2, 4  # flags
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz; libsndfile decodes Opus at these rates
_OPUS_CLOCK = 48000  # Hz of the times in Opus pages


def probe(file: BinaryIO, end: int) -> Stream:
    """Checks that all pages up to `end` are complete, undamaged and in sequence.

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
    """Parses the first packet, and computes the number of frames.

    Args:
      head: the first packet.
      times: end times of the pages with sound, in ticks of the format's clock.
      page: the page with the first packet.
      rest: byte range of the other pages.
    """
    skipped, clock = 0, 0
    if head[:7] == b"\x01vorbis" and len(head) >= 16:
        channels, rate = head[11], int.from_bytes(head[12:16], "little")
    elif head[:8] == b"OpusHead" and len(head) >= 16:
        channels, skipped = head[9], int.from_bytes(head[10:12], "little")
        stated = int.from_bytes(head[12:16], "little")
        if not stated:  # unknown; libsndfile would choose the lowest rate
            stated = _OPUS_CLOCK
            page = _with_body(page, head[:12] + stated.to_bytes(4, "little") + head[16:])
        rate = next((rate for rate in _OPUS_RATES if rate >= stated), _OPUS_CLOCK)
        clock = _OPUS_CLOCK
    elif head[:5] == b"\x7fFLAC" and len(head) >= 35:
        packed = int.from_bytes(head[27:35], "big")  # fields of STREAMINFO, see flac.py
        channels, rate = (packed >> 41 & 7) + 1, packed >> 44
    else:
        raise Unusable(UNSUPPORTED)
    check_rate_and_channels(rate, channels)
    most = times[-1] - skipped
    # A stream that was cut from a longer one begins at an unknown time within its first page.
    least = times[-1] - max(times[0], skipped)
    scale = Fraction(rate, clock or rate)
    frames = range(math.floor(least * scale), math.ceil(most * scale) + 1)
    return Stream((page, rest), rate, channels, frames)


def _with_body(page: bytes, body: bytes) -> bytes:
    """Returns a page with a new body of the same length."""
    page = page[: -len(body)] + body
    return page[:22] + _crc(page[:22] + bytes(4) + page[26:]).to_bytes(4, "little") + page[26:]


def _crc(page: bytes) -> int:
    """Returns Ogg's CRC-32: zlib's, with the bits of every byte and of the result reversed."""
    ones = 0xFFFFFFFF  # zlib's initial value, and its final XOR; Ogg uses 0 for both
    reverse = zlib.crc32(page.translate(_REVERSED), ones) ^ ones
    return int(f"{reverse:032b}"[::-1], 2)
