"""FLAC (RFC 9639). The first and the last frame are compared with the header.

libsndfile decodes as many samples as the header states. It gets no other metadata blocks, since it
does not need them and they may hold pictures of any size. The header of a FLAC that was written to
a pipe has no length. Then the last frame determines it.
"""

from dataclasses import dataclass
from typing import BinaryIO

from gru_audio.audio.containers.stream import (
    CONTRADICTORY,
    EMPTY,
    SEVERAL,
    TRUNCATED,
    Stream,
    Unusable,
    check_rate_and_channels,
    exactly,
    read_at,
)

MAGIC = b"fLaC"

_STREAMINFO = 34  # bytes
_MOST_BLOCKS = 10_000  # metadata blocks
_LAST_BLOCK = 0x80
_RATES = {  # Hz, by the code in a frame header; other codes are followed by the rate
    **{1: 88200, 2: 176400, 3: 192000, 4: 8000, 5: 16000, 6: 22050},
    **{7: 24000, 8: 32000, 9: 44100, 10: 48000, 11: 96000},
}
_LONGEST_FRAME_HEADER = 16  # bytes
_SHORTEST_FRAME = 10  # bytes
_BUFFER = 1 << 20  # bytes
_PADDING = 1 << 16  # bytes that may follow the last frame


@dataclass(frozen=True)
class _Info:
    """The fields of STREAMINFO."""

    block: int  # maximum samples per frame
    rate: int
    channels: int
    samples: int  # per channel; 0: unknown


def probe(file: BinaryIO, end: int) -> Stream:
    """Reads the header and the last frame of a FLAC that ends at `end`.

    A file that ends too early may pass; then the decoder finds fewer samples than stated.

    Raises:
      Unusable: the header and the frames contradict each other, or the length is unknown.
    """
    at, body = 4, b""
    for _ in range(_MOST_BLOCKS):
        header = read_at(file, at, 4)
        length = int.from_bytes(header[1:], "big")
        if len(header) < 4 or at + 4 + length > end:
            raise Unusable(TRUNCATED)
        if not body:
            if header[0] & 0x7F or length != _STREAMINFO:
                raise Unusable(CONTRADICTORY)
            body = file.read(length)
        at += 4 + length
        if header[0] & _LAST_BLOCK:
            break
    else:
        raise Unusable(CONTRADICTORY)
    packed = int.from_bytes(body[10:18], "big")
    info = _Info(
        block=int.from_bytes(body[2:4], "big"),
        rate=packed >> 44,
        channels=(packed >> 41 & 7) + 1,
        samples=packed & (1 << 36) - 1,
    )
    check_rate_and_channels(info.rate, info.channels)
    if at == end:
        raise Unusable(TRUNCATED if info.samples else EMPTY)
    if _frame(read_at(file, at, _LONGEST_FRAME_HEADER), info) is None:
        raise Unusable(TRUNCATED if end - at < _LONGEST_FRAME_HEADER else CONTRADICTORY)
    if info.samples > (end - at) // _SHORTEST_FRAME * info.block:
        raise Unusable(TRUNCATED)
    if _holds_another(file, at, end):
        raise Unusable(SEVERAL)
    samples = _samples(file, at, end, info)
    body = body[:10] + (packed >> 36 << 36 | samples).to_bytes(8, "big") + body[18:]
    head = MAGIC + bytes([_LAST_BLOCK, 0, 0, _STREAMINFO]) + body
    return Stream((head, (at, end)), info.rate, info.channels, exactly(samples))


def _holds_another(file: BinaryIO, begin: int, end: int) -> bool:
    """Returns whether the range contains a second FLAC, as after `cat one.flac two.flac`."""
    head, overlap = MAGIC + bytes([0, 0, 0, _STREAMINFO]), b""
    for at in range(begin, end, _BUFFER):
        data = overlap + read_at(file, at, min(_BUFFER, end - at))
        if head in data or bytes([*MAGIC, _LAST_BLOCK, *head[5:]]) in data:
            return True
        overlap = data[-len(head) :]
    return False


def _samples(file: BinaryIO, begin: int, end: int, info: _Info) -> int:
    """Returns the number of samples in the frames; a stated number must agree.

    The search for frame headers starts at the end. Other bytes may look like a header by chance. So
    two frames count as neighbours only if the second begins where the first ends.
    """
    longest = 5 * info.block * info.channels + _PADDING  # bytes: of uncompressed samples
    tail = read_at(file, max(begin, end - longest), min(end - begin, longest))
    at, firsts, ends = len(tail), set[int](), set[int]()
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        span = _frame(tail[at : at + _LONGEST_FRAME_HEADER], info)
        if span is None:
            continue
        first, ended = span
        firsts.add(first)
        ends.add(ended)
        if info.samples == ended:
            if ended in firsts:
                raise Unusable(CONTRADICTORY)
            return ended
        if ended > info.samples and _crc16(tail[at:]) == 0:  # the last frame, complete
            if info.samples:
                raise Unusable(CONTRADICTORY)
            return ended
    if not info.samples:
        raise Unusable(TRUNCATED)
    if any(ended > info.samples for ended in firsts & ends):
        raise Unusable(CONTRADICTORY)
    return info.samples  # the decoder will find fewer, but earlier parts may be readable


def _frame(header: bytes, info: _Info) -> tuple[int, int] | None:
    """Returns the first sample of a frame and the end of its samples; None: it is no frame."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return None
    size, rate, channels = header[2] >> 4, header[2] & 15, header[3] >> 4
    if not size or rate == 15 or channels > 10:
        return None
    if (channels + 1 if channels < 8 else 2) != info.channels:
        return None
    if _RATES.get(rate, info.rate) != info.rate:
        return None
    number, at = _coded_number(header[4:])
    at += 4
    extra = {6: 1, 7: 2}.get(size, 0)
    end = at + extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if number is None or len(header) <= end or _crc8(header[:end]) != header[end]:
        return None
    if extra:
        samples = int.from_bytes(header[at : at + extra], "big") + 1
    else:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    first = number if header[1] & 1 else number * info.block
    return first, first + samples


def _coded_number(data: bytes) -> tuple[int | None, int]:
    """Decodes a number in the UTF-8 scheme, extended to 7 bytes; returns it and its length."""
    length = 8 - (data[0] ^ 0xFF).bit_length()
    if length == 0:
        return data[0], 1
    rest = data[1:length]
    if length == 1 or length > 7 or any(byte & 0xC0 != 0x80 for byte in rest):
        return None, 1
    number = data[0] & (0x7F >> length)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, length


def _table(polynomial: int, width: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << width - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> width - 1 else 0)
            value &= (1 << width) - 1
        table.append(value)
    return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _CRC16[value >> 8 ^ byte]
    return value
