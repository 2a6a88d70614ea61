"""Bars of events over an excerpt."""

import numpy as np
import pytest

from gru_audio.data.fields import Event
from gru_audio.data.signal import Signal
from gru_audio.reports.event_plots import BarRow, bars
from gru_audio.reports.gate_plots import Excerpt


def excerpt(start=0.0, seconds=2.0, rate=1000):
    steps = np.zeros(round(seconds * rate), np.int16)
    whole = 10 * rate
    return Excerpt(Signal(rate), steps, round(start * rate), whole, np.zeros((1, 1)), ())


def test_bars_lie_at_the_times_of_events():
    found = bars([Event(1.5, 2.0, "b"), Event(0.5, 1.0, "a")], excerpt())
    assert [(bar.event.label, bar.left, bar.width, bar.lane) for bar in found] == [
        ("a", 25, 25, 0),
        ("b", 75, 25, 0),
    ]


def test_events_are_cut_at_the_ends_of_the_excerpt():
    events = [Event(0.0, 3.5, "a"), Event(4.5, 9.0, "b"), Event(5.0, 6.0, "later")]
    found = bars(events, excerpt(start=3))
    assert [(bar.left, bar.width) for bar in found] == [(0, 25), (pytest.approx(75), 25)]


def test_events_that_overlap_are_in_different_lanes():
    events = [Event(0.0, 1.0, "a"), Event(0.5, 1.5, "b"), Event(1.0, 2.0, "a")]
    found = bars(events, excerpt())
    assert [bar.lane for bar in found] == [0, 1, 0]
    assert BarRow("GRU", found).lanes == 2
    assert BarRow("GRU", ()).lanes == 1
