"""The gates of layers, against the equations in float64 NumPy, and of whole models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.config import default_config, override
from gru_audio.nn.cells import CELLS
from gru_audio.nn.gates import gates_of, gates_of_layer
from gru_audio.nn.layer import Encoder, Layer
from gru_audio.nn.models import make_model
from gru_audio.settings import UserError
from tests.nn import reference

BATCH, TIME, FEATURES, HIDDEN = 3, 6, 4, 5
LENGTHS = np.array([6, 3, 1], np.int32)
INPUTS = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)


def random_params(module, *arguments):
    """Returns nonzero parameters."""
    params = jax.eval_shape(module.init, jax.random.key(0), *arguments)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), params)


def expected(cell, params, frames, *, reverse=False, carry=None):
    """Returns padded gates; each example runs alone at its own length."""
    found = {}
    for i, length in enumerate(LENGTHS):
        start = [np.zeros(HIDDEN) for _ in CELLS[cell].carry]
        if carry is not None:
            start = [value[i] for value in carry]
        gates = reference.layer_gates(cell, params, frames[i, :length], start, reverse=reverse)
        for name, gate in gates.items():
            found.setdefault(name, np.zeros((BATCH, TIME, HIDDEN)))[i, :length] = gate
    return found


def assert_close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gate in theirs.items():
        np.testing.assert_allclose(ours[name], gate, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gates_of_a_layer(cell, reverse):
    layer = Layer(cell, HIDDEN, reverse)
    params = random_params(layer, INPUTS)
    rng = np.random.default_rng(2)
    carry = tuple(rng.normal(size=(BATCH, HIDDEN)).astype(np.float32) for _ in CELLS[cell].carry)
    gates = gates_of_layer(layer, params, INPUTS, LENGTHS, carry)
    assert_close(gates, expected(cell, params, INPUTS, reverse=reverse, carry=carry))


def test_an_update_gate_near_one_keeps_the_output():
    """The meaning of 1, which differs between papers and libraries."""
    layer = Layer("gru", HIDDEN)
    params = random_params(layer, INPUTS)
    params["input_bias"][HIDDEN : 2 * HIDDEN] = 30  # of the gates r, z, n
    carry = (np.full((BATCH, HIDDEN), 0.3, np.float32),)
    assert gates_of_layer(layer, params, INPUTS)["update"].min() > 0.99
    outputs, _ = layer.apply({"params": params}, INPUTS, None, carry)
    np.testing.assert_allclose(outputs, 0.3, atol=1e-3)


def test_gates_of_a_stack_in_both_directions():
    encoder = Encoder(HIDDEN, layers=2, bidirectional=True)
    params = random_params(encoder, INPUTS)
    found = jax.jit(gates_of, static_argnums=0)(encoder, {"params": params}, INPUTS, LENGTHS)
    frames = INPUTS
    for layer in range(2):
        outputs = np.zeros((BATCH, TIME, 2, HIDDEN))
        for column, direction in enumerate(("forward", "backward")):
            of_layer = params[f"{direction}_{layer}"]
            reverse = direction == "backward"
            gates = expected("gru", of_layer, frames, reverse=reverse)
            assert_close(found.layers[f"{direction}_{layer}"], gates)
            for i, length in enumerate(LENGTHS):
                outputs[i, :length, column] = reference.layer(
                    "gru", of_layer, frames[i, :length], [np.zeros(HIDDEN)], reverse=reverse
                )[0]
        frames = outputs.reshape(BATCH, TIME, -1)
    assert len(found.layers) == 4


def test_the_gates_of_a_normalised_layer_reproduce_its_outputs():
    layer = Layer("gru", HIDDEN, layer_norm=True)
    params = random_params(layer, INPUTS)
    gates = gates_of_layer(layer, params, INPUTS)
    outputs = layer.apply({"params": params}, INPUTS)[0]
    before = jnp.pad(outputs, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    update = gates["update"]
    made = update * before + (1 - update) * gates["candidate"]
    np.testing.assert_allclose(made, outputs, rtol=1e-5, atol=1e-5)


def model(**changes):
    changes = {f"model.{name}": value for name, value in changes.items()}
    return make_model(override(default_config(), {"model.hidden": HIDDEN} | changes).model, 2)


def test_gates_after_a_convolutional_front():
    crnn = model(name="crnn", conv=("2 3x3 stride 2x2",))
    variables = crnn.init(jax.random.key(0), INPUTS, LENGTHS)
    found = gates_of(crnn, variables, INPUTS, LENGTHS)
    assert found.lengths.tolist() == [3, 2, 1]
    update = np.asarray(found.layers["encoder/forward_0"]["update"])
    assert update.shape == (BATCH, 3, HIDDEN)
    assert [int((example > 0).all(-1).sum()) for example in update] == [3, 2, 1]


def test_a_model_without_gates_is_refused():
    tcn = model(name="tcn")
    variables = tcn.init(jax.random.key(0), INPUTS, LENGTHS)
    with pytest.raises(UserError, match="rnn_classifier"):
        gates_of(tcn, variables, INPUTS, LENGTHS)
