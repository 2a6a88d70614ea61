"""Sample rates that users ask for."""

import math

import pytest

from gru_audio.audio.rates import check_rate
from gru_audio.settings import UserError


@pytest.mark.parametrize("rate", [400, 8000, 11025, 44100.0, 192000, 1_000_000])
def test_rates_in_hz_are_taken(rate):
    check_rate(rate)


@pytest.mark.parametrize(
    ("rate", "meant"), [(8, 8000), (16, 16000), (11.025, 11025), (44.1, 44100), (192, 192000)]
)
def test_a_rate_in_khz_is_told_in_hz(rate, meant):
    with pytest.raises(UserError, match=rf"not {rate}\. Did you mean {meant}\?"):
        check_rate(rate)


@pytest.mark.parametrize("rate", [0, -16, 0.25, 8000.5, 1_000_001, 1e9, math.inf, math.nan])
def test_other_rates_are_refused(rate):
    with pytest.raises(UserError, match="from 400 to 1000000") as caught:
        check_rate(rate)
    assert "mean" not in str(caught.value)
