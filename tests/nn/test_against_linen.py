"""The same numbers and gradients as linen's own recurrent layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.layer import Encoder
from gru_audio.nn.weights import from_linen, to_linen

BATCH, TIME, FEATURES, HIDDEN = 4, 9, 6, 8
LENGTHS = jnp.array([9, 4, 1, 7], jnp.int32)
LINEN = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


def close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)


def linen_carry(carry):
    """Converts our carry, (h,) or (h, c), to linen's, h or (c, h)."""
    return carry[0] if len(carry) == 1 else carry[::-1]


def setup(cell, bidirectional):
    inputs = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
    if bidirectional:
        theirs = nn.Bidirectional(nn.RNN(LINEN[cell](HIDDEN)), nn.RNN(LINEN[cell](HIDDEN)))
    else:
        theirs = nn.RNN(LINEN[cell](HIDDEN))
    leaves, tree = jax.tree.flatten(
        jax.eval_shape(theirs.init, jax.random.key(1), inputs)["params"]
    )
    keys = jax.random.split(jax.random.key(2), len(leaves))
    draws = [0.5 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    params = tree.unflatten(draws)  # all parameters are nonzero, also the biases
    return theirs, params, inputs


def convert(cell, params):
    """An encoder's parameters; linen's `Bidirectional` has one `RNN` each for the directions."""
    if "cell" in params:
        return {"forward_0": from_linen(cell, params["cell"])}
    return {
        "forward_0": from_linen(cell, params["forward_rnn"]["cell"]),
        "backward_0": from_linen(cell, params["backward_rnn"]["cell"]),
    }


@pytest.mark.parametrize(
    ("bidirectional", "lengths"),
    [(False, None), (False, LENGTHS), (True, LENGTHS)],
    ids=["full", "padded", "bidirectional"],
)
@pytest.mark.parametrize("cell", LINEN)
def test_values_and_gradients(cell, bidirectional, lengths):
    theirs, params, inputs = setup(cell, bidirectional)
    encoder = Encoder(HIDDEN, cell, bidirectional=bidirectional)
    keys = iter(jax.random.split(jax.random.key(3), 10))
    carry = tuple(
        tuple(jax.random.normal(next(keys), (BATCH, HIDDEN)) for _ in range(1 + (cell == "lstm")))
        for _ in range(1 + bidirectional)
    )
    valid = jnp.arange(TIME) < (jnp.full(BATCH, TIME) if lengths is None else lengths)[:, None]
    weight = jax.random.normal(next(keys), (BATCH, TIME, HIDDEN * (1 + bidirectional)))
    weight *= valid[..., None]  # linen's outputs in the padding are nonzero

    def run_theirs(params, inputs, carry):
        start = tuple(linen_carry(c) for c in carry)
        end, frames = theirs.apply(
            {"params": params},
            inputs,
            initial_carry=start if bidirectional else start[0],
            seq_lengths=lengths,
            return_carry=True,
        )
        return (frames * weight).sum(), (frames * valid[..., None], end)

    def run_ours(params, inputs, carry):
        encoded = encoder.apply({"params": params}, inputs, lengths, carry=(carry,))
        end = tuple(linen_carry(c) for c in encoded.carry[0])
        frames = encoded.frames
        return (frames * weight).sum(), (frames, end if bidirectional else end[0])

    def gradients(run, *arguments):
        return jax.jit(jax.grad(run, argnums=(0, 1, 2), has_aux=True))(*arguments)

    expected_gradients, expected = gradients(run_theirs, params, inputs, carry)
    ours_gradients, ours = gradients(run_ours, convert(cell, params), inputs, carry)
    close(ours, expected)
    close(ours_gradients, (convert(cell, expected_gradients[0]), *expected_gradients[1:]))


@pytest.mark.parametrize("cell", LINEN)
def test_weights_survive_a_round_trip(cell):
    _, params, _ = setup(cell, bidirectional=False)
    returned = to_linen(cell, from_linen(cell, params["cell"]))
    assert jax.tree.structure(returned) == jax.tree.structure(dict(params["cell"]))
    jax.tree.map(np.testing.assert_array_equal, returned, dict(params["cell"]))


def test_initialisation_equals_linens():
    """The defaults: the recurrent block of each gate is orthogonal, and biases are zero."""
    _, params, inputs = setup("gru", bidirectional=False)
    ours = jax.jit(Encoder(HIDDEN).init)(jax.random.key(0), inputs)["params"]["forward_0"]
    assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, from_linen("gru", params["cell"]))
    for block in np.split(np.asarray(ours["recurrent_kernel"]), 3, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=1e-5)
    assert not np.any(ours["input_bias"])
