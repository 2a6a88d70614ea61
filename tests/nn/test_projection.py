"""A projected output (Sak et al. 2014) against the paper's recurrence in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.cells import CELLS
from gru_audio.nn.gates import gates_of_layer
from gru_audio.nn.layer import Encoder, Layer
from gru_audio.settings import UserError
from tests.nn import reference

BATCH, TIME, FEATURES, HIDDEN, PROJECTION = 3, 6, 4, 5, 3
LENGTHS = np.array([6, 3, 1], np.int32)
INPUTS = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
PROJECTABLE = ["lstm", "lstm_peephole", "rnn"]


def random_params(module):
    params = jax.eval_shape(module.init, jax.random.key(0), INPUTS)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.7, leaf.shape).astype(np.float32), params)


def by_the_paper(cell, params, frames, reverse):
    """Returns outputs, gates and last output of one example, with a projected output."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    output, rest = np.zeros(PROJECTION), [np.zeros(HIDDEN) for _ in CELLS[cell].carry[1:]]
    order = -1 if reverse else 1
    outputs, gates = [], []
    for frame in np.asarray(frames, np.float64)[::order]:
        (units, *rest), now = reference.STEPS[cell](frame, (output, *rest), params)
        output = units @ params["projection"]
        outputs.append(output)
        gates.append(now)
    by_name = {name: np.stack([now[name] for now in gates[::order]]) for name in gates[0]}
    return np.stack(outputs[::order]), by_name, output


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", PROJECTABLE)
def test_outputs_and_gates(cell, reverse):
    layer = Layer(cell, HIDDEN, reverse, projection=PROJECTION)
    params = random_params(layer)
    outputs, carry = layer.apply({"params": params}, INPUTS, LENGTHS)
    gates = gates_of_layer(layer, params, INPUTS, LENGTHS)
    assert outputs.shape == (BATCH, TIME, PROJECTION)
    assert carry[0].shape == (BATCH, HIDDEN)
    for i, length in enumerate(LENGTHS):
        own, by_name, _ = by_the_paper(cell, params, INPUTS[i, :length], reverse)
        np.testing.assert_allclose(outputs[i, :length], own, rtol=1e-5, atol=1e-5)
        assert not np.any(outputs[i, length:])
        for name, gate in by_name.items():
            np.testing.assert_allclose(gates[name][i, :length], gate, rtol=1e-5, atol=1e-5)


def test_the_last_output_of_both_directions():
    encoder = Encoder(HIDDEN, "lstm", bidirectional=True, projection=PROJECTION)
    params = random_params(encoder)
    encoded = encoder.apply({"params": params}, INPUTS, LENGTHS)
    assert encoded.last.shape == (BATCH, 2 * PROJECTION)
    for i, length in enumerate(LENGTHS):
        last = [
            by_the_paper("lstm", params[f"{name}_0"], INPUTS[i, :length], name == "backward")[2]
            for name in ("forward", "backward")
        ]
        np.testing.assert_allclose(encoded.last[i], np.concatenate(last), rtol=1e-5, atol=1e-5)


def test_the_final_carry_continues_the_sequence():
    encoder = Encoder(HIDDEN, "lstm_peephole", 2, projection=PROJECTION)
    variables = {"params": random_params(encoder)}
    whole = encoder.apply(variables, INPUTS)
    first = encoder.apply(variables, INPUTS[:, :2], carry=encoder.initial_carry(BATCH))
    second = encoder.apply(variables, INPUTS[:, 2:], carry=first.carry)
    frames = jnp.concatenate([first.frames, second.frames], axis=1)
    np.testing.assert_allclose(frames, whole.frames, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second.last, whole.last, rtol=1e-5, atol=1e-6)


def test_gradients_reach_projection_and_kernels():
    """Against finite differences of the paper's recurrence in a random direction."""
    layer = Layer("lstm", HIDDEN, projection=PROJECTION)
    params = random_params(layer)
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)

    @jax.jit
    @jax.grad
    def gradient(params):
        return (layer.apply({"params": params}, INPUTS[:1])[0] ** 2).sum()

    def loss(step):
        moved = jax.tree.map(lambda leaf, way: leaf + step * way, params, direction)
        return (by_the_paper("lstm", moved, INPUTS[0], False)[0] ** 2).sum()

    slope = jax.tree.map(lambda grad, way: float((grad * way).sum()), gradient(params), direction)
    expected = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert sum(jax.tree.leaves(slope)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_cells_that_read_the_unprojected_output_are_refused(cell):
    layer = Layer(cell, HIDDEN, projection=PROJECTION)
    if cell in PROJECTABLE:
        random_params(layer)
        return
    with pytest.raises(UserError, match='one of "lstm", "lstm_peephole", "rnn"'):
        random_params(layer)
