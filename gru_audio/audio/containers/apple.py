"""AIFF, AIFF-C and CAF: Apple's chunk formats."""

import functools
import math
import struct
from typing import BinaryIO

from gru_audio.audio.containers.stream import (
    CONTRADICTORY,
    EMPTY,
    MOST_CHUNKS,
    SAMPLE_BYTES,
    TRUNCATED,
    UNSUPPORTED,
    Chunk,
    Stream,
    Unusable,
    check_rate_and_channels,
    chunk_end,
    end_of_samples,
    exactly,
    file_size,
    is_chunk_name,
    pcm,
    read_at,
    riff_chunk,
)

AIFF_MAGIC, CAF_MAGIC = b"FORM", b"caff"

_LONGEST = 1 << 12  # bytes that are read of a COMM chunk
_LONGEST_TABLE = 1 << 24  # bytes that are read of a packet table: a year of sound
_INTEGERS = ("PCM_S8", "PCM_16", "PCM_24", "PCM_32")
_AIFC = {  # by compression: subtypes of 8, 16, 24 and 32 bits, and byte order
    b"NONE": (_INTEGERS, "BIG"),
    b"twos": (_INTEGERS, "BIG"),
    b"sowt": (_INTEGERS, "LITTLE"),
    b"raw ": (("PCM_U8",), "BIG"),
    b"in24": (("PCM_24",) * 4, "BIG"),
    **dict.fromkeys((b"42ni", b"42n1"), (("PCM_24",) * 4, "LITTLE")),
    b"in32": (("PCM_32",) * 4, "BIG"),
    b"23ni": (("PCM_32",) * 4, "LITTLE"),
    **dict.fromkeys((b"fl32", b"FL32"), (("FLOAT",) * 4, "BIG")),
    **dict.fromkeys((b"fl64", b"FL64"), (("DOUBLE",) * 8, "BIG")),
    **dict.fromkeys((b"ulaw", b"ULAW"), (("ULAW",) * 2, "BIG")),
    **dict.fromkeys((b"alaw", b"ALAW"), (("ALAW",) * 2, "BIG")),
}
_BLOCKS = {b"ima4": (34, 64), b"GSM ": (33, 160), b"agsm": (33, 160)}  # bytes, samples per block
_CAF_FLOAT, _CAF_LITTLE = 1, 2  # flags of uncompressed samples


def probe_aiff(file: BinaryIO) -> Stream:
    """Reads the chunks of an AIFF; COMM may follow the samples.

    Raises:
      Unusable: COMM, the length of the samples and the length of the file contradict each other.
    """
    size, kind = file_size(file), read_at(file, 8, 4)
    if len(kind) < 4:
        raise Unusable(TRUNCATED)
    if kind not in (b"AIFF", b"AIFC"):
        raise Unusable(UNSUPPORTED)
    common, samples, at = b"", None, 12
    for _ in range(MOST_CHUNKS):
        if common and samples:
            break
        header = read_at(file, at, 8)
        length = int.from_bytes(header[4:], "big")
        if header[:4] == b"SSND" and len(header) == 8:
            offset = int.from_bytes(read_at(file, at + 8, 4), "big")
            samples = (at + 16 + offset, max(0, length - 8 - offset))
        elif len(header) < 8 or at + 8 + length > size:
            raise Unusable(TRUNCATED)
        elif header[:4] == b"COMM":
            common = read_at(file, at + 8, min(length, _LONGEST))
        at += 8 + length + length % 2
    if samples is None or len(common) < 18 or (kind == b"AIFC" and len(common) < 22):
        raise Unusable(CONTRADICTORY)
    channels, stated, bits = struct.unpack_from(">HIH", common)
    rate = _extended(common[8:18])
    check_rate_and_channels(rate, channels)
    compression = common[18:22] if kind == b"AIFC" else b"NONE"
    subtypes, order = _AIFC.get(compression, ((), "BIG"))
    begin, length = samples
    if compression in _BLOCKS:
        end = end_of_samples(file, begin, length, unit=1, chunks=_iff_chunk_end)
        block, block_samples = _BLOCKS[compression]
        blocks, rest = divmod(end - begin, block * channels)
        frames = blocks * block_samples
        if stated in (blocks, blocks // channels):  # some programs state blocks
            stated = frames
        if rest > 1 or stated > frames:  # one byte may be padding
            raise Unusable(TRUNCATED)
        if stated <= frames - block_samples:
            raise Unusable(CONTRADICTORY)
        return Stream(((0, size),), round(rate), channels, exactly(stated), padding=block_samples)
    if not subtypes:
        raise Unusable(UNSUPPORTED)
    index = max(0, -(-bits // 8) - 1)
    if index >= len(subtypes):
        raise Unusable(CONTRADICTORY)
    subtype = subtypes[index]
    unit = channels * SAMPLE_BYTES[subtype]
    end = end_of_samples(file, begin, length, unit=unit, chunks=_iff_chunk_end)
    frames = (end - begin) // unit
    if end == begin + length and stated != frames:
        raise Unusable(TRUNCATED if stated > frames else CONTRADICTORY)
    return pcm(begin, end, rate=round(rate), channels=channels, subtype=subtype, order=order)


def _iff_chunk_end(file: BinaryIO, at: int) -> int | None:
    read = functools.partial(riff_chunk, "big")
    return chunk_end(read, file, (at + at % 2, at), (b"FORM", b"SSND", b"COMM"))


def _extended(data: bytes) -> float:
    """Decodes an 80-bit floating-point number (IEEE 754 extended precision)."""
    exponent = int.from_bytes(data[:2], "big") & 0x7FFF
    if exponent > 16383 + 63:
        return math.inf
    return math.ldexp(int.from_bytes(data[2:], "big"), exponent - 16383 - 63)


def probe_caf(file: BinaryIO) -> Stream:
    """Reads the chunks of a CAF; the chunk of samples may have an unknown length.

    Raises:
      Unusable: the format of the samples is unsupported, or their number contradicts the file.
    """
    size = file_size(file)
    parts: dict[bytes, bytes] = {}
    data: tuple[int, int | None] | None = None
    at = 8
    for _ in range(MOST_CHUNKS):
        if at >= size or (data and data[1] is None):
            break
        header = read_at(file, at, 12)
        if len(header) < 12:
            break
        length = int.from_bytes(header[4:], "big", signed=True)
        if header[:4] == b"data":
            if data:
                raise Unusable(CONTRADICTORY)
            if length < 4 and length not in (-1, 0):
                raise Unusable(CONTRADICTORY)
            data = (at + 16, None if length < 4 else length - 4)
        elif at + 12 + length > size or length < 0:
            if data is None:
                raise Unusable(TRUNCATED)
            break
        elif header[:4] in (b"desc", b"pakt"):
            parts[header[:4]] = read_at(file, at + 12, min(length, _LONGEST_TABLE))
        at += 12 + max(0, length)
    if data is None:
        raise Unusable(TRUNCATED)
    if len(parts.get(b"desc", b"")) < 32:
        raise Unusable(CONTRADICTORY)
    rate, code, flags, packet, per_packet, channels, bits = struct.unpack(
        ">d4sIIIII", parts[b"desc"][:32]
    )
    check_rate_and_channels(rate, channels)
    begin, stated = data
    end = end_of_samples(file, begin, stated, unit=max(1, packet), chunks=_caf_chunk_end)
    if code == b"alac":
        frames = _alac_frames(parts.get(b"pakt", b""), end - begin, per_packet)
        return Stream(((0, size),), round(rate), channels, exactly(frames))
    width = packet // channels
    if code in (b"ulaw", b"alaw"):
        subtype, consistent = code.decode().upper(), width == 1
    elif code != b"lpcm":
        raise Unusable(UNSUPPORTED)
    elif flags & _CAF_FLOAT:
        subtype, consistent = {4: "FLOAT", 8: "DOUBLE"}.get(width, ""), bits == 8 * width
    else:
        subtype = dict(enumerate(_INTEGERS, 1)).get(width, "")
        consistent = width == -(-bits // 8)
    if not (subtype and consistent and packet == width * channels):
        raise Unusable(CONTRADICTORY)
    order = "LITTLE" if flags & _CAF_LITTLE else "BIG"
    return pcm(begin, end, rate=round(rate), channels=channels, subtype=subtype, order=order)


def _alac_frames(table: bytes, length: int, per_packet: int) -> int:
    """Returns the number of frames that a packet table states.

    Args:
      table: the content of the "pakt" chunk.
      length: bytes of all packets.
      per_packet: frames of a packet.

    Raises:
      Unusable: the table contradicts the length of the packets.
    """
    if len(table) < 24:
        raise Unusable(TRUNCATED)
    packets, frames, priming = struct.unpack_from(">qqi", table)
    if packets == 0:
        raise Unusable(EMPTY)
    sizes, size = [], 0
    for byte in table[24:]:  # 7 bits per byte, most significant first
        size = (size << 7 | byte & 0x7F) & 0xFFFFFFFF
        if byte < 0x80:
            sizes.append(size)
            size = 0
    padding = packets * per_packet - frames - priming
    if sum(sizes[:packets]) != length or not 0 <= padding <= per_packet:
        raise Unusable(CONTRADICTORY)
    return frames


def _caf_chunk_end(file: BinaryIO, at: int) -> int | None:
    return chunk_end(_caf_chunk, file, (at,), (b"data",))


def _caf_chunk(file: BinaryIO, at: int) -> Chunk | None:
    header = read_at(file, at, 12)
    length = int.from_bytes(header[4:], "big", signed=True)
    if len(header) < 12 or not is_chunk_name(header[:4]) or length < 0:
        return None
    return Chunk(header[:4], at + 12, length, at + 12 + length)
