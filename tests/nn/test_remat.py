"""Rematerialisation in chunks of time does not change values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.layer import Encoder, Layer

BATCH, TIME, FEATURES, HIDDEN = 3, 10, 4, 5
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
LENGTHS = jnp.array([10, 6, 1], jnp.int32)


def values_and_gradients(module, variables, lengths, carry):
    """Returns the results of a module, and the gradients of a loss of all results."""

    def loss(variables, inputs, carry):
        given = jax.tree.leaves(module.apply(variables, inputs, lengths, carry=carry))
        given = [leaf for leaf in given if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum(
            (leaf * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape))).sum() for leaf in given
        ), given

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(variables, INPUTS, carry)


def assert_equal_without(module, frames, lengths, carry):
    variables = module.init(jax.random.key(1), INPUTS)
    expected = values_and_gradients(module, variables, lengths, carry)
    result = values_and_gradients(module.clone(remat_frames=frames), variables, lengths, carry)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, result, expected)


@pytest.mark.parametrize(
    ("frames", "lengths", "reverse"),
    [(5, None, False), (4, None, True), (5, LENGTHS, True), (4, LENGTHS, False)],
)
def test_a_layer(frames, lengths, reverse):
    """Chunks of five frames divide the time evenly; chunks of four do not."""
    layer = Layer("lstm", HIDDEN, reverse, recurrent_init="uniform")
    carry = tuple(jax.random.normal(jax.random.key(2), (2, BATCH, HIDDEN)))
    assert_equal_without(layer, frames, lengths, carry)


def test_a_stack_in_both_directions():
    encoder = Encoder(HIDDEN, "gru", 2, True, True, recurrent_init="uniform")
    assert_equal_without(encoder, 3, LENGTHS, encoder.initial_carry(BATCH))


def test_the_backward_pass_stores_the_activations_of_one_chunk():
    """With four times the frames, the memory for intermediate results hardly grows."""

    def temporaries(time, frames):
        layer = Layer("gru", 64, recurrent_init="uniform", remat_frames=frames)
        inputs = jax.ShapeDtypeStruct((8, time, 1), jnp.float32)
        variables = jax.eval_shape(layer.init, jax.random.key(0), inputs)
        gradient = jax.grad(lambda v, x: layer.apply(v, x)[1][0].sum())
        return (
            jax.jit(gradient)
            .lower(variables, inputs)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    assert temporaries(2048, 0) > 3.5 * temporaries(512, 0)
    assert temporaries(2048, 32) < 1.5 * temporaries(512, 32)
    assert temporaries(2048, 32) < temporaries(2048, 0) / 10
