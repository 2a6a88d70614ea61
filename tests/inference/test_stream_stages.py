"""The stages of a stream in float64, against the whole sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.audio.frontends import make_frontend
from gru_audio.inference.stream_frontends import frontend_stages
from gru_audio.inference.stream_models import stream_model
from gru_audio.inference.stream_stages import OPEN, Chain, Span, Window, left_aligned
from gru_audio.nn.tcn import TcnEncoder
from gru_audio.settings import UserError
from tests.exports.models import RATE, made

SOUNDS = 3
SAMPLES = 4096


def pieces(run, initial, values, chunk):
    """Runs a function of spans over sequences that all begin and end together."""
    size = values.shape[1]
    source = Span(values[:, :chunk], *[jnp.zeros(len(values), jnp.int32)] * 2)
    state, parts = initial(source), []
    values = jnp.pad(values, ((0, 0), (0, 60 * chunk), *[(0, 0)] * (values.ndim - 2)))
    for start in range(0, size + 50 * chunk, chunk):
        ends = jnp.full(len(values), size - start), jnp.full(len(values), -start)
        span = Span(values[:, start : start + chunk], ends[1], ends[0])
        state, found, counts = jax.jit(run)(state, span)
        parts.append(found[:, : int(counts[0])])
    return jnp.concatenate(parts, axis=1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"frontend.name": "mfcc", "frontend.deltas": 2},
        {"frontend.name": "pcen"},
        {"frontend.name": "pcen", "frontend.deltas": 1, "frontend.stack": 3},
        {"frontend.name": "raw", "frontend.stack": 2},
    ],
)
def test_frontends_are_equal_to_1e_12_in_float64(changes):
    config = made(changes).config
    with jax.enable_x64(True):
        frontend = make_frontend(config.frontend, RATE)
        chain = Chain(frontend_stages(frontend))
        sound = jnp.asarray(np.random.default_rng(0).normal(0, 0.1, (SOUNDS, SAMPLES)))

        def run(state, span):
            state, features = chain(state, span)
            return state, *left_aligned(features, chain.delay)

        found = pieces(run, chain.initial, sound, 2 * chain.step)
        expected, frames = frontend(sound, jnp.full(SOUNDS, SAMPLES))
        assert found.dtype == jnp.float64 and found.shape[1] == frames[0]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.cell": "lstm", "model.layers": 2},
        {"model.name": "tcn", "model.layers": 3},
        {"model.name": "crnn", "model.conv": ("4 3x3 stride 2x2 pool 2x1", "3 4x2 pool 1x2")},
        {"model.name": "crnn", "model.conv_padding": "valid"},
    ],
)
def test_layers_are_equal_to_1e_12_in_float64(changes):
    trained = made(changes)
    model = trained.program().model
    with jax.enable_x64(True):
        wide = {
            name: getattr(model, name).clone(dtype=None)
            for name in ("front", "encoder")
            if hasattr(model, name)
        }
        model = model.clone(**wide) if wide else model.clone(dtype=None)
        weights = {"params": trained.weights.params, **trained.weights.model_state}
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights)
        params = variables["params"]
        stream = stream_model(model, variables, per_frame=False)
        features = trained.program().frontend.features
        frames = jnp.asarray(np.random.default_rng(0).normal(size=(SOUNDS, 37, features)))

        def initial(source):
            return stream.initial(source)[:2]

        def run(state, span):
            layers, span = stream.layers(state[0], span)
            encoded = stream.encode(state[1], *left_aligned(span, stream.layers.delay))
            return (layers, encoded.carry), encoded.frames, encoded.lengths

        found = pieces(run, initial, frames, 2 * stream.layers.step)
        expected, lengths = frames, jnp.full(SOUNDS, frames.shape[1])
        if "front" in wide:
            own = {kind: tree["front"] for kind, tree in variables.items()}
            expected, lengths = wide["front"].apply(own, expected, lengths, train=False)
        encoder = wide.get("encoder") or TcnEncoder(model.hidden, model.layers, model.kernel)
        encoded = encoder.apply({"params": params["encoder"]}, expected, lengths)
        assert found.dtype == jnp.float64 and found.shape[1] == lengths[0]
        np.testing.assert_allclose(found, encoded.frames[:, : lengths[0]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("source", [0, 3])
def test_the_delay_of_a_window_is_the_least(before, size, step, source):
    """The last frame of output t - delay has arrived with the source frames up to output t."""
    window = Window(before, size, step)
    delay = window.delay(source)

    def last_read(output):
        return output * step - before + size - 1

    newest = step - 1 - source  # position of the newest source frame when output 0 would come
    assert last_read(-delay) <= newest < last_read(1 - delay)


def test_frames_of_a_stream_come_first():
    values = jnp.arange(5.0)[None, :, None] + jnp.zeros((4, 1, 1))
    begin, end = jnp.array([0, 0, -9, -2]), jnp.array([OPEN, 2, 1, -2])
    found, counts = left_aligned(Span(values, begin, end), 3)
    assert counts.tolist() == [2, 2, 4, 0]
    assert found[0, :2, 0].tolist() == [3, 4] and found[2, :4, 0].tolist() == [0, 1, 2, 3]


def test_a_frontend_of_ones_own_is_refused():
    class Own:
        pass

    with pytest.raises(UserError, match="The frontend Own cannot run in a stream"):
        frontend_stages(Own())
