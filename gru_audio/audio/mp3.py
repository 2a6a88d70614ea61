"""What the frames of an MP3 say about themselves (ISO/IEC 11172-3 and 13818-3, layer III).

mpg123, which decodes MP3 for libsndfile, gives zeros for a granule that it cannot make sense of,
and tells nobody but the terminal. A granule that is silent on purpose says so in its side
information.
"""

from collections.abc import Iterator

import numpy as np

_GRANULE = 576  # samples

_LAYER_III = 1
_MONO = 3
_KBPS = {  # by whether the version is 1
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version


def has_unexplained_silence(data: bytes, waveform: np.ndarray) -> bool:
    """Whether `waveform` (frames, channels) has more granules of zeros than the file speaks of."""
    found = _stretches(np.all(waveform == 0, axis=1), _GRANULE)
    if not any(found):
        return False
    said = _stretches(np.array(list(_silent_granules(data)), bool), 1)
    return any(more > less for more, less in zip(found, said, strict=True))


def _stretches(silent: np.ndarray, unit: int) -> tuple[int, int, int]:
    """Whole units of silence at the beginning, where encoders add some, between, and at the end."""
    edges = np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2)
    units = (edges[:, 1] - edges[:, 0]) // unit
    first = edges[:, 0] == 0
    last = (edges[:, 1] == len(silent)) & ~first
    return units[first].sum(), units[~first & ~last].sum(), units[last].sum()


def _silent_granules(data: bytes) -> Iterator[bool]:
    """Of each granule, frame by frame, whether it has no values at all, in none of its channels."""
    at = 0
    while (at := data.find(b"\xff", at)) >= 0:
        size = _frame_bytes(data[at : at + 4])
        if not size:
            at += 1
            continue
        yield from _silent_in_frame(data[at : at + size])
        at += size


def _frame_bytes(header: bytes) -> int:
    """The length of the frame with this header; 0: it is none."""
    bits = int.from_bytes(header, "big")
    version, layer, kbps, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if len(header) < 4 or bits >> 21 != 0x7FF or version == 1 or layer != _LAYER_III:
        return 0
    if kbps in (0, 15) or rate == 3:
        return 0
    granules = 2 if version == 3 else 1
    bytes_per_second = 125 * _KBPS[version == 3][kbps]
    return _GRANULE * granules * bytes_per_second // _RATES[version][rate] + (bits >> 9 & 1)


def _silent_in_frame(frame: bytes) -> Iterator[bool]:
    header = int.from_bytes(frame[:4], "big")
    channels = 1 if header >> 6 & 3 == _MONO else 2
    if header >> 19 & 3 == 3:  # version 1
        granules, first, width = 2, (18, 20)[channels - 1], 59  # bits
    else:
        granules, first, width = 1, (9, 10)[channels - 1], 63
    start = 4 if header >> 16 & 1 else 6  # bytes: behind a checksum
    side = int.from_bytes(frame[start : start + 32].ljust(32, b"\0"), "big")
    for granule in range(granules):
        begins = [first + width * (granule * channels + c) for c in range(channels)]
        # Behind the 12 bits of "part2_3_length" come the 9 of "big_values".
        yield all(side >> (256 - begin - 12 - 9) & 0x1FF == 0 for begin in begins)
