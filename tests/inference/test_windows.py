"""A model on windows: the same scores as for cut clips, and skipping if it is too slow."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.audio.live import cut
from gru_audio.inference.labels import Labels
from gru_audio.inference.windows import (
    Pace,
    label_live,
    label_recording,
    label_stream,
    window_streams,
)
from gru_audio.settings import UserError
from tests.exports.models import RATE, made
from tests.tones import tiny
from tests.trained import train

SIZE, HOP = 2000, 700
CAUSAL = made({"model.pooling": "mean", "frontend.deltas": 1})


@pytest.fixture(scope="module")
def trained(source):
    return train(source, tiny({"model.bidirectional": True}), 10)


@pytest.fixture(scope="module")
def blocks(source):
    """More than one batch of windows, in blocks of other sizes."""
    sound = np.concatenate(source.signals(np.arange(12)))
    return np.split(sound, range(1111, len(sound), 1111))


def scored_one_by_one(trained, blocks):
    """Scores each window as a clip without padding, with the model's program."""
    program = trained.program()
    variables = {"params": trained.weights.params}
    for window in cut(blocks, SIZE, HOP):
        clip, length = window.samples[None] / np.float32(32768), np.array([len(window.samples)])
        features, frames = program.frontend(clip, length)
        logits = program.model.apply(variables, trained.normalisation(features), frames).values
        yield np.exp(logits[0]) / np.exp(logits[0]).sum()


def test_windows_of_a_recording_have_the_scores_of_the_clips_cut_from_it(trained, blocks):
    found = list(label_recording(trained, blocks, SIZE, HOP))
    assert len(found) > 32
    expected = list(scored_one_by_one(trained, blocks))
    np.testing.assert_allclose([f.probabilities for f in found], expected, rtol=1e-4, atol=1e-5)
    assert found[0].start == 0
    assert found[-1].end == sum(map(len, blocks))


def test_live_windows_have_the_same_scores_and_smoothing_is_a_running_mean(trained, blocks):
    recorded = list(label_recording(trained, blocks, SIZE, HOP))
    patient = Pace(hop=1e9)
    live = list(label_live(trained, blocks, SIZE, HOP, smooth=1, pace=patient))
    smooth = list(label_live(trained, blocks, SIZE, HOP, smooth=3, pace=patient))
    assert [(f.start, f.end) for f in live] == [(f.start, f.end) for f in recorded]
    scores = np.array([f.probabilities for f in recorded])
    np.testing.assert_allclose([f.probabilities for f in live], scores, rtol=1e-5, atol=1e-6)
    for i, window in enumerate(smooth):
        mean = scores[max(0, i - 2) : i + 1].mean(axis=0)
        np.testing.assert_allclose(window.probabilities, mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "hop"), [(2000, 640), (1900, 160), (3200, 3200), (5000, 1600)])
@pytest.mark.parametrize("total", [100, 1900, 5000, 8001])
@pytest.mark.parametrize("smooth", [1, 2])
def test_streams_give_the_labels_of_windows(size, hop, total, smooth):
    sound = np.random.default_rng(0).integers(-9000, 9000, total).astype(np.int16)
    blocks = np.split(sound, range(333, total, 333))
    patient = Pace(hop=1e9)
    expected = list(label_live(CAUSAL, blocks, size, hop, smooth=smooth, pace=patient))
    stream = window_streams(CAUSAL, size, hop)
    found = list(label_stream(stream, blocks, size, hop, smooth=smooth))
    assert [(f.start, f.end) for f in found] == [(f.start, f.end) for f in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_the_label_of_a_window_comes_with_its_last_sample():
    arrived = 0

    def arriving():
        nonlocal arrived
        for _ in range(3 * RATE // 160):
            arrived += 160
            yield np.zeros(160, np.int16)

    stream = window_streams(CAUSAL, RATE // 2, RATE // 4)
    assert stream.streams == 3  # two, and the delay of deltas
    delay = stream.flush * stream.chunk
    for window in label_stream(stream, arriving(), RATE // 2, RATE // 4, smooth=1):
        assert window.end <= arrived <= window.end + delay


def test_no_sound_has_no_windows(trained):
    assert list(label_stream(window_streams(CAUSAL, 900, 900), [], 900, 900, smooth=1)) == []
    with pytest.raises(UserError, match="bidirectional"):
        window_streams(trained, SIZE, HOP)


def test_live_labels_of_a_bidirectional_model_are_those_of_windows(trained, blocks, capsys):
    options = {"top_k": 1, "threshold": None, "smooth": 1, "window": SIZE / RATE, "hop": HOP / RATE}
    Labels(trained, True, **options).live(blocks)
    captured = capsys.readouterr()
    assert "Each window is computed again: A bidirectional model" in captured.err
    ends = {json.loads(line)["end"] for line in captured.out.splitlines()}
    assert ends and ends <= {window.end / RATE for window in cut(blocks, SIZE, HOP)}


def test_a_slow_model_skips_windows(trained, blocks):
    pace, shown = Pace(hop=0.02), []
    for window in label_live(trained, blocks, SIZE, HOP, smooth=1, pace=pace):
        shown.append(window)
        time.sleep(0.08)  # four hops
    assert pace.skipped > len(shown)
    assert pace.skipped + len(shown) == len(list(cut(blocks, SIZE, HOP)))


@given(st.lists(st.floats(0, 5), min_size=1, max_size=50))
def test_a_window_begins_at_most_a_hop_late_where_one_comes_each_second(work):
    """Compares with a simulated queue in which a window arrives each second."""
    pace, free = Pace(hop=1.0), 0.0
    for i, seconds in enumerate(work):
        late = max(0.0, free - i)
        if pace.skips():
            assert late > 1 - 1e-6
        else:
            assert late < 1 + 1e-6
            free = max(free, i) + seconds
            pace.worked(seconds)


def test_a_fast_model_skips_nothing():
    pace = Pace(hop=0.5)
    for _ in range(100):
        assert not pace.skips()
        pace.worked(0.4)
    assert pace.skipped == 0
