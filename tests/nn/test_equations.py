"""Any list of equations that runs forward has a gradient, in every implementation.

Each cell here is written twice: as equations, and as a plain function of one step, which JAX
differentiates.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import sigmoid

from gru_audio.nn.equations import Bias, Cell, Diagonal, Matrix, Pointwise
from gru_audio.nn.kernels.gpu import PallasGpu
from gru_audio.nn.kernels.gradient import differentiable
from gru_audio.nn.kernels.linear import associative
from gru_audio.nn.kernels.loop import Loop, scan
from gru_audio.nn.kernels.tpu import PallasTpu
from gru_audio.settings import UserError

TIME, BATCH, HIDDEN = 6, 3, 5
LENGTHS = np.array([6, 4, 1], np.int32)


class Case(NamedTuple):
    cell: Cell
    step: object  # (params, carry, projections by name) -> carry


def cell(gates, carry, *equations, linear=False):
    return Cell(tuple(gates), tuple(carry), equations, {}, linear)


def blocks(params, name, count):
    return jnp.split(params[name], count, axis=-1)


def sru_memory(c, f, n):
    return sigmoid(f) * c + (1 - sigmoid(f)) * n


def sru_output(c, r, x):
    return sigmoid(r) * jnp.tanh(c) + (1 - sigmoid(r)) * x


def sru_2017(params, carry, p):
    """Lei, Zhang and Artzi 2017 (arXiv 1709.02755v1), equations 3 to 7: gates see the input."""
    c = sru_memory(carry[1], p["f"], p["n"])
    return sru_output(c, p["r"], p["x"]), c


def sru_2018(params, carry, p):
    """Lei et al. 2018 (arXiv 1709.02755v5), equations 1 to 4: gates also depend on the state."""
    f, r = blocks(params, "v", 2)
    old = carry[1]
    c = sru_memory(old, p["f"] + f * old, p["n"])
    return sru_output(c, p["r"] + r * old, p["x"]), c


def set_and_read_again(params, carry, p):
    """Three functions use a gate, and equations assign names again, among them a gate."""
    (h,) = carry
    a = p["a"] + h @ params["u"]
    h = jnp.tanh(a) + 0.5 * h
    a = sigmoid(a)
    h = a * h + (1 - a) * p["b"]
    return (h * a,)


def added_late(params, carry, p):
    """Parameters add to values that were read or assigned, to the carry, and to their own gate."""
    h, c = carry
    a = p["a"] + h @ params["u"]
    q = jnp.tanh(a)
    a = a + q @ params["w"]
    a = a + a @ params["own"]
    q = q * 2 + c * params["d"]
    c = c + q @ params["to_c"]
    return jnp.tanh(a + q), sigmoid(c)


def shared(params, carry, p):
    """A matrix is used twice, a sum is only a bias, and a gate occurs twice in one equation."""
    (h,) = carry
    a = p["a"] + h @ params["u"]
    m = jnp.tanh(a) @ params["u"]
    twice = sum(m @ block for block in blocks(params, "twice", 2))
    return (jnp.tanh(m + params["bias"] * a + twice),)


def unused(params, carry, p):
    """Unused gates, values and a carry; a constant, a bool, and a constant carry."""
    h, still, count = carry
    h = jnp.where(p["a"] > 0, 1.5 * jnp.tanh(p["a"]) * h, p["b"] - h)
    return h, still, count + 1


CASES = {
    "sru_2017": Case(
        cell(
            "fnrx",
            "hc",
            Pointwise("c", sru_memory),
            Pointwise("h", sru_output),
            linear=True,
        ),
        sru_2017,
    ),
    "sru_2018": Case(
        cell(
            "fnrx",
            "hc",
            Diagonal("v", "c", ("f", "r")),
            Pointwise("c", sru_memory),
            Pointwise("h", sru_output),
        ),
        sru_2018,
    ),
    "set_and_read_again": Case(
        cell(
            "ab",
            "h",
            Matrix("u", "h", ("a",)),
            Pointwise("h", lambda a, h: jnp.tanh(a) + 0.5 * h),
            Pointwise("a", lambda a: sigmoid(a)),
            Pointwise("h", lambda h, a, b: a * h + (1 - a) * b),
            Pointwise("h", lambda h, a: h * a),
        ),
        set_and_read_again,
    ),
    "added_late": Case(
        cell(
            "a",
            "hc",
            Matrix("u", "h", ("a",)),
            Pointwise("q", lambda a: jnp.tanh(a)),
            Matrix("w", "q", ("a",)),
            Matrix("own", "a", ("a",)),
            Pointwise("q", lambda q: q * 2),
            Diagonal("d", "c", ("q",)),
            Matrix("to_c", "q", ("c",)),
            Pointwise("h", lambda a, q: jnp.tanh(a + q)),
            Pointwise("c", lambda c: sigmoid(c)),
        ),
        added_late,
    ),
    "shared": Case(
        cell(
            "a",
            "h",
            Matrix("u", "h", ("a",)),
            Pointwise("q", lambda a: jnp.tanh(a)),
            Matrix("u", "q", ("m",)),
            Bias("bias", ("b",)),
            Matrix("twice", "m", ("t", "t")),
            Pointwise("h", lambda m, b, a, t: jnp.tanh(m + b * a + t)),
        ),
        shared,
    ),
    "unused": Case(
        cell(
            "abz",
            ("h", "still", "count"),
            Pointwise("open", lambda a: a > 0),
            Pointwise("constant", lambda: 1.5),
            Pointwise("dead", lambda z, h: z * h),
            Pointwise("h", lambda open, a, b, h, constant: jnp.where(
                open, constant * jnp.tanh(a) * h, b - h
            )),
            Pointwise("count", lambda count: count + 1),
        ),
        unused,
    ),
}  # fmt: skip


def example(cell):
    """Returns parameters, projections and an initial carry, all nonzero."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(0, 0.5, shape), jnp.float32)

    sizes = {name: (HIDDEN, HIDDEN * len(gates)) for name, gates in cell.kernels.items()}
    sizes |= {name: (HIDDEN * len(gates),) for name, gates in cell.vectors.items()}
    return (
        {name: draw(*size) for name, size in sizes.items()},
        tuple(draw(TIME, BATCH, HIDDEN) for _ in cell.gates),
        tuple(draw(BATCH, HIDDEN) for _ in cell.carry),
    )


def by_hand(case, reverse, params, projections, carry):
    """Returns outputs and final carry, frame by frame; the carry is constant past the length."""
    outputs = [jnp.zeros((BATCH, HIDDEN))] * TIME
    for t in reversed(range(TIME)) if reverse else range(TIME):
        now = {gate: p[t] for gate, p in zip(case.cell.gates, projections, strict=True)}
        new, valid = case.step(params, carry, now), (t < LENGTHS)[:, None]
        outputs[t] = jnp.where(valid, new[0], 0)
        carry = tuple(jnp.where(valid, n, old) for n, old in zip(new, carry, strict=True))
    return jnp.stack(outputs), carry


def gradients(run, *arguments):
    """Returns the gradients of a loss with a different weight for each value, and the results."""

    def loss(*arguments):
        outputs, carry = run(*arguments)
        parts = jax.tree.leaves((outputs, carry))
        return sum(jnp.sin(3 * part + i).sum() for i, part in enumerate(parts)), (outputs, carry)

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*arguments)


RUNS = {
    "scan": scan,
    "loop": functools.partial(differentiable, Loop()),
    "pallas_gpu": functools.partial(differentiable, PallasGpu(interpret=True)),
    "pallas_tpu": functools.partial(differentiable, PallasTpu(frames=4, rows=8, interpret=True)),
    "associative": associative,
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, reverse):
    case = CASES[name]
    arguments = example(case.cell)
    expected = gradients(functools.partial(by_hand, case, reverse), *arguments)
    for implementation, run in RUNS.items():
        if implementation == "associative" and not case.cell.linear:
            continue

        def ours(params, projections, carry, run=run):
            return run(case.cell, params, projections, carry, LENGTHS, reverse)

        found = gradients(ours, *arguments)
        jax.tree.map(
            functools.partial(
                np.testing.assert_allclose, rtol=1e-5, atol=2e-5, err_msg=implementation
            ),
            *(found, expected),
        )


def test_every_length_of_a_linear_cell():
    """All frames valid, and no frame valid: then the carry does not change."""
    case = CASES["sru_2017"]
    params, projections, carry = example(case.cell)
    for lengths in (None, np.array([6, 0, 2], np.int32)):
        found = associative(case.cell, params, projections, carry, lengths, False)
        expected = scan(case.cell, params, projections, carry, lengths, False)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), found, expected)


def test_a_cell_that_reads_two_carried_values_is_not_run_in_parallel():
    two = cell("a", "hc", Pointwise("h", lambda h, c: h + c), linear=True)
    with pytest.raises(UserError, match="reads one carried value"):
        associative(two, *example(two), None, False)
