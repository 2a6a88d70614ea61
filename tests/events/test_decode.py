"""Decoding of frames to events, against a slow reference, and in blocks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.events.decode import Decoder, DecoderStream

STEP = 0.01


def reference(frames: np.ndarray, decoder: Decoder, step: float) -> list[tuple[int, int, int]]:
    """The events of classes that may overlap, frame by frame: (start, stop, class)."""
    half = math.floor(decoder.median / step / 2 + 1e-5)
    padded = np.pad(frames, ((half, half), (0, 0)))
    events = []
    for label, threshold in enumerate(decoder.threshold):
        windows = [padded[i : i + 2 * half + 1, label] for i in range(len(frames))]
        active = [np.median(window) >= threshold for window in windows]
        runs, start = [], 0
        for on, group in itertools.groupby(active):
            stop = start + len(list(group))
            if on and (stop - start) * step >= decoder.duration - 1e-6:
                runs.append([start, stop])
            start = stop
        joined = []
        for run in runs:
            if joined and (run[0] - joined[-1][1]) * step < decoder.gap - 1e-6:
                joined[-1][1] = run[1]
            else:
                joined.append(run)
        events += [(start, stop, label) for start, stop in joined]
    return sorted(events)


def in_frames(events, step: float) -> list[tuple[int, int, int]]:
    frames = np.round(events.times / step).astype(int)
    return [
        (*pair, label) for pair, label in zip(frames.tolist(), events.classes.tolist(), strict=True)
    ]


def random_frames(rng: np.random.Generator, count: int, classes: int) -> np.ndarray:
    """Probabilities that change slowly, with some noise."""
    slow = np.repeat(rng.random((count // 5 + 1, classes)), 5, axis=0)[:count]
    return 0.7 * slow + 0.3 * rng.random((count, classes))


durations = st.sampled_from([0.0, 0.01, 0.02, 0.03, 0.05, 0.08])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 80), durations, durations, durations)
def test_overlapping_events_are_those_of_the_reference(seed, count, median, duration, gap):
    decoder = Decoder((0.5, 0.4, 0.7), False, median, duration, gap)
    frames = random_frames(np.random.default_rng(seed), count, 3)
    found = in_frames(decoder.decode(frames, STEP), STEP)
    assert sorted(found) == reference(frames, decoder, STEP)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 80), st.booleans(), durations, durations, durations)
def test_blocks_give_the_events_of_the_whole(seed, count, exclusive, median, duration, gap):
    rng = np.random.default_rng(seed)
    decoder = Decoder((0.3, 0.4, 0.5), exclusive, median, duration, gap)
    frames = random_frames(rng, count, 3 + exclusive)
    whole = decoder.decode(frames, STEP, 1.5)
    stream = DecoderStream(decoder, STEP, 1.5)
    blocks = np.split(frames, np.sort(rng.integers(0, count + 1, rng.integers(0, 12))))
    parts = [*(stream.push(block) for block in blocks), stream.close()]
    times = np.concatenate([part.times for part in parts])
    classes = np.concatenate([part.classes for part in parts])
    order = np.lexsort((classes, times[:, 1], times[:, 0]))
    np.testing.assert_array_equal(times[order], whole.times)
    np.testing.assert_array_equal(classes[order], whole.classes)


def exclusive(labels: str, **parameters) -> list[tuple[int, int, int]]:
    """Decodes one frame of 10 ms for each digit."""
    frames = np.eye(4)[[int(label) for label in labels]]
    return in_frames(Decoder((0.0,) * 3, True, **parameters).decode(frames, STEP), STEP)


@pytest.mark.parametrize(
    ("labels", "duration", "gap", "events"),
    [
        # Neighbours that touch stay apart, whatever their lengths.
        ("0111122222220", 0.03, 0, [(1, 5, 0), (5, 12, 1)]),
        ("00110", 0.03, 0, []),
        ("00110", 0.02, 0, [(2, 4, 0)]),
        # A short one becomes a part of the one before it, or else of the one after it.
        ("0111121110", 0.03, 0, [(1, 9, 0)]),
        ("0023330", 0.03, 0, [(2, 6, 2)]),
        ("0111230", 0.03, 0, [(1, 6, 0)]),
        # Short ones that touch are one event if they are long enough together.
        ("0112110", 0.03, 0, [(1, 6, 0)]),
        ("0110220", 0.03, 0, []),
        # Gaps are filled within a class only.
        ("0111011102220", 0, 0.02, [(1, 8, 0), (9, 12, 1)]),
        ("1100110", 0, 0.02, [(0, 2, 0), (4, 6, 0)]),
        ("", 0.03, 0.02, []),
    ],
)
def test_exclusive_events(labels, duration, gap, events):
    assert exclusive(labels, duration=duration, gap=gap) == events


def test_the_median_filter_removes_single_frames():
    assert exclusive("0111011101000", median=0.03) == [(1, 9, 0)]


def test_a_threshold_replaces_an_improbable_class_by_the_background():
    frames = np.array([[0.1, 0.5, 0.4], [0.2, 0.7, 0.1]])
    assert in_frames(Decoder((0.6, 0.6), True).decode(frames, STEP), STEP) == [(1, 2, 0)]


def test_parameters_mean_the_same_at_any_step():
    """A frame of 20 ms equals two of 10 ms, but for the median filter's window."""
    frames = random_frames(np.random.default_rng(3), 200, 2)
    decoder = Decoder((0.5, 0.5), duration=0.06, gap=0.04)
    coarse = decoder.decode(frames, 0.02, 3.0)
    fine = decoder.decode(np.repeat(frames, 2, axis=0), 0.01, 3.0)
    np.testing.assert_allclose(coarse.times, fine.times)
    assert coarse.times.min() >= 3


def test_events_come_as_soon_as_they_are_certain():
    stream = DecoderStream(Decoder((0.5,), gap=0.03), STEP)
    frames = np.array([1, 1, 0, 0, 0, 0, 1.0])[:, None]
    counts = [len(stream.push(frames[i : i + 1]).classes) for i in range(len(frames))]
    assert counts == [0, 0, 0, 0, 1, 0, 0]
    assert len(stream.close().classes) == 1


def test_frames_of_another_width_are_an_error():
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        Decoder((0.5, 0.5), True).decode(np.zeros((4, 2)), STEP)
    with pytest.raises(ValueError, match="at least 0"):
        Decoder((0.5,), gap=-1.0)
