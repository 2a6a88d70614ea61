"""Segments compared with the label of every sample."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.inference.segments import Found, Segment, segments


def window(start: int, end: int, *probabilities: float) -> Found:
    return Found(start, end, np.array(probabilities, np.float32))


@st.composite
def findings(draw):
    """Windows of one size with overlaps; the last overlap may differ."""
    size = draw(st.integers(2, 9))
    hop = draw(st.integers(1, size))
    starts = [hop * i for i in range(draw(st.integers(0, 12)))]
    if starts:
        starts.append(starts[-1] + draw(st.integers(1, hop)))
    chances = st.sampled_from([0.25, 0.5, 0.625, 0.75])
    return [
        window(start, start + size, p, 1 - p) for start, p in ((s, draw(chances)) for s in starts)
    ]


@given(findings(), st.sampled_from([0.0, 0.6, 0.7]))
def test_every_sample_has_the_label_of_the_window_whose_middle_is_nearest(found, threshold):
    told = {}
    for segment in segments(found, threshold):
        assert segment.start < segment.end
        for sample in range(segment.start, segment.end):
            assert sample not in told
            told[sample] = segment.label
    for sample in range(found[-1].end if found else 0):
        distance = [abs(2 * sample + 1 - w.start - w.end) for w in found]
        nearest = [w for w, d in zip(found, distance, strict=True) if d <= min(distance) + 1]
        labels = {
            int(w.probabilities.argmax()) if w.probabilities.max() >= threshold else None
            for w in nearest
        }
        assert told.get(sample) in labels


@given(findings())
def test_neighbouring_segments_differ_and_leave_no_gap(found):
    parts = list(segments(found))
    for one, following in itertools.pairwise(parts):
        assert one.end == following.start
        assert one.label != following.label
    assert sum(part.windows for part in parts) == len(found)


def test_a_segment_has_its_windows_mean_probability():
    found = [window(0, 4, 0.9, 0.1), window(2, 6, 0.7, 0.3), window(4, 8, 0.8, 0.2)]
    (segment,) = segments(found)
    assert (segment.start, segment.end, segment.label) == (0, 8, 0)
    np.testing.assert_allclose(segment.probability, 0.8, rtol=1e-6)


def test_tags_have_separate_segments():
    found = [window(0, 4, 0.75, 0.25), window(4, 8, 0.75, 0.5), window(8, 12, 0.25, 0.75)]
    told = list(segments(found, 0.5, several=True))
    assert told == [Segment(0, 8, 0, 0.75, 2), Segment(4, 12, 1, 0.625, 2)]


@given(findings(), st.sampled_from([0.3, 0.6, 0.7]))
def test_segments_of_a_tag_do_not_depend_on_other_tags(found, threshold):
    """Compares with the segments of a model with this tag alone."""
    told = list(segments(found, threshold, several=True))
    for tag in (0, 1):
        alone = [window(f.start, f.end, f.probabilities[tag]) for f in found]
        expected = [(s.start, s.end, s.probability) for s in segments(alone, threshold)]
        assert [(s.start, s.end, s.probability) for s in told if s.label == tag] == expected


def test_an_improbable_window_separates_two_segments():
    found = [window(0, 4, 0.75, 0.25), window(2, 6, 0.5, 0.5), window(4, 8, 0.75, 0.25)]
    assert list(segments(found, 0.6)) == [Segment(0, 3, 0, 0.75), Segment(5, 8, 0, 0.75)]
