"""What kind of sound file it is, by its first bytes."""

from typing import BinaryIO

from gru_audio.audio.containers import (
    EMPTY,
    UNSUPPORTED,
    Unusable,
    apple,
    flac,
    mpeg,
    ogg,
    unix,
    wav,
)
from gru_audio.audio.containers.stream import Stream, file_size, joined, read_at, shifted
from gru_audio.audio.containers.tags import without_tags

# Sound that cannot be decoded or whose length cannot be checked: place and bytes.
_UNSUPPORTED = (
    *((4, b"ftyp"), (0, bytes.fromhex("3026B2758E66CF11")), (0, bytes.fromhex("1A45DFA3"))),
    *((0, b"#!AMR"), (0, b"MAC "), (0, b"wvpk"), (0, b"DSD "), (0, b"Creative Voice File")),
    *((0, b"MATLAB 5.0"), (0, b" paf"), (0, b"fap "), (0, b"PVF1\n"), (0, b"2BIT")),
    *((0, b"ADIF"), (0, bytes.fromhex("64A30100")), (0, bytes.fromhex("0001A364"))),
)


def probe(file: BinaryIO) -> Stream:
    """Which bytes of a file libsndfile is to decode, and how many frames must come out.

    Raises:
      Unusable: it is no sound, is of an unsupported kind, or what it says cannot be true.
    """
    size = file_size(file)
    if size == 0:
        raise Unusable(EMPTY)
    magic = read_at(file, 0, 4)
    if magic in wav.MAGICS:
        return wav.probe(file)
    if magic == apple.AIFF_MAGIC:
        return apple.probe_aiff(file)
    if magic == apple.CAF_MAGIC:
        return apple.probe_caf(file)
    if magic in unix.AU_MAGICS:
        return unix.probe_au(file)
    if magic == unix.NIST_MAGIC:
        return unix.probe_nist(file)
    if any(read_at(file, at, len(known)) == known for at, known in _UNSUPPORTED):
        raise Unusable(UNSUPPORTED)
    begin, end = without_tags(file, 0, size)
    if begin:
        return shifted(probe(joined(file, [(begin, size)])), begin)
    if magic == flac.MAGIC:
        return flac.probe(file, end)
    if magic == ogg.MAGIC:
        return ogg.probe(file, end)
    return mpeg.probe(file, 0, end)
