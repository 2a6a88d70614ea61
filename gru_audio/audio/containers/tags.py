"""Tags around the sound of a file: names, lyrics and pictures, which any program may add."""

import re
from typing import BinaryIO

from gru_audio.audio.containers import DAMAGED, TRUNCATED, Unusable

MOST_TAGS = 100  # of one file

_ID3V1, _ID3V1_MORE = 128, 227  # bytes
_ID3V2_HEADER = 10
_APE_FOOTER = 32
_APE_HAS_HEADER, _APE_IS_HEADER = 1 << 31, 1 << 29  # flags
_LYRICS_LONGEST = 1 << 20  # bytes


def without_tags(file: BinaryIO, begin: int, end: int) -> tuple[int, int]:
    """The range between two places of a file without the tags at its beginning and its end.

    Raises:
      Unusable: a tag at the beginning is longer than the file, or there are too many.
    """
    for _ in range(MOST_TAGS):
        length = tag_length(file, begin, end)
        if begin + length > end:
            raise Unusable(TRUNCATED)
        begin += length
        before = _tag_before(file, begin, end)
        end -= before
        if not (length or before):
            return begin, end
    raise Unusable(DAMAGED)


def tag_length(file: BinaryIO, at: int, end: int) -> int:
    """Bytes of the tag that begins at a place of a file; 0: none does."""
    file.seek(at)
    head = file.read(_APE_FOOTER)
    if head[:3] == b"ID3" and len(head) >= _ID3V2_HEADER and head[3] < 0xFF:
        size = _syncsafe(head[6:10])
        return 0 if size is None else _ID3V2_HEADER + size + _ID3V2_HEADER * (head[5] >> 4 & 1)
    if head[:8] == b"APETAGEX" and len(head) == _APE_FOOTER:
        flags = int.from_bytes(head[20:24], "little")
        size = int.from_bytes(head[12:16], "little")
        return _APE_FOOTER + (size if flags & _APE_IS_HEADER else 0)
    if head[:4] == b"TAG+" and end - at >= _ID3V1_MORE + _ID3V1:
        return _ID3V1_MORE
    if head[:3] == b"TAG" and end - at >= _ID3V1:
        return _ID3V1
    if head[:11] == b"LYRICSBEGIN":
        file.seek(at)
        found = re.search(rb"LYRICS(END|200)", file.read(min(end - at, _LYRICS_LONGEST)))
        return found.end() if found else 0
    return 0


def _tag_before(file: BinaryIO, begin: int, end: int) -> int:
    """Bytes of the tag that ends at a place of a file; 0: none does, or none that fits."""
    length = _length_before(file, begin, end)
    return length if length <= end - begin else 0


def _length_before(file: BinaryIO, begin: int, end: int) -> int:
    def last(count: int) -> bytes:
        file.seek(max(begin, end - count))
        return file.read(min(count, end - begin))

    if last(_ID3V1)[:3] == b"TAG":
        return _ID3V1
    if last(_ID3V1_MORE)[:4] == b"TAG+":
        return _ID3V1_MORE
    footer = last(_APE_FOOTER)
    if footer[:8] == b"APETAGEX":
        flags = int.from_bytes(footer[20:24], "little")
        size = int.from_bytes(footer[12:16], "little")
        return size + _APE_FOOTER * bool(flags & _APE_HAS_HEADER)
    if footer[-10:-7] == b"3DI":
        return (_syncsafe(footer[-4:]) or 0) + 2 * _ID3V2_HEADER
    if footer.endswith(b"LYRICS200") and footer[-15:-9].isdigit():
        return int(footer[-15:-9]) + 15
    if footer.endswith(b"LYRICSEND"):
        lyrics = last(_LYRICS_LONGEST)
        found = lyrics.rfind(b"LYRICSBEGIN")
        return len(lyrics) - found if found >= 0 else 0
    return 0


def _syncsafe(four: bytes) -> int | None:
    """A number of 28 bits, seven in each byte; None: there is an eighth."""
    if max(four) > 0x7F:
        return None
    return four[0] << 21 | four[1] << 14 | four[2] << 7 | four[3]
