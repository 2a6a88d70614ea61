"""Encoders: padding, carry, stacking, and JAX transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from gru_audio.nn.layer import Dropout, Encoder, Layer
from gru_audio.settings import UserError

BATCH, TIME, FEATURES, HIDDEN = 4, 8, 5, 6
LENGTHS = jnp.array([8, 5, 1, 3], jnp.int32)

close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)


@functools.cache
def made(cell="gru", layers=1, bidirectional=False, **more):
    """An encoder with parameters, inputs, and its compiled call."""
    # An initialiser that compiles faster than the default.
    encoder = Encoder(HIDDEN, cell, layers, bidirectional, recurrent_init="uniform", **more)
    inputs = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
    variables = jax.jit(encoder.init)(jax.random.key(1), inputs)
    return encoder, variables, inputs, jax.jit(encoder.apply)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_an_example_in_a_padded_batch_has_the_results_that_it_has_alone(cell):
    _, variables, inputs, apply = made(cell, 2, True)
    batch = apply(variables, inputs, LENGTHS)
    alone = apply(variables, inputs[1:2, :5])
    close(batch.frames[1, :5], alone.frames[0])
    assert not np.any(batch.frames[1, 5:])
    jax.tree.map(lambda a, b: close(a[1], b[0]), batch.carry, alone.carry)
    assert alone.lengths.tolist() == [5]


def test_padding_changes_no_gradient():
    encoder, variables, inputs, _ = made("gru", 2, True)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(variables, inputs):
        encoded = encoder.apply(variables, inputs, LENGTHS)
        return (encoded.frames**2).sum() + sum(map(jnp.sum, jax.tree.leaves(encoded.carry)))

    padding = jnp.arange(TIME)[:, None] >= LENGTHS[:, None, None]
    of_noise = gradient(variables, jnp.where(padding, 1e3, inputs))
    jax.tree.map(close, of_noise, gradient(variables, inputs))
    assert not np.any(np.where(padding, of_noise[1], 0))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_final_carry_continues_the_sequence(cell):
    _, variables, inputs, apply = made(cell, 2)
    whole = apply(variables, inputs)
    first = apply(variables, inputs[:, :3])
    second = apply(variables, inputs[:, 3:], carry=first.carry)
    close(jnp.concatenate([first.frames, second.frames], axis=1), whole.frames)
    jax.tree.map(close, second.carry, whole.carry)


def test_backward_is_forward_on_reversed_frames():
    layer, backward = Layer("lstm", HIDDEN), Layer("lstm", HIDDEN, reverse=True)
    _, _, inputs, _ = made()
    variables = layer.init(jax.random.key(1), inputs)
    outputs, carry = backward.apply(variables, inputs)
    expected, expected_carry = layer.apply(variables, inputs[:, ::-1])
    close(outputs, expected[:, ::-1])
    jax.tree.map(close, carry, expected_carry)


def test_shapes():
    encoder, variables, inputs, _ = made("lstm", 2, True)
    encoded = jax.eval_shape(encoder.apply, variables, inputs)
    assert encoded.frames.shape == (BATCH, TIME, 2 * HIDDEN)
    assert encoded.lengths.dtype == jnp.int32
    assert encoded.lengths.shape == (BATCH,)
    assert jax.tree.map(jnp.shape, encoded.carry) == ((((BATCH, HIDDEN),) * 2,) * 2,) * 2


def test_layer_norm_against_its_formula():
    _, variables, inputs, apply = made(layer_norm=True)
    params = dict(variables["params"]["forward_0"])
    rng = np.random.default_rng(0)
    scale, bias = rng.normal(size=(2, 3 * HIDDEN))
    params |= {"norm_scale": jnp.array(scale), "input_bias": jnp.array(bias)}
    # The same cell gets the normalised projections by an identity kernel without bias.
    projections = np.asarray(inputs, np.float64) @ np.asarray(params["input_kernel"], np.float64)
    gates = projections.reshape(BATCH, TIME, 3, HIDDEN)
    gates = (gates - gates.mean(-1, keepdims=True)) / np.sqrt(gates.var(-1, keepdims=True) + 1e-6)
    normalised = gates.reshape(BATCH, TIME, 3 * HIDDEN) * scale + bias
    plain = {
        "input_kernel": jnp.eye(3 * HIDDEN),
        "input_bias": jnp.zeros(3 * HIDDEN),
        "recurrent_kernel": params["recurrent_kernel"],
        "recurrent_bias": params["recurrent_bias"],
    }
    expected, _ = Layer("gru", HIDDEN).apply({"params": plain}, jnp.float32(normalised))
    frames = apply({"params": {"forward_0": params}}, inputs).frames
    np.testing.assert_allclose(frames, expected, atol=1e-5)


def test_dropout_between_layers_only():
    encoder, variables, inputs, _ = made("gru", 2)
    dropout = Dropout(jax.random.split(jax.random.key(0), BATCH), 0.5)
    params = variables["params"]
    below, _ = Layer("gru", HIDDEN).apply({"params": params["forward_0"]}, inputs)
    expected, _ = Layer("gru", HIDDEN).apply({"params": params["forward_1"]}, dropout(below, 1))
    close(encoder.apply(variables, inputs, dropout=dropout).frames, expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_bfloat16(cell):
    encoder, variables, inputs, apply = made(cell, 2, True)
    half = encoder.clone(dtype=jnp.bfloat16).apply(variables, inputs, LENGTHS)
    assert half.frames.dtype == jnp.bfloat16
    frames = apply(variables, inputs, LENGTHS).frames
    np.testing.assert_allclose(half.frames.astype(jnp.float32), frames, atol=0.05)


@pytest.fixture(scope="module")
def members():
    """Returns stacked parameters of three encoders, and a gradient function with its arguments."""
    encoder, _, inputs, _ = made("lstm", 1, True)

    def gradient(variables, inputs, lengths):
        return jax.grad(lambda v: (encoder.apply(v, inputs, lengths).frames ** 2).sum())(variables)

    stacked = jax.vmap(encoder.init, (0, None))(jax.random.split(jax.random.key(2), 3), inputs)
    alone = jax.jit(gradient)
    expected = [
        alone(jax.tree.map(lambda leaf, i=i: leaf[i], stacked), inputs, LENGTHS) for i in range(3)
    ]
    return gradient, stacked, inputs, jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected)


def test_members_under_vmap(members):
    gradient, stacked, inputs, expected = members
    result = jax.jit(jax.vmap(gradient, (0, None, None)))(stacked, inputs, LENGTHS)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), result, expected
    )


def test_members_under_map(members):
    gradient, stacked, inputs, expected = members
    run = jax.jit(lambda stacked: jax.lax.map(lambda v: gradient(v, inputs, LENGTHS), stacked))
    jax.tree.map(close, run(stacked), expected)


def test_members_under_shard_map(members):
    gradient, stacked, inputs, expected = members
    devices = max(n for n in (1, 2, 4) if n <= len(jax.devices()))
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))

    def step(stacked, inputs, lengths):
        one = jax.lax.map(lambda v: gradient(v, inputs, lengths), stacked)
        return jax.lax.psum(one, "data")

    data = PartitionSpec("data")
    run = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(PartitionSpec(), data, data),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    result = jax.jit(run)(stacked, inputs, LENGTHS)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), result, expected
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cell", "grv", 'Unknown cell "grv". Did you mean "gru"'),
        (
            "recurrent_init",
            "ortogonal",
            'Unknown initialiser "ortogonal". Did you mean "orthogonal"',
        ),
        ("implementation", "skan", 'Unknown implementation "skan". Did you mean "scan"'),
    ],
)
def test_an_unknown_name_is_refused(field, value, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        jax.eval_shape(
            Encoder(HIDDEN, **{field: value}).init, jax.random.key(0), jnp.zeros((1, 2, 3))
        )
