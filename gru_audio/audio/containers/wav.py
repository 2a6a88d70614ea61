"""WAV and its variants: RIFF, RIFX, and for long files RF64, BW64 and Sony's W64."""

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from gru_audio.audio.containers import mpeg
from gru_audio.audio.containers.stream import (
    CONTRADICTORY,
    EMPTY,
    MOST_CHUNKS,
    NOT_AUDIO,
    TRUNCATED,
    UNSUPPORTED,
    Chunk,
    Order,
    Piece,
    Stream,
    Unusable,
    check_rate_and_channels,
    chunk_end,
    end_of_samples,
    exactly,
    file_size,
    pcm,
    read_at,
    riff_chunk,
)

MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff")

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # format codes
_MPEG = (0x50, 0x55)
_UNKNOWN = 0xFFFFFFFF
_GUIDS = (  # the rest of the GUID in an extensible format: standard, and Ambisonic B-format
    (0x0000, 0x0010, bytes.fromhex("800000AA00389B71")),
    (0x0721, 0x11D3, bytes.fromhex("8644C8C1CA000000")),
)
_GUID_W64 = bytes.fromhex("F3ACD3118CD100C04F8EDB8A")  # follows the four letters of a chunk
_GUID_W64_RIFF = bytes.fromhex("2E91CF11A5D628DB04C10000")
_LONGEST_FORMAT = 1 << 12  # bytes that are read of a "fmt " chunk


@dataclass(frozen=True)
class Format:
    """The content of a "fmt " chunk; `block` is the bytes of a frame, or of a compressed block."""

    code: int
    channels: int
    rate: int
    block: int
    bits: int

    @property
    def subtype(self) -> str | None:
        """Libsndfile's name of the sample type; None: the samples are compressed."""
        match self.code:
            case 1:
                return ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")[-(-self.bits // 8) - 1]
            case 3:
                return "FLOAT" if self.bits == 32 else "DOUBLE"
            case 6:
                return "ALAW"
            case 7:
                return "ULAW"
        return None


def parse_format(body: bytes, order: Order = "little") -> Format:
    """Parses the content of a "fmt " chunk.

    Redundant fields must agree. Otherwise a flipped bit could double the length of a clip and lower
    it by an octave. Samples of 24 bits in 4 bytes are refused, because no header says which three
    bytes are used.

    Raises:
      Unusable: the content is too short, contradicts itself, or has an impossible rate or number of
        channels.
    """
    if len(body) < 16:
        raise Unusable(CONTRADICTORY)
    sign = "<" if order == "little" else ">"
    code, channels, rate, byte_rate, block, bits = struct.unpack_from(sign + "HHIIHH", body)
    if code == EXTENSIBLE:
        if len(body) < 40:
            raise Unusable(CONTRADICTORY)
        code, *guid = struct.unpack_from(sign + "IHH8s", body, 24)
        if tuple(guid) not in _GUIDS:
            raise Unusable(UNSUPPORTED)
    check_rate_and_channels(rate, channels)
    if code in (PCM, FLOAT, A_LAW, MU_LAW):
        allowed = {PCM: range(1, 33), FLOAT: (32, 64)}.get(code, (8,))
        consistent = block == channels * -(-bits // 8) and byte_rate == rate * block
        if bits not in allowed or not consistent:
            raise Unusable(CONTRADICTORY)
    elif not block:
        raise Unusable(CONTRADICTORY)
    return Format(code, channels, rate, block, bits)


def probe(file: BinaryIO) -> Stream:
    """Reads the chunks up to the samples, and checks the length of the samples.

    Raises:
      Unusable: the file is truncated, contradicts itself, or has an unsupported format.
    """
    head, size = read_at(file, 0, 40), file_size(file)
    if head[:4] == b"riff":
        if head[4:16] != _GUID_W64_RIFF:
            raise Unusable(NOT_AUDIO)
        kind, at, header = head[24:28], 40, 24
    else:
        kind, at, header = head[8:12], 12, 8
    if len(head) < at:
        raise Unusable(TRUNCATED)
    if kind not in (b"WAVE", b"wave"):
        raise Unusable(UNSUPPORTED)
    order: Order = "big" if head[:4] == b"RIFX" else "little"
    read = functools.partial(_w64_chunk if head[:4] == b"riff" else riff_chunk, order)

    parts: dict[bytes, bytes] = {}  # contents of the chunks that matter
    chunk: Chunk | None = None
    for _ in range(MOST_CHUNKS):
        chunk = read(file, at)
        if chunk is None:
            raise Unusable(TRUNCATED if at + header > size else CONTRADICTORY)
        if chunk.name == b"data":
            break
        if chunk.begin + chunk.length > size:
            raise Unusable(TRUNCATED)
        if chunk.name in (b"fmt ", b"fact", b"ds64"):
            body = read_at(file, chunk.begin, min(chunk.length, _LONGEST_FORMAT))
            parts.setdefault(chunk.name, body)
        at = chunk.next
    if chunk is None or chunk.name != b"data" or b"fmt " not in parts:
        raise Unusable(CONTRADICTORY)
    form, begin, length = parse_format(parts[b"fmt "], order), chunk.begin, chunk.length
    if length == _UNKNOWN and len(parts.get(b"ds64", b"")) >= 24:
        length = int.from_bytes(parts[b"ds64"][8:16], order)

    def next_chunk_end(file: BinaryIO, at: int) -> int | None:
        return chunk_end(read, file, (at, at + 1), (b"data", b"fmt ", *MAGICS))

    end = end_of_samples(file, begin, length, unit=form.block, chunks=next_chunk_end)
    if form.subtype:
        return pcm(
            begin,
            end,
            rate=form.rate,
            channels=form.channels,
            subtype=form.subtype,
            order=order.upper(),
        )
    if form.code in _MPEG:
        return mpeg.probe(file, begin, end)
    return _compressed(form, parts, begin, end, order)


def _w64_chunk(order: Order, file: BinaryIO, at: int) -> Chunk | None:
    header = read_at(file, at, 24)
    stated = int.from_bytes(header[16:], order)
    known = header[4:16] in (_GUID_W64, _GUID_W64_RIFF)
    name = header[:4] if known else b""
    if len(header) < 24 or (stated < 24 and name != b"data"):
        return None
    length = max(0, stated - 24)
    return Chunk(name, at + 24, length, at + 24 + -(-length // 8) * 8)


def _compressed(
    form: Format, parts: Mapping[bytes, bytes], begin: int, end: int, order: Order
) -> Stream:
    """Returns the stream of compressed blocks of equal size.

    A "fact" chunk states the number of frames without the padding in the last block.
    """
    body = parts[b"fmt "]
    stated = int.from_bytes(body[18:20], order)  # samples of a block
    channels, block = form.channels, form.block
    match form.code:
        case 0x02:  # Microsoft's ADPCM
            expected, samples = (block - 7 * channels) * 2 // channels + 2, stated
        case 0x11:  # IMA ADPCM
            expected, samples = (block - 4 * channels) * 2 // channels + 1, stated
        case 0x31:  # GSM 6.10
            block, expected, samples = 65, 320, stated
        case 0x38:  # NMS ADPCM
            expected, samples = 160, 160
        case 0x40:  # G.721
            block, expected, samples = 60, 120, 120
        case _:
            raise Unusable(UNSUPPORTED)
    if samples != expected or samples <= 0:
        raise Unusable(CONTRADICTORY)
    blocks, rest = divmod(end - begin, block)
    frames = blocks * samples
    fact = int.from_bytes(parts.get(b"fact", b"")[:8], order)  # 8 bytes in W64
    if fact >= _UNKNOWN:
        fact = 0  # unknown
    if fact and not frames - samples < fact <= frames:
        # Some programs multiply or divide by the channels.
        if not any(frames - samples < n <= frames for n in (fact * channels, fact // channels)):
            raise Unusable(TRUNCATED if fact > frames else CONTRADICTORY)
    elif fact:
        frames, rest = fact, 0
    if rest:
        raise Unusable(TRUNCATED)
    if not frames:
        raise Unusable(EMPTY)
    pieces = _canonical(body, frames, begin, begin + blocks * block, order)
    return Stream(pieces, form.rate, channels, exactly(frames), padding=2 * samples)


def _canonical(form: bytes, frames: int, begin: int, end: int, order: Order) -> tuple[Piece, ...]:
    """Returns a WAV with the chunks that libsndfile needs and their correct lengths."""
    sign, magic = ("<", b"RIFF") if order == "little" else (">", b"RIFX")
    chunks = struct.pack(sign + "4sI", b"fmt ", len(form)) + form + bytes(len(form) % 2)
    chunks += struct.pack(sign + "4sII", b"fact", 4, frames)
    chunks += struct.pack(sign + "4sI", b"data", end - begin)
    riff = struct.pack(sign + "4sI4s", magic, 4 + len(chunks) + end - begin, b"WAVE")
    return (riff + chunks, (begin, end))
