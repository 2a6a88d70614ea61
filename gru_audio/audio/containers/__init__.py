"""Checks of sound files, from their own bytes, before libsndfile decodes them.

libsndfile decodes a damaged file as far as it can and reports no error. So each module of this
package parses the headers of one family of files, and compares them with the bytes of the file.
"""

from typing import BinaryIO

from gru_audio.audio.containers import apple, flac, mpeg, ogg, unix, wav
from gru_audio.audio.containers.stream import (
    CONTRADICTORY,
    DAMAGED,
    EMPTY,
    NON_FINITE,
    NOT_A_FILE,
    REASONS,
    SILENT,
    TOO_LONG,
    TRUNCATED,
    UNSUPPORTED,
    Stream,
    Unusable,
    file_size,
    joined,
    read_at,
    shifted,
    without_tags,
)

__all__ = [
    "CONTRADICTORY",
    "DAMAGED",
    "EMPTY",
    "NON_FINITE",
    "NOT_A_FILE",
    "REASONS",
    "SILENT",
    "TOO_LONG",
    "TRUNCATED",
    "UNSUPPORTED",
    "Stream",
    "Unusable",
    "joined",
    "probe",
]

# Formats that cannot be decoded, or whose length cannot be checked: position and bytes.
_UNSUPPORTED = (
    *((4, b"ftyp"), (0, bytes.fromhex("3026B2758E66CF11")), (0, bytes.fromhex("1A45DFA3"))),
    *((0, b"#!AMR"), (0, b"MAC "), (0, b"wvpk"), (0, b"DSD "), (0, b"Creative Voice File")),
    *((0, b"MATLAB 5.0"), (0, b" paf"), (0, b"fap "), (0, b"PVF1\n"), (0, b"2BIT")),
    *((0, b"ADIF"), (0, bytes.fromhex("64A30100")), (0, bytes.fromhex("0001A364"))),
)


def probe(file: BinaryIO) -> Stream:
    """Returns the bytes for libsndfile to decode, and the number of frames that must come out.

    Raises:
      Unusable: the file is not audio, has an unsupported format, or contradicts itself.
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
