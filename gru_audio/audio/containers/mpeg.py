"""MP3, frame by frame (ISO/IEC 11172-3 and 13818-3).

Only a Xing header states the length of an MP3, and it may be missing or wrong. Without one,
libsndfile estimates the length from the first frames, which fails for a variable bit rate. So this
module counts the frames, and adds a header with their number if there is none.

mpg123 decodes MP3 for libsndfile. It returns zeros for a granule that it cannot decode, and reports
the error on the terminal only. The side information of a granule states whether it is silent.
`Silences` compares the two.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from gru_audio.audio.containers.stream import (
    CONTRADICTORY,
    DAMAGED,
    EMPTY,
    MOST_TAGS,
    NOT_AUDIO,
    TRUNCATED,
    Stream,
    Unusable,
    check_rate_and_channels,
    exactly,
    is_zero,
    read_at,
    tag_length,
)

_GRANULE = 576  # samples
_VERSION_1 = 3
_MONO = 3
_LAYER = {3: 1, 2: 2, 1: 3}  # by the two layer bits
_KBPS = {  # by (version is 1, layer)
    (True, 1): tuple(range(0, 449, 32)),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version

_XING_FIELDS = {1: 4, 2: 4, 4: 100, 8: 4}  # bytes by flag: frames, bytes, seek table, quality
_SEARCHED = 1 << 16  # bytes that are searched for the first frame
_MOST_ADDED = 3 * 1152  # samples that an encoder may add at one end
_DECODER_DELAY = 529  # samples that mpg123 drops if there is a header


@dataclass(frozen=True)
class Frame:
    """A frame header; `size` is the bytes of the frame, including the 4 bytes of its header."""

    version: int
    layer: int
    rate: int
    channels: int
    checksum: bool
    size: int

    @property
    def samples(self) -> int:
        """Samples per channel."""
        if self.layer == 1:
            return 384
        return 576 if self.layer == 3 and self.version != _VERSION_1 else 1152

    @property
    def side(self) -> int:
        """Position of the side information of layer III in the frame, in bytes."""
        return 6 if self.checksum else 4

    @property
    def side_length(self) -> int:
        """Length of the side information of layer III, in bytes."""
        if self.version == _VERSION_1:
            return 17 if self.channels == 1 else 32
        return 9 if self.channels == 1 else 17

    def matches(self, other: "Frame") -> bool:
        """Whether both frames can belong to one stream."""
        return (self.version, self.layer, self.rate) == (other.version, other.layer, other.rate)


@functools.lru_cache(maxsize=4096)
def parse_frame(header: bytes) -> Frame | None:
    """Parses the 4 bytes of a frame header; None: no header, or one of the free format."""
    bits = int.from_bytes(header, "big")
    version, layer, kbps, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if len(header) < 4 or bits >> 21 != 0x7FF or version == 1 or layer not in _LAYER:
        return None
    if kbps in (0, 15) or rate == 3:
        return None
    hertz, layer = _RATES[version][rate], _LAYER[layer]
    bits_per_second = 1000 * _KBPS[version == _VERSION_1, layer][kbps]
    channels = 1 if bits >> 6 & 3 == _MONO else 2
    padding, checksum = bits >> 9 & 1, not bits >> 16 & 1
    if layer == 1:
        size = 4 * (12 * bits_per_second // hertz + padding)
    else:
        halves = layer == 3 and version != _VERSION_1
        size = (72 if halves else 144) * bits_per_second // hertz + padding
    return Frame(version, layer, hertz, channels, checksum, size)


def probe(file: BinaryIO, begin: int, end: int) -> Stream:
    """Counts the frames between two positions of a file.

    Raises:
      Unusable: there is no frame, the number of frames contradicts the header, the last frame is
        truncated, or there are other bytes between the frames.
    """
    at, first = _first_frame(file, begin, end)
    check_rate_and_channels(first.rate, first.channels)
    head = read_at(file, at, first.size)
    info = _info(head, first)
    ranges: list[tuple[int, int]] = []
    count, tags, problem = 0, 0, None
    while at < end:
        header = read_at(file, at, min(4, end - at))
        frame = parse_frame(header)
        if frame and frame.matches(first):
            frame_end = at + frame.size
            if frame_end > end:
                problem = TRUNCATED
                break
            if ranges and ranges[-1][1] == at:
                at = ranges.pop()[0]
            ranges.append((at, frame_end))
            count += 1
            at = frame_end
        elif tags < MOST_TAGS and (length := tag_length(file, at, end)):
            tags, at = tags + 1, at + length
        else:
            partial = len(header) < 4 and header[:1] == b"\xff"
            problem = None if is_zero(file, at, end) else TRUNCATED if partial else DAMAGED
            break

    if info is None:
        if problem:
            raise Unusable(problem)
        return _stream(first, head, count, ranges)
    count -= 1
    if info.frames in (None, count) or _counts_itself(info, count, ranges):
        if problem and info.frames != count:
            raise Unusable(problem)
        if info.trusted and info.frames == count:
            frames = count * first.samples - info.skipped
            return Stream(tuple(ranges), first.rate, first.channels, exactly(frames))
        ranges[0] = (ranges[0][0] + first.size, ranges[0][1])
        return _stream(first, head, count, ranges)
    raise Unusable(problem or (TRUNCATED if count < info.frames else CONTRADICTORY))


def _first_frame(file: BinaryIO, begin: int, end: int) -> tuple[int, Frame]:
    """Returns the first frame that is followed by another frame or by the end of the sound."""
    searched = read_at(file, begin, min(_SEARCHED, end - begin))
    at = -1
    while (at := searched.find(b"\xff", at + 1)) >= 0:
        frame = parse_frame(searched[at : at + 4])
        if frame:
            frame_end = begin + at + frame.size
            following = parse_frame(read_at(file, frame_end, 4))
            if (following and following.matches(frame)) or _ends(file, frame_end, end):
                return begin + at, frame
    raise Unusable(NOT_AUDIO)


def _ends(file: BinaryIO, at: int, end: int) -> bool:
    """Returns whether no frame can follow: this is the end, or a tag and then the end."""
    return at == end or (at < end and at + tag_length(file, at, end) == end)


def _counts_itself(info: "_Info", count: int, ranges: list[tuple[int, int]]) -> bool:
    """Returns whether the header's count differs by one frame, and its number of bytes is right.

    Some programs count the header itself as a frame.
    """
    total = sum(end - begin for begin, end in ranges)
    return info.frames in (count - 1, count + 1) and info.bytes == total


def _stream(first: Frame, head: bytes, count: int, ranges: list[tuple[int, int]]) -> Stream:
    """Returns the stream of `count` frames without a header; layer III gets a new header."""
    if count <= 0:
        raise Unusable(EMPTY)
    header = (_info_frame(head, count),) if first.layer == 3 else ()
    frames = count * first.samples - _DECODER_DELAY * len(header)
    return Stream((*header, *ranges), first.rate, first.channels, exactly(frames))


@dataclass(frozen=True)
class _Info:
    """The content of a Xing or VBRI header.

    Attributes:
      frames: number of frames after the header; None: not stated.
      bytes: of all frames and the header; None: not stated.
      skipped: samples at both ends that do not belong to the sound.
      trusted: whether mpg123 interprets the header in the same way.
    """

    frames: int | None
    bytes: int | None = None
    skipped: int = 0
    trusted: bool = True


def _info(frame: bytes, about: Frame) -> _Info | None:
    """Parses a header in the first frame; None: the frame contains sound."""
    if about.layer != 3:
        return None
    if frame[36:40] == b"VBRI":
        size, frames = int.from_bytes(frame[46:50], "big"), int.from_bytes(frame[50:54], "big")
        return _Info(frames, size, trusted=False)
    for at in {about.side + about.side_length, 4 + about.side_length}:
        if frame[at : at + 4] in (b"Xing", b"Info"):
            flags, at = int.from_bytes(frame[at + 4 : at + 8], "big"), at + 8
            values = {}
            for flag, size in _XING_FIELDS.items():
                if flags & flag:
                    values[flag] = int.from_bytes(frame[at : at + size], "big")
                    at += size
            return _Info(values.get(1), values.get(2), _skipped(frame[at:]))
    return None


def _skipped(encoder: bytes) -> int:
    """Returns the samples that the decoder drops, from the delay and padding of the encoder."""
    both = int.from_bytes(encoder[21:24], "big")
    delay, padding = both >> 12, both & 0xFFF
    if delay > _MOST_ADDED or padding > _MOST_ADDED:
        raise Unusable(CONTRADICTORY)
    return delay + _DECODER_DELAY + max(0, padding - _DECODER_DELAY)


def _info_frame(like: bytes, count: int) -> bytes:
    """Returns an Info header for `count` frames: a silent frame of the largest size."""
    bits = int.from_bytes(like[:4], "big") & ~(0xF << 12 | 1 << 9) | 14 << 12 | 1 << 16
    header = bits.to_bytes(4, "big")
    about = parse_frame(header)
    assert about
    info = b"Info" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return (header + bytes(about.side_length) + info).ljust(about.size, b"\0")


class Silences:
    """Compares the silent granules of the decoded sound with those that the frames state."""

    def __init__(self) -> None:
        self._at = 0  # number of samples so far
        self._runs: list[list[int]] = []  # runs of zeros in all channels: begin and end

    def add(self, block: np.ndarray) -> None:
        """Adds the next samples (frames, channels)."""
        edges = _edges(np.all(block == 0, axis=1)) + self._at
        if len(edges) and self._runs and self._runs[-1][1] == edges[0, 0]:
            self._runs[-1][1] = int(edges[0, 1])
            edges = edges[1:]
        self._runs += edges.tolist()
        self._at += len(block)

    def unexplained(self, file: BinaryIO) -> bool:
        """Returns whether more granules are zero than the frames state.

        `file` must contain only frames.
        """
        decoded = _granules(np.array(self._runs).reshape(-1, 2), self._at, _GRANULE)
        if not any(decoded):
            return False
        silent = np.array(list(_silent_granules(file)), bool)
        stated = _granules(_edges(silent), len(silent), 1)
        return any(d > s for d, s in zip(decoded, stated, strict=True))


def _edges(silent: np.ndarray) -> np.ndarray:
    """Returns begin and end of each run of True, (runs, 2)."""
    return np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2)


def _granules(edges: np.ndarray, length: int, unit: int) -> tuple[int, int, int]:
    """Counts complete granules in runs at the beginning, in the middle and at the end.

    Encoders add silence at the beginning and the end, so these are counted separately.
    """
    units = (edges[:, 1] - edges[:, 0]) // unit
    first = edges[:, 0] == 0
    last = (edges[:, 1] == length) & ~first
    return units[first].sum(), units[~first & ~last].sum(), units[last].sum()


def _silent_granules(file: BinaryIO) -> Iterator[bool]:
    """Yields for each granule whether it has no values in any channel."""
    at = 0
    while frame := parse_frame(header := read_at(file, at, 4)):
        yield from _silent_in_frame(header + file.read(frame.size - 4), frame)
        at += frame.size


def _silent_in_frame(data: bytes, frame: Frame) -> Iterator[bool]:
    if frame.version == _VERSION_1:
        granules, first, width = 2, (18, 20)[frame.channels - 1], 59  # bits
    else:
        granules, first, width = 1, (9, 10)[frame.channels - 1], 63
    side = int.from_bytes(data[frame.side : frame.side + 32].ljust(32, b"\0"), "big")
    for granule in range(granules):
        begins = [first + width * (granule * frame.channels + c) for c in range(frame.channels)]
        # The 9 bits of "big_values" follow the 12 bits of "part2_3_length".
        yield all(side >> (256 - begin - 12 - 9) & 0x1FF == 0 for begin in begins)
