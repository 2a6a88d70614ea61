"""The temporal convolutional network against the published description, written in PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.config import default_config, override
from gru_audio.nn.layer import Dropout
from gru_audio.nn.models import make_model
from gru_audio.nn.size import model_size
from gru_audio.nn.tcn import TcnEncoder
from gru_audio.sweeps.size import match_parameters
from tests.training.one_device import fresh_state, noise, on_one_device, program_of

BATCH, TIME, FEATURES, HIDDEN, LAYERS, KERNEL, OUTPUTS = 3, 17, 5, 6, 3, 3, 4
LENGTHS = jnp.array([17, 9, 1], jnp.int32)
EVERYTHING = jnp.full(BATCH, TIME)
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
SHAPE = {"name": "tcn", "hidden": HIDDEN, "layers": LAYERS, "kernel": KERNEL}


def config_of(**changes):
    named = {f"model.{name}": value for name, value in (SHAPE | changes).items()}
    return override(default_config(), named).model


@functools.cache
def made(**changes):
    """Returns a model with large parameters."""
    model = make_model(config_of(**changes), OUTPUTS)
    variables = jax.jit(model.init)(jax.random.key(1), INPUTS, LENGTHS)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    drawn = [
        0.5 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return model, jax.tree.unflatten(tree, drawn)


@functools.cache
def encoder():
    """Returns the stack of blocks as a function of its inputs."""
    _, variables = made()
    stack = TcnEncoder(HIDDEN, LAYERS, KERNEL)
    return jax.jit(functools.partial(stack.apply, {"params": variables["params"]["encoder"]}))


@jax.jit
def loss_and_gradients(params, weight, dropout):
    def loss(params):
        stack = TcnEncoder(HIDDEN, LAYERS, KERNEL)
        frames = stack.apply({"params": params}, INPUTS, EVERYTHING, dropout=dropout).frames
        return (frames * weight).sum(), frames

    return jax.grad(loss, has_aux=True)(params)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_values_and_gradients_are_those_of_pytorch(rate):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    params = jax.tree.map(np.array, made()[1]["params"]["encoder"])
    weight = np.random.default_rng(0).normal(size=(BATCH, TIME, HIDDEN)).astype(np.float32)
    dropout = Dropout(jax.random.split(jax.random.key(3), BATCH), rate)
    gradients, frames = loss_and_gradients(params, weight, dropout)

    def conv(own, x, dilation, salt):
        kernel = torch._weight_norm(own["kernel"].permute(2, 1, 0), own["scale"][:, None, None], 0)
        padded = functional.pad(x, ((KERNEL - 1) * dilation, 0))
        y = functional.conv1d(padded, kernel, own["bias"], dilation=dilation).relu()
        mask = dropout(jnp.ones((BATCH, TIME, HIDDEN)), salt)
        return y * torch.tensor(np.array(mask)).transpose(1, 2)

    own = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), params)
    x = torch.tensor(np.array(INPUTS)).transpose(1, 2)
    for i in range(LAYERS):
        block = own[f"block_{i}"]
        y = conv(block["conv_0"], x, 2**i, 2 * i + 1)
        y = conv(block["conv_1"], y, 2**i, 2 * i + 2)
        if i == 0:  # FEATURES differ from HIDDEN
            shortcut = block["shortcut"]
            x = functional.conv1d(x, shortcut["kernel"].T[..., None], shortcut["bias"])
        x = (y + x).relu()
    expected = x.transpose(1, 2)
    (expected * torch.tensor(weight)).sum().backward()

    np.testing.assert_allclose(frames, expected.detach(), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-4, atol=1e-4 * np.abs(ours).max())


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_a_clip_in_a_padded_batch_gives_what_it_gives_alone(pooling):
    model, variables = made(pooling=pooling)
    padding = jnp.arange(TIME)[:, None] >= LENGTHS[:, None, None]
    logits = jax.jit(model.apply)(variables, jnp.where(padding, jnp.nan, INPUTS), LENGTHS).values
    for row, length in enumerate(LENGTHS.tolist()):
        alone = jax.jit(model.apply)(variables, INPUTS[row, None, :length], LENGTHS[row, None])
        alone = alone.values
        np.testing.assert_allclose(logits[row], alone[0], rtol=1e-5, atol=1e-5)


def test_the_stack_ends_with_the_last_valid_frame_and_zeros_after_it():
    encoded = encoder()(INPUTS, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        np.testing.assert_array_equal(encoded.last[row], encoded.frames[row, length - 1])
        assert np.any(encoded.frames[row, length - 1])
        assert not np.any(encoded.frames[row, length:])


def test_no_output_depends_on_a_later_frame():
    before = encoder()(INPUTS, EVERYTHING).frames
    for frame in (1, 8, TIME - 1):
        after = encoder()(INPUTS.at[:, frame].add(1.0), EVERYTHING).frames
        np.testing.assert_array_equal(after[:, :frame], before[:, :frame])
        assert np.any(after[:, frame] != before[:, frame])


@pytest.mark.parametrize(("kernel", "layers"), [(1, 2), (2, 3), (3, 2)])
def test_receptive_field(kernel, layers):
    seen = 1 + 2 * (kernel - 1) * (2**layers - 1)
    stack = TcnEncoder(2, layers, kernel)
    inputs, lengths = jnp.ones((1, seen + 3, 2)), jnp.array([seen + 3])
    variables = jax.jit(stack.init)(jax.random.key(0), inputs, lengths)
    positive = jax.tree.map(jnp.abs, variables)  # so that each ReLU is the identity

    def last(inputs):
        return stack.apply(positive, inputs, lengths).frames[:, -1].sum()

    touched = np.any(np.asarray(jax.jit(jax.grad(last))(inputs))[0], axis=-1)
    assert touched.tolist() == [False] * 3 + [True] * seen


@functools.cache
def begun(kernel_init):
    """Returns initial parameters of a block with 32 features, 512 channels and kernel 3."""
    stack = TcnEncoder(512, 1, 3, kernel_init)
    variables = jax.jit(stack.init)(jax.random.key(0), jnp.zeros((1, 1, 32)), jnp.ones(1, int))
    return jax.tree.map(np.asarray, variables["params"]["block_0"])


def effective(conv):
    """Returns the normalised weights of a convolution."""
    return conv["scale"] * conv["kernel"] / np.sqrt((conv["kernel"] ** 2).sum((0, 1)))


@pytest.mark.parametrize(
    ("kernel_init", "deviations"),
    # Uniform within 1/sqrt(fan in): a deviation of 1/sqrt(3 fan in).
    [
        ("normal_0.01", (0.01, 0.01)),
        ("uniform_fan_in", ((3 * 3 * 32) ** -0.5, (3 * 3 * 512) ** -0.5)),
    ],
)
def test_initial_weights(kernel_init, deviations):
    block = begun(kernel_init)
    for name, deviation in zip(("conv_0", "conv_1"), deviations, strict=True):
        weights = effective(block[name])
        assert np.mean(weights) == pytest.approx(0, abs=0.05 * deviation)
        assert np.std(weights) == pytest.approx(deviation, rel=0.03)
    # Not normalised, so it keeps the weights that the authors' code draws.
    assert np.std(block["shortcut"]["kernel"]) == pytest.approx(0.01, rel=0.03)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_the_initialisation_is_that_of_the_authors_block():
    """The authors' `TemporalBlock`: weight_norm, then N(0, 0.01) for all convolutions."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)

    def normalised(channels):
        return torch.nn.utils.weight_norm(torch.nn.Conv1d(channels, 512, 3))

    theirs = {"conv_0": normalised(32), "conv_1": normalised(512)}
    theirs["shortcut"] = torch.nn.Conv1d(32, 512, 1)
    for conv in theirs.values():
        conv.weight.data.normal_(0, 0.01)
    for name, channels in (("conv_0", 32), ("conv_1", 512), ("shortcut", 32)):
        conv, own = theirs[name], begun("uniform_fan_in")[name]
        conv(torch.zeros(1, channels, 3))  # recomputes a normalised weight
        weights = own["kernel"] if name == "shortcut" else effective(own)
        for ours, drawn in ((weights, conv.weight), (own["bias"], conv.bias)):
            shares = 0.5, 0.9, 0.99
            ours, drawn = (np.quantile(np.abs(x), shares) for x in (ours, drawn.detach().numpy()))
            np.testing.assert_allclose(ours, drawn, rtol=0.15)


def size_by_formula(features, hidden, layers, kernel):
    """Two convolutions per block with bias and scale, and a linear map if widths differ."""
    convolutions = kernel * hidden * (features + (2 * layers - 1) * hidden) + 4 * layers * hidden
    return convolutions + (hidden * (features + 1) if hidden != features else 0)


@pytest.mark.parametrize(
    ("features", "hidden", "layers", "kernel"), [(88, 150, 2, 3), (10, 10, 8, 8), (2, 24, 8, 8)]
)
def test_size(features, hidden, layers, kernel):
    config = config_of(hidden=hidden, layers=layers, kernel=kernel)
    stack = size_by_formula(features, hidden, layers, kernel)
    assert model_size(config, features, OUTPUTS, "recurrent") == 0  # convolutions are not
    assert model_size(config, features, OUTPUTS) == stack + OUTPUTS * (hidden + 1)


def test_matching_another_model():
    variants = {"gru": {"model.name": "rnn_classifier", "model.hidden": 40}, "tcn": {}}
    config = override(default_config(), {"model.name": "tcn", "model.layers": 2})
    matched = match_parameters(config, variants, to="gru", features=FEATURES, outputs=OUTPUTS)
    target = model_size(override(config, matched["gru"]).model, FEATURES, OUTPUTS)

    def off(hidden):
        return abs(size_by_formula(FEATURES, hidden, 2, 3) + OUTPUTS * (hidden + 1) - target)

    assert matched["tcn"]["model.hidden"] == min(range(1, 100), key=off)


def test_learning():
    changes = {
        "model.name": "tcn",
        "model.hidden": 16,
        "model.layers": 2,
        "model.output_init": "zeros",  # initial loss: ln 3
        "model.dropout": 0.1,
        "optimizer.learning_rate": 0.02,
    }
    program = program_of(changes)
    state, batch = fresh_state(program, changes), noise(program, [20, 12, 7])
    step = on_one_device(lambda state, batch: program.train_step(state, batch))
    losses = []
    for _ in range(100):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(3), rel=0.01)
    assert losses[-1] < 0.2
