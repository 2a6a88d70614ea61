"""Implementations of the recurrence: derivatives, memory and errors; test_cells checks numbers."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from gru_audio.nn.cells import CELLS
from gru_audio.nn.layer import Layer
from gru_audio.settings import UserError

BATCH, TIME, FEATURES, HIDDEN = 32, 100, 40, 128
LENGTHS = jnp.arange(BATCH) + TIME - BATCH + 1


def loss(cell, implementation, hidden=4):
    layer = Layer(cell, hidden, implementation=implementation)
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 3))
    params = layer.init(jax.random.key(1), inputs)["params"]
    return lambda x: (layer.apply({"params": params}, x)[0] ** 2).sum(), inputs


@pytest.mark.parametrize("cell", ["gru", "min_gru"])
def test_second_derivatives_are_refused_or_right(cell):
    function, inputs = loss(cell, "loop")

    def slope(x):
        return (jax.grad(function)(x) ** 2).sum()

    with pytest.raises(UserError, match=r'model\.implementation="scan"'):
        jax.grad(slope)(inputs)
    function, inputs = loss(cell, "scan")
    second = jax.grad(slope)(inputs)
    direction = jax.random.normal(jax.random.key(2), inputs.shape)
    step = 1e-2
    difference = (slope(inputs + step * direction) - slope(inputs - step * direction)) / (2 * step)
    assert (second * direction).sum() == pytest.approx(float(difference), rel=1e-2)


def test_forward_mode_is_refused_or_right():
    function, inputs = loss("gru", "loop")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(function, (inputs,), (inputs,))
    reverse = (jax.grad(function)(inputs) * inputs).sum()
    function, _ = loss("gru", "scan")
    assert jax.jvp(function, (inputs,), (inputs,))[1] == pytest.approx(float(reverse), rel=1e-5)


def test_associative_refuses_other_cells():
    with pytest.raises(UserError, match="min_gru"):
        loss("gru", "associative")


def compiled(layer, run):
    inputs = jnp.zeros((BATCH, TIME, FEATURES))
    variables = jax.eval_shape(layer.init, jax.random.key(0), inputs)

    def step(variables, inputs, weight):
        def total(variables, inputs):
            outputs = run(variables, inputs)
            return (outputs * weight).sum(), outputs

        return jax.grad(total, argnums=(0, 1), has_aux=True)(variables, inputs)

    weight = jnp.zeros((BATCH, TIME, HIDDEN))
    return jax.jit(step).lower(variables, inputs, weight).compile()


LINEN = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


@pytest.fixture(scope="module", params=["gru", "lstm", "li_gru", "min_gru"])
def programs(request):
    """Returns a cell and compiled programs of its layer, with equal and with ragged lengths."""
    layer = Layer(request.param, HIDDEN, implementation="loop")
    return (
        request.param,
        compiled(layer, lambda v, x: layer.apply(v, x)[0]),
        compiled(layer, lambda v, x: layer.apply(v, x, LENGTHS)[0]),
    )


def test_temporaries_are_no_more_than_those_of_linen(programs):
    cell, *ours = programs
    if cell not in LINEN:
        pytest.skip("linen has no such cell")
    theirs = nn.RNN(LINEN[cell](HIDDEN))
    linen = compiled(theirs, theirs.apply).memory_analysis().temp_size_in_bytes
    for program in ours:
        assert program.memory_analysis().temp_size_in_bytes <= 1.15 * linen


def test_no_loop_copies_a_whole_sequence(programs):
    """Buffers are updated in place. A copy in the loop body would cost its size in every step."""
    sequence = rf"f32\[{TIME},{BATCH},{HIDDEN}\]\S* copy\("
    for program in programs[1:]:
        text = program.as_text()
        bodies = set(re.findall(r"body=%?([\w.-]+)", text))
        assert len(bodies) >= 2  # forward and backward
        for body in bodies:
            start = re.search(rf"^%?{re.escape(body)} [^\n]*{{\n", text, re.MULTILINE)
            assert start
            inside = text[start.end() : text.index("\n}", start.end())]
            assert "dot" in inside or "fusion" in inside
            assert not re.search(sequence, inside)


@pytest.mark.parametrize("cell", CELLS)
def test_equations_are_consistent(cell):
    """The gradient needs this: one function uses a gate, and the gradient reuses its slot."""
    entry = CELLS[cell]
    used = [name for e in entry.equations for name in getattr(e, "arguments", ())]
    assert all(used.count(gate) == 1 for gate in entry.sums)
    assert len(set(entry.slots)) == len(entry.slots)
    assert entry.slots[: len(entry.sums)] == entry.sums
    assert entry.sums[: len(entry.gates)] == entry.gates


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is an accelerator")
def test_a_kernel_names_its_platform(platform):
    with pytest.raises(UserError, match=f"needs a {platform.upper()}, but JAX runs on the CPU"):
        loss("gru", f"pallas_{platform}")
