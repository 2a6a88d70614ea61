"""AIFF, AIFF-C and CAF, Apple's containers of chunks."""

import math
import struct
from typing import BinaryIO

from gru_audio.audio.containers import (
    CONTRADICTORY,
    EMPTY,
    TRUNCATED,
    UNSUPPORTED,
    Unusable,
    check_rate_and_channels,
)
from gru_audio.audio.containers.stream import (
    MOST_CHUNKS,
    SAMPLE_BYTES,
    Stream,
    end_of_samples,
    exactly,
    file_size,
    pcm,
    read_at,
)

AIFF_MAGIC, CAF_MAGIC = b"FORM", b"caff"

_LONGEST = 1 << 12  # bytes that are read of a chunk other than the samples
_LONGEST_TABLE = 1 << 24  # bytes of packets' sizes: a year of sound
_INTEGERS = ("PCM_S8", "PCM_16", "PCM_24", "PCM_32")
_AIFC = {  # subtypes of 8, 16, 24 and 32 bits, and byte order, by compression
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
_IMA4 = b"ima4"
_BLOCKS = {b"ima4": (34, 64), b"GSM ": (33, 160), b"agsm": (33, 160)}  # bytes and samples of one
_CAF_FLOAT, _CAF_LITTLE = 1, 2  # flags of linear samples


def probe_aiff(file: BinaryIO) -> Stream:
    """Reads the chunks, of which COMM may stand behind the samples.

    Raises:
      Unusable: COMM and the samples disagree about their length, or there is more or less of them.
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
    channels, said, bits = struct.unpack_from(">HIH", common)
    rate = _extended(common[8:18])
    check_rate_and_channels(rate, channels)
    compression = common[18:22] if kind == b"AIFC" else b"NONE"
    subtypes, order = _AIFC.get(compression, ((), "BIG"))
    begin, length = samples
    if compression in _BLOCKS:
        end = end_of_samples(file, begin, length, unit=1, chunks=_iff_chunk_end)
        block, of_block = _BLOCKS[compression]
        blocks, rest = divmod(end - begin, block * channels)
        frames = blocks * of_block
        if said in (blocks, blocks // channels):  # some count blocks
            said = frames
        if rest > 1 or said > frames:  # one byte makes the length even
            raise Unusable(TRUNCATED)
        if said <= frames - of_block:
            raise Unusable(CONTRADICTORY)
        return Stream(((0, size),), round(rate), channels, exactly(said), padding=of_block)
    if not subtypes:
        raise Unusable(UNSUPPORTED)
    number = max(0, -(-bits // 8) - 1)
    if number >= len(subtypes):
        raise Unusable(CONTRADICTORY)
    subtype = subtypes[number]
    unit = channels * SAMPLE_BYTES[subtype]
    end = end_of_samples(file, begin, length, unit=unit, chunks=_iff_chunk_end)
    there = (end - begin) // unit
    if end == begin + length and said != there:
        raise Unusable(TRUNCATED if said > there else CONTRADICTORY)
    return pcm(begin, end, rate=round(rate), channels=channels, subtype=subtype, order=order)


def _iff_chunk_end(file: BinaryIO, at: int) -> int | None:
    for place in (at + at % 2, at):
        header = read_at(file, place, 8)
        printable = all(0x20 <= byte < 0x7F for byte in header[:4])
        if len(header) == 8 and printable and header[:4] not in (b"FORM", b"SSND", b"COMM"):
            length, size = int.from_bytes(header[4:], "big"), file_size(file)
            behind = place + 8 + length
            return behind + (length % 2 if behind < size else 0)
    return None


def _extended(data: bytes) -> float:
    """A floating-point number of 80 bits."""
    exponent = int.from_bytes(data[:2], "big") & 0x7FFF
    if exponent > 16383 + 63:
        return math.inf
    return math.ldexp(int.from_bytes(data[2:], "big"), exponent - 16383 - 63)


def probe_caf(file: BinaryIO) -> Stream:
    """Reads the chunks; the one with the samples may leave its length open.

    Raises:
      Unusable: the samples are of an uncommon kind, or fewer or more than the file says.
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
    begin, said = data
    end = end_of_samples(file, begin, said, unit=max(1, packet), chunks=_caf_chunk_end)
    if code == b"alac":
        frames = _alac_frames(parts.get(b"pakt", b""), end - begin, per_packet)
        return Stream(((0, size),), round(rate), channels, exactly(frames))
    width = packet // channels
    if code in (b"ulaw", b"alaw"):
        subtype, agrees = code.decode().upper(), width == 1
    elif code != b"lpcm":
        raise Unusable(UNSUPPORTED)
    elif flags & _CAF_FLOAT:
        subtype, agrees = {4: "FLOAT", 8: "DOUBLE"}.get(width, ""), bits == 8 * width
    else:
        subtype = dict(enumerate(_INTEGERS, 1)).get(width, "")
        agrees = width == -(-bits // 8)
    if not (subtype and agrees and packet == width * channels):
        raise Unusable(CONTRADICTORY)
    order = "LITTLE" if flags & _CAF_LITTLE else "BIG"
    return pcm(begin, end, rate=round(rate), channels=channels, subtype=subtype, order=order)


def _alac_frames(table: bytes, length: int, per_packet: int) -> int:
    """How many frames a table of packets says that there are, if the packets agree.

    Args:
      table: the content of the chunk "pakt".
      length: bytes of all packets.
      per_packet: frames of a packet.
    """
    if len(table) < 24:
        raise Unusable(TRUNCATED)
    packets, frames, priming = struct.unpack_from(">qqi", table)
    if packets == 0:
        raise Unusable(EMPTY)
    sizes, size = [], 0
    for byte in table[24:]:  # numbers of 7 bits a byte, the highest first
        size = (size << 7 | byte & 0x7F) & 0xFFFFFFFF
        if byte < 0x80:
            sizes.append(size)
            size = 0
    padding = packets * per_packet - frames - priming
    if sum(sizes[:packets]) != length or not 0 <= padding <= per_packet:
        raise Unusable(CONTRADICTORY)
    return frames


def _caf_chunk_end(file: BinaryIO, at: int) -> int | None:
    header = read_at(file, at, 12)
    if len(header) < 12 or not all(0x20 <= byte < 0x7F for byte in header[:4]):
        return None
    length = int.from_bytes(header[4:], "big", signed=True)
    return None if length < 0 or header[:4] == b"data" else at + 12 + length
