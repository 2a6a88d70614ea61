"""AU and NIST SPHERE: a header with the position and the length of the samples that follow it."""

import struct
from typing import BinaryIO

from gru_audio.audio.containers.stream import (
    CONTRADICTORY,
    SAMPLE_BYTES,
    TRUNCATED,
    UNSUPPORTED,
    Stream,
    Unusable,
    check_rate_and_channels,
    end_of_samples,
    exactly,
    file_size,
    pcm,
    read_at,
)

AU_MAGICS = (b".snd", b"dns.")
NIST_MAGIC = b"NIST"

_AU_UNKNOWN = 0xFFFFFFFF
_AU_SUBTYPES = {
    **{1: "ULAW", 2: "PCM_S8", 3: "PCM_16", 4: "PCM_24", 5: "PCM_32", 6: "FLOAT", 7: "DOUBLE"},
    27: "ALAW",
}
_AU_BITS = {23: 4, 25: 3, 26: 5}  # bits per sample of G.721 and G.723
_AU_BLOCK = 120  # samples per block of these codecs
_LONGEST_NIST_HEADER = 1 << 16  # bytes


def probe_au(file: BinaryIO) -> Stream:
    """Reads the header of an AU file (Sun and NeXT), in either byte order.

    Raises:
      Unusable: the header is truncated or unsupported, or contradicts the length of the file.
    """
    head = read_at(file, 0, 24)
    if len(head) < 24:
        raise Unusable(TRUNCATED)
    little = head[:4] == b"dns."
    begin, length, code, rate, channels = struct.unpack(("<" if little else ">") + "5I", head[4:])
    check_rate_and_channels(rate, channels)
    if begin < 24:
        raise Unusable(CONTRADICTORY)
    if begin > file_size(file):
        raise Unusable(TRUNCATED)
    stated = None if length == _AU_UNKNOWN else length
    if code in _AU_BITS:
        end = end_of_samples(file, begin, stated, unit=_AU_BITS[code])
        frames = (end - begin) * 8 // (_AU_BITS[code] * channels)
        return Stream(((0, end),), rate, channels, exactly(frames), padding=_AU_BLOCK)
    if code not in _AU_SUBTYPES:
        raise Unusable(UNSUPPORTED)
    subtype = _AU_SUBTYPES[code]
    end = end_of_samples(file, begin, stated, unit=channels * SAMPLE_BYTES[subtype])
    order = "LITTLE" if little else "BIG"
    return pcm(begin, end, rate=rate, channels=channels, subtype=subtype, order=order)


def probe_nist(file: BinaryIO) -> Stream:
    """Reads the header of a NIST SPHERE file, which is text.

    Raises:
      Unusable: the header is truncated, the samples are compressed, or their length contradicts
        that of the file.
    """
    first = read_at(file, 0, 16).split(b"\n")
    if len(first) < 3 or not first[1].strip().isdigit():
        raise Unusable(TRUNCATED if file_size(file) < 16 else CONTRADICTORY)
    begin = int(first[1])
    if begin > file_size(file):
        raise Unusable(TRUNCATED)
    if begin > _LONGEST_NIST_HEADER:
        raise Unusable(CONTRADICTORY)
    lines = (line.split(None, 2) for line in read_at(file, 0, begin).splitlines())
    fields = {line[0]: line[2].strip() for line in lines if len(line) == 3}
    try:
        channels = int(fields.get(b"channel_count", b"1"))
        rate, width = int(fields[b"sample_rate"]), int(fields[b"sample_n_bytes"])
        stated = int(fields[b"sample_count"]) * channels * width
    except (KeyError, ValueError) as error:
        raise Unusable(CONTRADICTORY) from error
    check_rate_and_channels(rate, channels)
    coding = fields.get(b"sample_coding", b"pcm")
    integers = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
    names = {b"pcm": integers.get(width), b"ulaw": "ULAW", b"alaw": "ALAW"}
    names |= {b"mu-law": "ULAW", b"pculaw": "ULAW"}
    subtype = names.get(coding)
    if subtype is None or SAMPLE_BYTES[subtype] != width or stated < 0:
        raise Unusable(UNSUPPORTED)
    end = end_of_samples(file, begin, stated, unit=channels * width)
    order = "BIG" if fields.get(b"sample_byte_format") == b"10" else "LITTLE"
    return pcm(begin, end, rate=rate, channels=channels, subtype=subtype, order=order)
