"""Our gradients of convolutions against those that JAX derives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gru_audio.nn.convolution import convolution

CASES = [  # inputs, kernel, strides, padding
    ((2, 9, 7, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
    ((2, 9, 8, 3), (5, 3, 3, 4), (2, 3), ((2, 2), (1, 1))),
    ((1, 10, 10, 1), (4, 2, 1, 5), (3, 2), ((0, 0), (0, 0))),  # some inputs are not read
    ((3, 2, 6, 2), (5, 1, 2, 2), (1, 2), ((0, 3), (0, 0))),
]


def derived(inputs, kernel, strides, padding):
    return jax.lax.conv_general_dilated(
        inputs, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("shape", "kernel_shape", "strides", "padding"), CASES)
def test_values_and_gradients(shape, kernel_shape, strides, padding):
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=kernel_shape), jnp.float32)
    outputs = derived(inputs, kernel, strides, padding)
    weight = jnp.asarray(rng.normal(size=outputs.shape), jnp.float32)
    found, expected = (
        jax.value_and_grad(
            lambda x, k, function=function: jnp.sum(function(x, k, strides, padding) * weight),
            (0, 1),
        )(inputs, kernel)
        for function in (convolution, derived)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected
    )
    check_grads(
        lambda x, k: convolution(x, k, strides, padding), (inputs, kernel), 1, ["rev"], rtol=0.02
    )


def test_all_convolutions_in_a_loop_run_with_eigen():
    """Checks that dimensions have Eigen's order: batch first, features last."""

    def many(kernel, inputs):
        gradient = jax.grad(
            lambda k: jnp.sum(convolution(inputs, k, (2, 2), ((1, 1), (1, 1))) ** 2)
        )
        return jax.lax.fori_loop(0, 3, lambda _, k: k - gradient(k), kernel)

    kernel, inputs = jnp.ones((3, 3, 2, 4)), jnp.ones((2, 8, 8, 2))
    text = jax.jit(many).lower(kernel, inputs).compile().as_text()
    orders = {
        line.split("dim_labels=")[1][:14] for line in text.splitlines() if "dim_labels" in line
    }
    assert orders == {"b01f_01io->b01f"[:14]}
