"""Operations against the count of the compiler, and against formulas where it has loops once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.layers import Case
from gru_audio.training.cost import Cost, cost_of


def cost(function, *arguments) -> Cost:
    return cost_of(jax.jit(function).trace(*arguments).jaxpr)


def test_products_and_convolutions_as_the_compiler_counts_them():
    a, b = jnp.ones((7, 30, 20)), jnp.ones((7, 20, 11))
    image, kernel = jnp.ones((2, 16, 12, 3)), jnp.ones((3, 5, 3, 8))

    def functions():
        yield (lambda a, b: a @ b), (a, b)
        yield (
            lambda x, k: jax.lax.conv_general_dilated(
                x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            (image, kernel),
        )

    for function, arguments in functions():
        counted = jax.jit(function).lower(*arguments).compile().cost_analysis()
        found = cost(function, *arguments)
        assert found == Cost(counted["flops"], bytes=counted["bytes accessed"])


def test_loops_count_their_iterations_and_branches_the_largest():
    square = jnp.ones((10, 10))
    once, moved = 2 * 10**3, 3 * 4 * 10**2

    def scanned(a):
        return jax.lax.scan(lambda c, _: (c @ a, None), a, length=5)[0]

    def nested(a):
        return jax.lax.scan(lambda c, _: (scanned(c), None), a, length=3)[0]

    def unknown(a, n):
        return jax.lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] @ a), (0, a))[1]

    def branches(a, i):
        return jax.lax.switch(i, [lambda a: a, lambda a: a @ a, scanned], a)

    assert cost(scanned, square) == Cost(5 * once, 5, 5 * moved)
    assert cost(nested, square) == Cost(15 * once, 15, 15 * moved)
    assert cost(unknown, square, 9) == Cost(once, 0, moved)
    assert cost(branches, square, 1) == Cost(5 * once, 5, 5 * moved)


@pytest.mark.parametrize("length", [8, 512])
def test_a_real_fourier_transform_has_half_the_operations(length):
    signal = jnp.ones((3, length))
    real = cost(lambda x: jnp.fft.rfft(x), signal).flops
    whole = cost(lambda x: jnp.fft.fft(x), signal.astype(complex)).flops
    assert real == whole / 2 == 3 * 2.5 * length * np.log2(length)


@pytest.mark.parametrize("implementation", ["scan", "loop"])
def test_a_recurrent_layer_with_its_gradients(implementation):
    case = Case("gru", batch=4, time=9, features=5, hidden=16)
    encoder = case.encoder(implementation)
    inputs = jnp.ones((case.batch, case.time, case.features))
    params = encoder.init(jax.random.key(0), inputs)

    def loss(params, inputs):
        return encoder.apply(params, inputs).frames.sum()

    found = cost(jax.grad(loss, argnums=(0, 1)), params, inputs)
    assert found.flops == case.matmul_flops
    assert found.iterations == 2 * case.time
