"""The function that is exported computes what the trained model computes."""

import jax
import numpy as np
import pytest

from gru_audio.data.signal import frames
from gru_audio.exports.function import difference, make_function
from gru_audio.settings import UserError
from tests.exports.models import RATE, function_of, made


def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(-9000, 9000, size).astype(np.int16) for size in (RATE // 2, 2000, 300)]


def padded(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows], np.int32)
    filled = np.ones((len(rows), lengths.max(), *rows[0].shape[1:]), np.float32)  # not silence
    for row, values in zip(filled, rows, strict=True):
        row[: len(values)] = values
    return filled, lengths


@pytest.mark.parametrize("changes", [{}, {"model.cell": "lstm", "model.bidirectional": True}])
def test_sound_gives_the_outputs_of_the_trained_model(changes):
    trained = made(changes)
    function = make_function(trained, "sound")
    sound, lengths = padded(clips())
    outputs, counts = jax.jit(function.__call__)(sound / 32768, lengths)
    np.testing.assert_allclose(outputs, trained.outputs(clips()), rtol=1e-4, atol=1e-5)
    assert counts.tolist() == [function.program.frontend.frames(len(clip)) for clip in clips()]


def test_frames_give_the_outputs_of_the_trained_model():
    signal = frames(3, "float32")
    trained = made({"frontend.name": "frames", "model.pooling": "mean"}, signal)
    rolls = [np.random.default_rng(0).random((size, 3), np.float32) for size in (9, 4)]
    outputs, _ = make_function(trained, "features")(*padded(rolls))
    np.testing.assert_allclose(outputs, trained.outputs(rolls), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="pass --from features"):
        make_function(trained, "sound")


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_stream_in_pieces_is_the_whole_clip(cell):
    """From the first states, which are zero."""
    whole = function_of({"model.cell": cell, "model.layers": 2})
    stream = make_function(made({"model.cell": cell, "model.layers": 2}), "features", stream=True)
    features = whole.example(batch=2, frames=20)[0]
    expected, _ = whole(features, np.array([20, 20]))
    state = [np.zeros((2, 5), np.float32)] * len(stream.states)
    assert len(state) == {"gru": 2, "lstm": 4}[cell]
    step = jax.jit(stream.__call__)
    for piece in np.split(features, [1, 4, 12], axis=1):
        outputs, *state = step(piece, *state)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model.bidirectional": True}, "config.model.bidirectional"),
        ({"model.pooling": "max"}, 'config.model.pooling="max" does not begin with zeros'),
        ({"model.pooling": "multi_head_attention"}, "needs the whole clip"),
        ({"model.name": "crnn"}, "strides and later frames: pass --from sound"),
    ],
)
def test_streams_that_are_refused(changes, why):
    with pytest.raises(UserError, match=why):
        function_of(changes, stream=True)


@pytest.mark.parametrize(
    "changes", [{"model.pooling": "mean"}, {"model.name": "tcn"}, {"task.name": "ctc"}]
)
def test_features_in_pieces_of_other_models(changes):
    whole, stream = function_of(changes), function_of(changes, stream=True)
    features = whole.example(batch=2, frames=9)[0]
    expected, _ = whole(features, np.array([9, 9]))
    state = [np.zeros((2, *map(int, each.shape[1:])), np.float32) for each in stream.states]
    step = jax.jit(stream.__call__)
    first, *state = step(features[:, :4], *state)
    outputs, *_ = step(features[:, 4:], *state)
    if "task.name" in changes:
        outputs = np.concatenate([first, outputs], axis=1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_a_stream_of_sound_gives_the_outputs_of_whole_clips():
    """Two streams at a time, the second of which begins later; the states are arbitrary."""
    trained = made({"model.name": "crnn", "model.pooling": "attention"})
    stream = make_function(trained, "sound", stream=True)
    names = [tensor.name for tensor in stream.inputs]
    assert names[:3] == ["sound", "lengths", "restart"] and names[3] == "state_0"
    step, chunk = jax.jit(stream.__call__), stream.inputs[0].shape[1]
    sounds = [clips()[0][: 9 * chunk + 50], clips()[1]]
    state, last = stream.example()[3:], {}
    for number in range(20):
        sound, lengths = np.ones((2, chunk), np.float32), np.zeros(2, np.int32)
        for row, start in enumerate((0, 3)):
            part = sounds[row][max(0, number - start) * chunk :][:chunk] * (number >= start)
            sound[row, : len(part)], lengths[row] = part / 32768, len(part)
        restart = np.array([number == 0, number == 3], np.int32)
        outputs, counts, *state = step(sound, lengths, restart, *state)
        last |= {row: outputs[row, 0] for row in (0, 1) if counts[row]}
    np.testing.assert_allclose([last[0], last[1]], trained.outputs(sounds), rtol=1e-5, atol=1e-5)


def test_exports_compute_in_float32():
    narrow, wide = ({"model.compute_dtype": dtype} for dtype in ("bfloat16", "float32"))
    inputs = function_of(wide).example()
    np.testing.assert_array_equal(function_of(narrow)(*inputs)[0], function_of(wide)(*inputs)[0])


def test_differences():
    one = np.array([1.0, -200.0], np.float32)
    assert difference([one], [one]) == 0
    assert difference([one + np.array([1, 0])], [one]) == pytest.approx(1 / 200)
    assert difference([np.array([0.5])], [np.array([0.25])]) == 0.25  # not below 1
    assert difference([np.array([np.nan])], [np.array([0.0])]) == float("inf")
    assert difference([np.zeros((1, 2))], [np.zeros(2)]) == float("inf")
