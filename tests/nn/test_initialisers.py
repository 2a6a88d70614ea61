"""Initialisers: the spread of each gate's block, and the forget bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.initialisers import INITIALISERS, gate_bias, per_gate
from gru_audio.settings import UserError

FAN_IN, HIDDEN, GATES = 200, 100, 3
# Of one gate's (FAN_IN, HIDDEN) block.
DEVIATION = {
    "glorot_normal": np.sqrt(2 / (FAN_IN + HIDDEN)),
    "glorot_uniform": np.sqrt(2 / (FAN_IN + HIDDEN)),
    "he_normal": np.sqrt(2 / FAN_IN),
    "he_uniform": np.sqrt(2 / FAN_IN),
    "lecun_normal": np.sqrt(1 / FAN_IN),
    "lecun_uniform": np.sqrt(1 / FAN_IN),
    "normal_0.01": 0.01,
    "normal_0.1": 0.1,
    "orthogonal": np.sqrt(1 / FAN_IN),
    "uniform": np.sqrt(1 / HIDDEN / 3),
    "uniform_fan_in": np.sqrt(1 / FAN_IN / 3),
    "zeros": 0.0,
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_deviation_of_each_gate(name):
    kernel = per_gate(name, GATES)(jax.random.key(0), (FAN_IN, GATES * HIDDEN))
    blocks = np.split(np.asarray(kernel), GATES, axis=1)
    for block in blocks:
        assert block.std() == pytest.approx(DEVIATION[name], rel=0.03)
    if name != "zeros":
        assert np.any(blocks[0] != blocks[1])


def test_forget_bias():
    bias = gate_bias("zeros", ("i", "f", "g", "o"), 1.5)(jax.random.key(0), (8,))
    np.testing.assert_array_equal(bias, [0, 0, 1.5, 1.5, 0, 0, 0, 0])
    bias = gate_bias("zeros", ("r", "z", "n"), 1.5)(jax.random.key(0), (6,))
    np.testing.assert_array_equal(bias, jnp.zeros(6))


def test_an_unknown_name():
    with pytest.raises(UserError, match='Did you mean "glorot_uniform"'):
        per_gate("glorot_unifrom", 1)
