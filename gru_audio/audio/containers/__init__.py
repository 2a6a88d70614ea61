"""What a sound file holds, read from its own bytes before libsndfile decodes it.

libsndfile reads a damaged file as well as it can and says nothing. So each module here parses the
headers of one family of files and compares what they say with the bytes that are there. `probe`
returns which bytes to decode and how many frames must come out, or raises `Unusable`.
"""

from gru_audio.audio.rates import RATES

TRUNCATED = "truncated"
EMPTY = "empty"
CONTRADICTORY = "contradictory header"
DAMAGED = "damaged"
SILENT = "silent"
NON_FINITE = "non-finite"
NOT_AUDIO = "not audio"
NOT_A_FILE = "not a regular file"
SEVERAL = "several streams in one file"
UNSUPPORTED = "unsupported format: convert it to WAV or FLAC"
TOO_LONG = "too long for one clip: cut it, or list its parts with start and end in a manifest"

REASONS = (
    *(TRUNCATED, EMPTY, CONTRADICTORY, DAMAGED, SILENT, NON_FINITE, NOT_AUDIO),
    *(NOT_A_FILE, SEVERAL, UNSUPPORTED, TOO_LONG),
)

CHANNELS = range(1, 1025)  # libsndfile's limit


class Unusable(Exception):
    """A file that cannot be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def check_rate_and_channels(rate: float, channels: int) -> None:
    """Raises `Unusable` for a rate in Hz or a number of channels that no recording has."""
    if not RATES[0] <= rate <= RATES[-1] or channels not in CHANNELS:
        raise Unusable(CONTRADICTORY)
