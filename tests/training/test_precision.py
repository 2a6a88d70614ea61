"""bfloat16 for large products, float32 for sums of small differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.layer import Layer
from tests.tones import make_loader, steps, tiny
from tests.training.one_device import fresh_state, noise, on_one_device, program_of

FRAMES = [8, 3, 5, 1]
HALF = {"model.compute_dtype": "bfloat16", "model.layers": 2, "model.dropout": 0.1}
MODELS = [
    {"model.pooling": "mean", "model.bidirectional": True, "model.layer_norm": True},
    {
        "model.name": "crnn",
        "model.conv": ("2 3x3 stride 1x2", "3 3x3 stride 1x2"),
        "model.pooling": "attention",
    },
]


def dtypes(tree):
    """Returns the types of a tree's floating-point arrays."""
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)} - {"int32"}


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_type_of_every_part(model):
    program = program_of(HALF | model)
    state, batch = fresh_state(program, HALF | model), noise(program, FRAMES)
    features, frames = program.features(batch)
    assert features.dtype == jnp.float32
    outputs, captured = jax.eval_shape(
        functools.partial(program.model.apply, capture_intermediates=True, mutable="intermediates"),
        {"params": state.weights.params, **state.weights.model_state},
        features,
        frames,
    )
    captured = captured["intermediates"]
    for part, parts in captured.items():
        # The carry of the encoder stays float32.
        wide = {"encoder": {"bfloat16", "float32"}, "front": {"bfloat16"}}
        assert dtypes(parts) == wide.get(part, {"float32"}), part
    assert {"encoder", "head"} <= captured.keys()
    assert outputs.values.dtype == jnp.float32

    def step(state, batch):
        share = program.gradients(state, program.keys(state, batch.row), batch)
        return share, program.update(state, share)

    share, (after, metrics) = jax.eval_shape(on_one_device(step), state, batch)
    for tree in (state.weights, share, after.weights, after.opt_state, metrics):
        assert dtypes(tree) == {"float32"}


@pytest.mark.parametrize("cell", ["gru", "lstm_peephole"])
def test_gradients_add_up_over_time_in_float32(cell):
    """Sums over thousands of frames: a bfloat16 sum would stop growing after about 256 terms."""
    inputs = 1 + jax.random.normal(jax.random.key(0), (1, 4000, 3))

    def gradients(dtype):
        layer = Layer(cell, 4, recurrent_init="uniform", layer_norm=True, dtype=dtype)
        variables = layer.init(jax.random.key(1), inputs[:, :1])

        def loss(variables):
            return layer.apply(variables, inputs)[0].sum(dtype=jnp.float32)

        return jax.jit(jax.grad(loss))(variables)["params"]

    whole, half = gradients(jnp.float32), gradients(jnp.bfloat16)
    for name, gradient in whole.items():
        error = np.linalg.norm(half[name] - gradient) / np.linalg.norm(gradient)
        assert error < 0.05, name


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_loss_is_that_of_float32_but_for_rounding(model):
    losses = []
    for precision in ({}, {"model.compute_dtype": "bfloat16"}):
        program = program_of(model | precision)
        state, batch = fresh_state(program, model), noise(program, [30, 10, 20, 1])

        @on_one_device
        def loss(state, batch, program=program):
            return program.gradients(state, program.keys(state, batch.row), batch).loss

        losses.append(float(loss(state, batch)))
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.02)


def test_it_learns(source):
    configs = [tiny({"model.compute_dtype": "bfloat16"})]
    state, metrics = steps(make_loader(source, configs), configs, [40])
    losses = metrics["loss"][0]
    assert losses[-5:].mean() < 0.6 * losses[:5].mean()
    assert dtypes((state.weights, state.opt_state)) == {"float32"}
