"""Cutting recordings into windows: all of the sound, however it comes in blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.audio.windows import cut


@st.composite
def cuttings(draw):
    """Sound, the borders of its blocks, a window's size and a hop."""
    sound = np.arange(draw(st.integers(0, 60)), dtype=np.int16)
    borders = sorted(draw(st.lists(st.integers(0, len(sound)), max_size=6)))
    size = draw(st.integers(1, 20))
    return sound, borders, size, draw(st.integers(1, size))


@given(cuttings())
def test_windows_cover_everything_and_are_what_the_sound_has_there(cutting):
    sound, borders, size, hop = cutting
    windows = list(cut(np.split(sound, borders), size, hop))
    covered = np.zeros(len(sound), bool)
    for window in windows:
        np.testing.assert_array_equal(window.samples, sound[window.start : window.end])
        covered[window.start : window.end] = True
    assert covered.all()


@given(cuttings())
def test_windows_have_one_size_and_one_hop_and_the_last_ends_with_the_sound(cutting):
    sound, borders, size, hop = cutting
    windows = list(cut(np.split(sound, borders), size, hop))
    assert all(len(window.samples) == min(size, len(sound)) for window in windows)
    starts = [window.start for window in windows]
    assert starts[:-1] == [hop * i for i in range(len(starts))][:-1]
    assert all(0 < step <= hop for step in np.diff(starts))
    assert not windows or windows[-1].end == len(sound)


def test_no_more_is_held_than_a_window_and_a_block():
    blocks = iter([np.zeros(10, np.int16)] * 5)
    windows = cut(blocks, 15, 5)
    assert next(windows).start == 0
    assert len(list(blocks)) == 3
