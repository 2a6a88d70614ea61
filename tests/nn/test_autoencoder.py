"""The autoencoder: its equations in NumPy, lengths, feedback, and memorisation of a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gru_audio.config import default_config, override
from gru_audio.nn.autoencoder import FEEDBACKS
from gru_audio.nn.layer import Dropout
from gru_audio.nn.models import make_model
from gru_audio.settings import UserError
from gru_audio.tasks.reconstruction import Reconstruction

BATCH, TIME, WIDTH = 3, 7, 4
LENGTHS = jnp.array([7, 4, 1], jnp.int32)
FRAMES = jax.random.normal(jax.random.key(0), (BATCH, TIME, WIDTH))
PADDING = (jnp.arange(TIME) >= LENGTHS[:, None])[..., None]

all_feedbacks = pytest.mark.parametrize("feedback", FEEDBACKS)


@functools.cache
def made(**changes):
    changes = {"name": "autoencoder", "hidden": 6, "latent": 5, "cell": "rnn", **changes}
    changes.setdefault("recurrent_init", "uniform")  # compiles faster than the default
    config = override(default_config(), {f"model.{name}": v for name, v in changes.items()})
    model = make_model(config.model, WIDTH, per_frame=True)
    return model, jax.jit(model.init)(jax.random.key(1), FRAMES, LENGTHS)


def run(model, variables, frames=FRAMES, lengths=LENGTHS, **options):
    apply = jax.jit(functools.partial(model.apply, **options))
    return np.asarray(apply(variables, frames, lengths).values)


def by_hand(params, frames, *, reverse, feedback, train):
    """Returns what a tanh RNN decodes of one sequence, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    frames = np.asarray(frames, np.float64)

    def step(layer, state, inputs):
        layer = layer["forward_0"]
        inner = inputs @ layer["input_kernel"] + layer["input_bias"]
        return np.tanh(inner + state @ layer["recurrent_kernel"])

    state = np.zeros(6)
    for frame in frames:
        state = step(p["encoder"], state, frame)
    latent = state @ p["to_latent"]["kernel"] + p["to_latent"]["bias"]
    order = frames[::-1] if reverse else frames
    state, before, decoded = np.zeros(6), np.zeros(WIDTH), []
    for frame in order:
        inputs = latent if feedback == "none" else np.concatenate([latent, before])
        state = step(p["decoder"], state, inputs)
        decoded.append(state @ p["output"]["kernel"] + p["output"]["bias"])
        before = frame if train and feedback == "teacher_forcing" else decoded[-1]
    return np.array(decoded[::-1] if reverse else decoded)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@all_feedbacks
def test_against_the_equations(feedback, reverse, train):
    model, variables = made(feedback=feedback, reverse=reverse)
    found = run(model, variables, train=train)
    for example, length in enumerate(LENGTHS):
        expected = by_hand(
            variables["params"],
            FRAMES[example, :length],
            reverse=reverse,
            feedback=feedback,
            train=train,
        )
        np.testing.assert_allclose(found[example, :length], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("feedback", "cell", "train"),
    [("none", "gru", False), ("own", "lstm", False), ("teacher_forcing", "lstm", True)],
)
def test_padding_changes_nothing(feedback, cell, train):
    model, variables = made(feedback=feedback, cell=cell, bidirectional=True)
    clean = run(model, variables, train=train)
    dirty = run(model, variables, jnp.where(PADDING, 1e3, FRAMES), train=train)
    alone = run(model, variables, FRAMES[1:2, :4], LENGTHS[1:2], train=train)
    np.testing.assert_array_equal(np.where(PADDING, 0, clean), np.where(PADDING, 0, dirty))
    np.testing.assert_allclose(clean[1, :4], alone[0], rtol=1e-5, atol=1e-6)


def test_decoding_needs_only_the_latent_vector():
    """Of another length, too: the decoder continues."""
    model, variables = made(reverse=False, feedback="own")
    latent = model.apply(variables, FRAMES, LENGTHS, method="encode")
    assert latent.shape == (BATCH, 5)
    longer = model.apply(variables, latent, jnp.full(BATCH, 12), 12, method="decode")
    np.testing.assert_allclose(longer[0, :TIME], run(model, variables)[0], rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_on_the_latent_vector():
    model, variables = made()
    keys = jax.random.split(jax.random.key(3), BATCH)
    latent = model.apply(variables, FRAMES, LENGTHS, Dropout(keys, 0.5), method="encode")
    whole = model.apply(variables, FRAMES, LENGTHS, method="encode")
    kept = np.asarray(latent) != 0
    assert 0 < kept.mean() < 1
    np.testing.assert_allclose(latent[kept], 2 * whole[kept], rtol=1e-6)


def test_one_batch_is_memorised():
    model, variables = made(cell="gru", feedback="teacher_forcing", hidden=32, latent=16)
    task, optimizer = Reconstruction(WIDTH), optax.adam(1e-2)

    def loss(params, train=True):
        outputs = model.apply({"params": params}, FRAMES, LENGTHS, train=train)
        lost, terms = task.loss(outputs.values, FRAMES, outputs.lengths)
        return lost.sum() / terms.sum()

    @jax.jit
    def train(params):
        def step(state, _):
            params, opt_state = state
            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=800)[0][0]

    params = train(variables["params"])
    assert loss(params) < 1e-3
    assert loss(params, train=False) < 1e-2  # from its own frames


def test_it_cannot_run_in_pieces_and_is_not_causal():
    model, _ = made()
    assert not model.causal
    with pytest.raises(UserError, match="cannot run in pieces"):
        model.initial_state(1)
