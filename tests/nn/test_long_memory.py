"""Slow gates in bfloat16 over thousands of frames, against float64: no small update is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.cells import CELLS
from gru_audio.nn.kernels.gpu import PallasGpu
from gru_audio.nn.kernels.gradient import differentiable
from gru_audio.nn.kernels.tpu import PallasTpu
from gru_audio.nn.layer import Encoder
from gru_audio.nn.recurrence import recurrence, usable
from tests.nn import reference

TIME, BATCH = 3000, 2
INTERPRETED = 300  # frames for the kernels, because the interpreter is slow
GATES = {  # projections of the gates at each frame; bfloat16 represents them exactly
    "gru": {"r": 0, "z": 5, "n": 0.5},
    "gru_reset_before": {"r": 0, "z": 5, "n": 0.5},
    "li_gru": {"z": 5, "n": 0.5},
    "lstm": {"i": -4, "f": 6, "g": 1, "o": 0},
    "lstm_peephole": {"i": -4, "f": 6, "g": 1, "o": 0},
    "min_gru": {"z": -5, "n": 0.5},
    "min_lstm": {"f": 5, "i": -5, "n": 0.5},
}
KERNELS = {"pallas_gpu": PallasGpu(interpret=True), "pallas_tpu": PallasTpu(interpret=True)}


def parameters(cell):
    """Parameters of a layer of one unit without inputs: its gates equal their biases."""
    shapes = {name: (1, len(gates)) for name, gates in CELLS[cell].kernels.items()}
    shapes |= {name: (len(gates),) for name, gates in CELLS[cell].vectors.items()}
    bias = np.array([GATES[cell][gate] for gate in CELLS[cell].gates], np.float32)
    return {
        "input_kernel": np.zeros((1, len(bias)), np.float32),
        "input_bias": bias,
        **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
    }


def truth(cell, time, memory=0):
    """Returns the final carry; `memory` is the initial value of its last, slow part."""
    start = (*(np.zeros(1) for _ in CELLS[cell].carry[1:]), np.full(1, memory))
    return reference.layer(cell, parameters(cell), np.zeros((time, 1)), start)[1]


def close_to_the_truth(carry, cell, time=TIME):
    for found, true in zip(carry, truth(cell, time), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, np.broadcast_to(true, found.shape), rtol=1e-3)


def problem(cell, implementation):
    """Returns a function ``(projections, carry) -> (outputs, final carry)``, and its arguments."""
    entry, params = CELLS[cell], parameters(cell)
    recurrent = {name: params[name] for name in (*entry.kernels, *entry.vectors)}
    time = INTERPRETED if implementation in KERNELS else TIME

    def run(projections, carry):
        if implementation in KERNELS:
            loops = KERNELS[implementation]
            return differentiable(loops, entry, recurrent, projections, carry, None, False)
        return recurrence(entry, recurrent, projections, carry, implementation=implementation)

    projections = tuple(
        jnp.full((time, BATCH, 1), bias, jnp.bfloat16) for bias in params["input_bias"]
    )
    return run, projections, entry.initial_carry(BATCH, 1, jnp.bfloat16)


RUNS = [(cell, name) for cell in GATES for name in usable(CELLS[cell], 1, jnp.bfloat16)]
RUNS += [(cell, name) for cell in ("gru", "lstm") for name in KERNELS]


@pytest.mark.parametrize(("cell", "implementation"), RUNS)
def test_by_every_implementation(cell, implementation):
    """The results with and without derivatives, and the gradient of the initial carry."""
    run, projections, carry = problem(cell, implementation)

    @jax.jit
    def all_of_it(carry):
        found, back = jax.vjp(lambda carry: run(projections, carry), carry)
        ones = (*map(jnp.zeros_like, found[1][1:]), jnp.ones_like(found[1][-1]))
        return (run(projections, carry), found), back((jnp.zeros_like(found[0]), ones))[0][-1]

    both, slope = all_of_it(carry)
    for outputs, final in both:
        assert outputs.dtype == jnp.bfloat16
        np.testing.assert_array_equal(outputs[-1], final[0].astype(jnp.bfloat16))
        close_to_the_truth(final, cell, len(outputs))
    # The final memory is a linear function of the initial memory.
    time = len(projections[0])
    expected = truth(cell, time, memory=1)[-1] - truth(cell, time)[-1]
    np.testing.assert_allclose(slope, np.broadcast_to(expected, slope.shape), rtol=5e-3)


@pytest.mark.parametrize("cell", ["gru", "lstm", "min_gru"])
def test_from_segment_to_segment_and_chunk_to_chunk(cell):
    """The carry passes between segments (truncated gradients) and chunks (rematerialisation)."""
    segments = 30
    encoder = Encoder(1, cell, remat_frames=TIME // segments // 4, dtype=jnp.bfloat16)
    variables = {"params": {"forward_0": parameters(cell)}}

    def segment(carry, inputs):
        encoded = encoder.apply(variables, inputs, carry=carry)
        assert {encoded.frames.dtype, encoded.last.dtype} == {jnp.dtype(jnp.bfloat16)}
        return encoded.carry, None

    inputs = jnp.zeros((segments, BATCH, TIME // segments, 1))
    final, _ = jax.lax.scan(segment, encoder.initial_carry(BATCH), inputs)
    close_to_the_truth(final[0][0], cell)
