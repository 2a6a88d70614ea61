"""Metrics of events from predictions: ideal frames, weights, and the choice of a decoder."""

import math

import numpy as np
import pytest

from gru_audio.events.decode import Decoder
from gru_audio.events.metrics import OPTIMAL, Psds, Tolerance, active
from gru_audio.tasks.event_metrics import (
    ERROR_RATE,
    EVENT,
    F1,
    SEGMENT,
    Counted,
    FrameError,
    PolyphonicScore,
    SyllableErrorRate,
    choose,
    counted,
    decoder_of,
    with_decoder,
)
from tests.events.tables import CLASSES, of, random_pair

STEP = 0.02
METRICS = [
    FrameError(),
    SyllableErrorRate(),
    *counted(SEGMENT, segment_seconds=0.5),
    *counted(EVENT, Tolerance(0.1, None, matching=OPTIMAL)),
    PolyphonicScore(Psds(alpha_ct=0.5)),
]


def predictions_of(pairs, exclusive=False, noise=0.0, shortest=200) -> dict[str, np.ndarray]:
    """Frames of the second list of each pair, and the first list as reference."""
    rng = np.random.default_rng(0)
    most = max(len(reference.classes) for reference, _ in pairs)
    lengths = [shortest + 10 * i for i in range(len(pairs))]
    count = len(pairs)
    frames = np.full((count, max(lengths), CLASSES), np.nan, np.float16)
    times = np.zeros((count, max(most, 1), 2), np.float32)
    classes = np.full((count, max(most, 1)), -1, np.int32)
    for i, ((reference, system), length) in enumerate(zip(pairs, lengths, strict=True)):
        on = active(system, CLASSES, length, STEP)
        frames[i, :length] = 0.1 + 0.8 * on + noise * (rng.random(on.shape) - 0.5)
        times[i, : len(reference.classes)] = reference.times
        classes[i, : len(reference.classes)] = reference.classes
    if exclusive:
        frames = np.concatenate([np.full_like(frames[..., :1], 0.3), frames], axis=-1)
    predictions = {
        "frames": frames,
        "frame_count": np.array(lengths, np.int32),
        "step": np.full(count, STEP, np.float32),
        "first": np.zeros(count, np.float32),
        "times": times,
        "classes": classes,
        "counts": np.array([len(reference.classes) for reference, _ in pairs], np.int32),
    }
    return with_decoder(predictions, Decoder((0.0 if exclusive else 0.5,) * CLASSES, exclusive))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("exclusive", [False, True])
def test_ideal_frames_have_ideal_values(metric, exclusive):
    lists = [of((0.11, 0.5, 0), (0.5, 1.0, 1), (1.25, 3.31, 2)), of((0.0, 0.4, 2), (2, 3, 0))]
    predictions = predictions_of([(each, each) for each in lists], exclusive)
    assert metric.value(predictions) == metric.perfect


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_weights_repeat_recordings_and_contributions_are_derivatives(metric):
    pairs = [random_pair(seed) for seed in range(6)]
    predictions = predictions_of(pairs, noise=0.1)
    weights = np.array([1, 2, 0, 1, 3, 1])
    repeated = {k: np.repeat(v, weights, axis=0) for k, v in predictions.items()}
    value = metric.value(predictions)
    assert metric.value(predictions, weights) == pytest.approx(metric.value(repeated))
    contributions = metric.contributions(predictions)
    assert contributions.mean() == pytest.approx(value)
    change = 1e-4
    shifted = metric.value(predictions, 1 + change * np.eye(6)[2])
    slope = (shifted - value) / change
    assert contributions[2] == pytest.approx(value + 6 * slope, rel=1e-2, abs=2e-3)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (
            counted(SEGMENT),
            (0.8985507246376812, 0.17142857142857143, 0.8915444811707207, 0.20897435897435898),
        ),
        (
            counted(EVENT),
            (0.3731343283582089, 0.9390243902439024, 0.37142857142857144, 1.0238399318859088),
        ),
        (
            counted(EVENT, Tolerance(0.25, None)),
            (0.5223880597014926, 0.6707317073170732, 0.5174603174603175, 0.7835412777941514),
        ),
    ],
)
def test_f1_and_error_rates_are_those_of_sed_eval(metrics, expected):
    """Values of sed_eval 0.2.1 for the same lists: overall, and averages over classes."""
    predictions = predictions_of([random_pair(seed) for seed in range(8)])
    found = [metric.value(predictions) for metric in metrics]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_scores_of_classes_have_the_macro_average_as_their_mean():
    predictions = predictions_of([random_pair(seed) for seed in range(8)])
    for micro, error_rate, macro_f1, macro_error_rate in map(counted, (SEGMENT, EVENT)):
        assert micro.of_classes(predictions).mean() == pytest.approx(macro_f1.value(predictions))
        rates = error_rate.of_classes(predictions)
        assert rates.mean() == pytest.approx(macro_error_rate.value(predictions))


def test_classes_without_reference_are_left_out():
    reference, system = of((0, 1, 0)), of((0, 1, 0), (2, 3, 1))
    predictions = predictions_of([(reference, system)])
    assert Counted(SEGMENT, F1, macro=True).value(predictions) == 1
    assert Counted(SEGMENT, F1).value(predictions) == pytest.approx(2 / 3)
    empty = predictions_of([(of(), system)])
    for metric in METRICS[1:]:
        assert math.isnan(metric.value(empty))


def test_classes_that_are_never_detected_are_missed():
    """Such as classes that training lacks: their events are deletions, and their F1 is zero."""
    predictions = predictions_of([(of((0, 1, 0), (2, 3, 1)), of((0, 1, 0)))])
    for unit in (SEGMENT, EVENT):
        f1, error_rate, macro_f1, macro_error_rate = counted(unit)
        np.testing.assert_array_equal(f1.of_classes(predictions), [1, 0, np.nan])
        assert f1.value(predictions) == pytest.approx(2 / 3)
        assert macro_f1.value(predictions) == 1 / 2
        assert error_rate.value(predictions) == macro_error_rate.value(predictions) == 1 / 2
    assert SyllableErrorRate().value(predictions) == 1 / 2


def test_insertions_into_an_empty_recording_count():
    pairs = [(of((0, 1, 0)), of((0, 1, 0))), (of(), of((1, 2, 0)))]
    predictions = predictions_of(pairs)
    assert Counted(EVENT, ERROR_RATE).value(predictions) == 1
    assert SyllableErrorRate().value(predictions) == 1
    assert Counted(EVENT, ERROR_RATE).contributions(predictions).mean() == pytest.approx(1)


def test_frame_error_is_that_of_the_labels():
    reference, system = of((0.0, 1.0, 0)), of((0.0, 0.5, 0), (0.5, 1.0, 1))
    predictions = predictions_of([(reference, system)], shortest=100)
    assert FrameError().value(predictions) == pytest.approx(0.25)


def test_the_decoder_is_chosen_by_the_metric():
    """Short false alarms, one class that is never improbable, and one that is never probable."""
    lists = [random_pair(seed)[0] for seed in range(4)]
    predictions = predictions_of([(each, each) for each in lists])
    frames = predictions["frames"]
    frames[:, ::9] = np.maximum(frames[:, ::9], 0.85)
    frames[..., 0] = np.maximum(frames[..., 0], 0.45)
    frames[..., 1] *= 0.3
    metric = Counted(SEGMENT, ERROR_RATE, segment_seconds=STEP)
    chosen = choose(predictions, metric, CLASSES)
    assert chosen == choose(predictions, metric, CLASSES)
    assert not chosen.exclusive
    assert chosen.threshold[1] < 0.3 < chosen.threshold[0]
    assert max(chosen.median, chosen.duration) > STEP
    better = with_decoder(predictions, chosen)
    assert decoder_of(better).threshold == pytest.approx(chosen.threshold)
    assert metric.value(better) < 0.5 * metric.value(predictions)


def test_defaults_are_kept_where_nothing_is_better():
    lists = [of((0.1, 0.5, 0), (0.6, 1.0, 1))]
    predictions = predictions_of([(each, each) for each in lists], exclusive=True)
    assert choose(predictions, Counted(EVENT, F1), CLASSES) == Decoder((0.0,) * CLASSES, True)
    nothing = predictions_of([(of(), of())])
    assert choose(nothing, Counted(EVENT, F1), CLASSES) == Decoder((0.5,) * CLASSES)
