"""Streams: the outputs are those of the whole sound, however it arrives."""

import functools

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.data.signal import frames
from gru_audio.inference.stream import Stream
from gru_audio.inference.transcriber import Transcriber
from gru_audio.nn.cells import CELLS
from gru_audio.settings import UserError
from tests.exports.models import RATE, made

BLOCKS = ("4 3x3 stride 2x2 pool 2x1", "3 4x2 pool 1x2")
LENGTHS = (4000, 1500, 777, 300, 100, 1)  # samples; a window has 256
STARTS = (0, 1, 3, 0, 2, 5)  # chunks


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, size).astype(np.int16)


def followed(stream: Stream, sounds, starts) -> list[np.ndarray]:
    """Runs sounds of different lengths that begin at different chunks, one to a stream."""
    found: list[list[np.ndarray]] = [[] for _ in sounds]
    chunk = stream.chunk
    chunks = max(s + len(x) // chunk for s, x in zip(starts, sounds, strict=True))
    for number in range(chunks + 1 + stream.flush):
        samples = noise(len(sounds) * chunk, number).reshape(len(sounds), chunk)  # past the ends
        lengths, restart = np.zeros(len(sounds), np.int32), np.zeros(len(sounds), bool)
        for i, (start, sound) in enumerate(zip(starts, sounds, strict=True)):
            part = sound[max(0, number - start) * chunk :][:chunk] if number >= start else sound[:0]
            samples[i, : len(part)], lengths[i] = part, len(part)
            restart[i] = number == start
        for i, new in enumerate(stream.advance(samples, lengths, restart)):
            found[i].append(new.values)
    return [np.concatenate(parts) for parts in found]


@pytest.mark.parametrize(
    "changes",
    [
        *({"model.cell": cell, "model.layers": 2} for cell in CELLS),
        {"model.cell": "lstm", "model.layer_norm": True, "model.projection": 3},
        *({"model.pooling": pooling} for pooling in ("mean", "max", "attention")),
        {"model.dense": ("4 relu",), "model.pooling": "mean"},
        {"frontend.name": "mfcc", "frontend.deltas": 2},
        {"frontend.name": "pcen"},
        {"frontend.name": "raw"},
        {"frontend.name": "log_mel", "frontend.n_fft": 1024, "frontend.hop_ms": 7.0},
        {"frontend.stack": 4},
        {"frontend.stack": 3, "frontend.deltas": 1},
        {"model.name": "tcn", "model.layers": 3},
        {"model.name": "tcn", "model.pooling": "attention", "frontend.deltas": 1},
        {"model.name": "cnn", "model.pooling": "max"},
        {"model.name": "crnn", "model.conv_norm": False, "model.pooling": "mean"},
        {"model.name": "crnn", "model.conv": BLOCKS},
        {"model.name": "crnn", "model.conv": BLOCKS, "model.conv_padding": "valid"},
        {"model.name": "crnn", "model.conv": ("4 1x3 stride 2x1", "3 1x3 stride 3x1")},
        {"task.name": "ctc"},
        {"task.name": "ctc", "model.name": "crnn", "frontend.stack": 2, "frontend.deltas": 1},
    ],
    ids=lambda changes: " ".join(str(value) for value in changes.values()),
)
def test_streams_of_different_starts_and_ends_give_the_outputs_of_the_whole_sounds(changes):
    trained = made(changes)
    sounds = [noise(size, size) for size in LENGTHS]
    stream = Stream.of(trained, 20, len(sounds))
    found = followed(stream, sounds, STARTS)
    for values, expected in zip(found, trained.outputs(sounds), strict=True):
        values = values if trained.program().task.per_frame else values[-1]
        assert values.shape == expected.shape
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(values / scale, expected / scale, rtol=0, atol=1e-5)


def test_frames_give_the_outputs_of_the_whole():
    trained = made({"frontend.name": "frames", "model.pooling": "mean"}, frames(3, "float32"))
    rolls = np.random.default_rng(0).random((2, 9, 3), np.float32)
    stream = Stream.of(trained, 2000, 2)  # two frames at a time
    parts = [stream.push(rolls[:, :5]), stream.push(rolls[:, 5:]), stream.close()]
    for i, expected in enumerate(trained.outputs([*rolls])):
        found = np.concatenate([part[i].values for part in parts])
        np.testing.assert_allclose(found[-1], expected, rtol=1e-5, atol=1e-6)
        assert len(found) == 5


@pytest.fixture(scope="module")
def speller():
    return made({"task.name": "ctc", "frontend.deltas": 1, "frontend.stack": 2})


@pytest.fixture(scope="module")
def stream(speller):
    return Stream.of(speller)


@given(cuts=st.lists(st.integers(0, 2500), max_size=12), size=st.integers(1, 2500))
@settings(max_examples=30, deadline=None)
def test_any_chunks_give_the_same_outputs(speller, stream, cuts, size):
    stream.restart()
    sound = noise(size)
    parts = [stream.push(part) for part in np.split(sound, sorted(min(c, size) for c in cuts))]
    new = [new for (new,) in [*parts, stream.close()]]
    seconds, values = (np.concatenate(each) for each in zip(*new, strict=True))
    (expected,) = speller.outputs([sound])
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_allclose(seconds, speller.program().frame_times.centres(len(values)))


@pytest.mark.parametrize("by", ["numpy", "orbax"])
def test_a_saved_state_continues_to_the_bit(speller, stream, by, tmp_path):
    sound = noise(3000)
    stream.restart()
    whole = [new for part in np.split(sound, [1111, 1112]) for new in stream.push(part)]
    whole += stream.close()
    other = Stream.of(speller)
    found = [new for part in np.split(sound[:1112], [1111]) for new in other.push(part)]
    if by == "numpy":
        np.savez(tmp_path / "state.npz", **other.state)
        saved = dict(np.load(tmp_path / "state.npz"))
    else:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "state", other.state)
            saved = checkpointer.restore(tmp_path / "state")
    other.push(noise(5000))  # is forgotten
    other.state = saved
    found += [*other.push(sound[1112:]), *other.close()]
    for one, same in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one.seconds, same.seconds)
        np.testing.assert_array_equal(one.values, same.values)


def test_a_state_of_another_model_is_refused(stream):
    other = Stream.of(made({"task.name": "ctc"}))
    with pytest.raises(UserError, match=r"The state does not fit: .* differs"):
        stream.state = other.state
    with pytest.raises(UserError, match=r"age differs"):
        stream.state = {k: v for k, v in stream.state.items() if k != "age"}


def test_the_step_is_a_pure_function(stream):
    sound = noise(3 * stream.chunk).astype(np.float32).reshape(1, -1) / 32768
    chunks = np.split(sound, 3, axis=1)
    states = [stream.initial_state]
    for chunk in chunks:
        state, _ = stream.step(states[-1], chunk)
        states.append(state)
    again, _ = stream.step(states[1], chunks[1])
    jax.tree.map(np.testing.assert_array_equal, again, states[2])
    last, _ = jax.lax.scan(stream.step, states[0], np.stack(chunks))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), last, states[3])


@pytest.mark.parametrize(
    "changes", [{"frontend.name": "pcen"}, {"model.name": "crnn", "model.conv_norm": False}]
)
def test_a_long_stream_does_not_drift(changes):
    trained = made({"task.name": "ctc", **changes})
    sound = noise(60 * RATE)
    stream = Stream.of(trained, 1000)
    parts = [stream.push(sound)[0].values, stream.close()[0].values]
    np.testing.assert_allclose(np.concatenate(parts), trained.outputs([sound])[0], atol=1e-5)


def test_positions_that_are_saturated_change_nothing():
    """After days the counters of a stream stop; here they begin at their last value."""
    trained = made({"task.name": "ctc", "frontend.deltas": 1, "model.name": "crnn"})
    stream, sound = Stream.of(trained), noise(9000)
    outputs = [stream.push(part)[0].values for part in np.split(sound, [3000, 6000])]
    stream.restart()
    stream.push(sound[:3040])
    state = stream.state
    most = 2**30 // stream.chunk
    stream.state = state | {"age": np.full_like(state["age"], most)}
    found = np.concatenate([stream.push(sound[3040:])[0].values, stream.close()[0].values])
    (expected,) = trained.outputs([sound])
    np.testing.assert_allclose(found, expected[len(expected) - len(found) :], atol=1e-5)
    assert len(outputs[0]) < 40


def test_a_stream_without_sound_has_no_outputs(stream):
    stream.restart()
    assert [len(new.values) for new in stream.close()] == [0]


def test_latency_names_its_parts():
    trained = made({"frontend.deltas": 1, "frontend.delta_frames": 3, "frontend.stack": 2})
    latency = Stream.of(trained, chunk_ms=50).latency
    assert (latency.window_ms, latency.look_ahead_ms) == (32, 30 + 10)
    assert latency.chunk_ms in (40, 60) and 0 < latency.compute_ms < 1000
    assert latency.total_ms == pytest.approx(
        latency.window_ms + latency.look_ahead_ms + latency.chunk_ms + latency.compute_ms
    )
    assert "window 32, look-ahead 40" in str(latency)


def test_the_latency_is_that_of_the_outputs(speller):
    """The first output comes with the chunk that has its last sample, and not before."""
    stream = Stream.of(speller, chunk_ms=20)
    latency, ms = stream.latency, RATE // 1000
    needed = round((latency.window_ms + latency.look_ahead_ms) * ms)
    counts = [len(stream.push(noise(stream.chunk))[0].values) for _ in range(20)]
    assert counts.index(1) == -(-needed // stream.chunk) - 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model.bidirectional": True}, r"config\.model\.bidirectional"),
        ({"model.name": "crnn", "model.bidirectional": True}, r"config\.model\.bidirectional"),
        ({"model.pooling": "multi_head_attention"}, "multi_head_attention.* needs the whole clip"),
    ],
)
def test_models_that_need_the_whole_clip_are_refused(changes, why):
    with pytest.raises(UserError, match=why):
        Stream.of(made(changes))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [((0.0,), "chunk_ms=0"), ((float("nan"),), "chunk_ms"), ((20, 0), "streams=0")],
)
def test_arguments_out_of_range_are_refused(speller, arguments, why):
    with pytest.raises(UserError, match=why):
        Stream.of(speller, *arguments)


def test_samples_of_a_wrong_shape_are_refused(stream):
    for samples in (np.zeros((2, 5)), np.zeros((1, 5, 3))):
        with pytest.raises(UserError, match="do not fit 1 streams"):
            stream.push(samples)


def test_labels_and_text_of_a_stream_are_those_of_the_whole():
    trained, sound = made({"model.pooling": "mean"}), noise(4000)
    blocks = np.split(sound, range(333, 4000, 333))
    *_, (seconds, probabilities) = Stream.of(trained).labels(blocks)
    np.testing.assert_allclose(probabilities, trained.probabilities([sound])[0], atol=1e-5)
    assert seconds == 0.5
    spelling = made({"task.name": "ctc"})
    transcriber = Transcriber(spelling)
    *_, last = Stream.of(spelling).text(blocks)
    assert last == transcriber.transcript(transcriber.log_probs([sound])[0])
