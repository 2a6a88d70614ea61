"""Every cell against its equations in float64 NumPy: values, gradients, parameter counts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.cells import CELLS, min_lstm
from gru_audio.nn.layer import Layer
from gru_audio.nn.recurrence import usable
from tests.nn import reference

BATCH, TIME, FEATURES, HIDDEN = 3, 7, 4, 5
LENGTHS = np.array([7, 3, 1], np.int32)


def random_like(tree, seed):
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return structure.unflatten([rng.normal(0, 0.5, leaf.shape) for leaf in leaves])


def example(cell):
    """Parameters (none zero), inputs and an initial carry, in float64."""
    layer = Layer(cell, HIDDEN)
    inputs = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES))
    params = jax.eval_shape(layer.init, jax.random.key(0), inputs)["params"]
    carry = CELLS[cell].initial_carry(BATCH, HIDDEN, jnp.float32)
    return random_like(params, 1), inputs, random_like(carry, 2)


def reference_batch(cell, params, inputs, carry, reverse):
    """Returns padded outputs and final carries; each example runs alone at its own length."""
    outputs = np.zeros((BATCH, TIME, HIDDEN))
    final = [np.zeros((BATCH, HIDDEN)) for _ in carry]
    for i, length in enumerate(LENGTHS):
        start = tuple(value[i] for value in carry)
        outputs[i, :length], end = reference.layer(
            cell, params, inputs[i, :length], start, reverse=reverse
        )
        for array, value in zip(final, end, strict=True):
            array[i] = value
    return outputs, tuple(final)


IMPLEMENTED = [(c, name) for c in CELLS for name in usable(CELLS[c], HIDDEN, jnp.float32)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("cell", "implementation"), IMPLEMENTED)
def test_values_and_gradients(cell, implementation, reverse):
    params, inputs, carry = example(cell)
    weights = random_like(reference_batch(cell, params, inputs, carry, reverse), 3)

    def loss(outputs, final):
        parts = jax.tree.map(
            lambda weight, value: (weight * value).sum(), weights, (outputs, final)
        )
        return sum(jax.tree.leaves(parts))

    def ours(arguments):
        params, inputs, carry = arguments
        layer = Layer(cell, HIDDEN, reverse, implementation=implementation)
        result = layer.apply({"params": params}, inputs, LENGTHS, carry)
        return loss(*result), result

    def theirs(arguments):
        return loss(*reference_batch(cell, *arguments, reverse))

    arguments = (params, inputs, carry)
    gradients, result = jax.jit(jax.grad(ours, has_aux=True))(
        jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), arguments)
    )
    expected = reference_batch(cell, *arguments, reverse)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), result, expected)

    for part in range(3):  # the parameters, the inputs, the carry
        direction = random_like(arguments[part], 10)

        def moved(by, part=part, direction=direction):
            changed = list(arguments)
            changed[part] = jax.tree.map(lambda a, d: a + by * d, arguments[part], direction)
            return theirs(changed)

        slope = jax.tree.map(lambda g, d: (g * d).sum(), gradients[part], direction)
        slope = float(sum(jax.tree.leaves(slope)))
        assert slope == pytest.approx((moved(1e-5) - moved(-1e-5)) / 2e-5, rel=1e-5, abs=1e-5)


def count(cell, features, hidden):
    shapes = jax.eval_shape(
        Layer(cell, hidden).init, jax.random.key(0), jnp.zeros((1, 1, features))
    )
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("cell", "gates", "vectors"),
    [
        ("li_gru", 2, 0),
        ("rnn", 1, 0),
        ("gru", 3, 1),
        ("gru_reset_before", 3, 0),
        ("lstm", 4, 0),
        ("lstm_peephole", 4, 3),
    ],
)
def test_parameter_count(cell, gates, vectors):
    d, h = 11, 6
    assert count(cell, d, h) == gates * (d * h + h * h + h) + vectors * h


@pytest.mark.parametrize(
    ("cell", "hidden", "published"),
    [("rnn", 400, 168_400), ("gru_reset_before", 227, 168_888), ("lstm_peephole", 195, 169_065)],
)
def test_sizes_of_chung_2014(cell, hidden, published):
    """Table 1 of arXiv 1412.3555, speech: about 168.4, 168.9 and 169.1 thousand."""
    assert count(cell, 20, hidden) == published


@pytest.mark.parametrize(("cell", "gates"), [("min_gru", 2), ("min_lstm", 3)])
def test_parameter_count_of_cells_without_recurrent_kernels(cell, gates):
    assert count(cell, 11, 6) == gates * (11 * 6 + 6)


def test_gates_of_the_minimal_lstm_do_not_underflow():
    """s(f) / (s(f) + s(i)), where both are 0 in float32, is 1 / (1 + e^(i - f))."""
    f, i = jnp.array([-300.0, -200.0, -200.0]), jnp.array([-200.0, -300.0, -201.0])
    share = 1 / (1 + np.exp(np.float64(i - f)))
    found = min_lstm(jnp.ones(3), f, i, jnp.zeros(3))
    np.testing.assert_allclose(found, share, rtol=1e-4, atol=1e-30)
