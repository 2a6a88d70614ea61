"""Sample rates: those that a file may have, and those that a user may ask for."""

from gru_audio.settings import UserError

RATES = range(100, 1_000_001)  # Hz, of files; resampling from others would fill the memory

_ASKED = range(400, 1_000_001)  # Hz; a lower number is most likely meant in kHz


def check_rate(rate: float) -> None:
    """Refuses a sample rate that a user has not given in Hz.

    Raises:
      UserError: it is too low, as if it were in kHz, too high, or not a whole number.
    """
    if _may_be_asked(rate):
        return
    in_hz = round(1000 * rate, 3)
    meant = f" Did you mean {in_hz:.0f}?" if rate < _ASKED[0] and _may_be_asked(in_hz) else ""
    raise UserError(
        f"A sample rate is a whole number of Hz from {_ASKED[0]} to {_ASKED[-1]}, not {rate:g}."
        f"{meant}"
    )


def _may_be_asked(rate: float) -> bool:
    return _ASKED[0] <= rate <= _ASKED[-1] and rate == int(rate)
