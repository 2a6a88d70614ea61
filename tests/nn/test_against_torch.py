"""The same numbers and gradients as PyTorch's nn.GRU, nn.LSTM and nn.RNN, with their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.layer import Encoder
from gru_audio.nn.weights import from_torch, to_torch
from gru_audio.settings import UserError

torch = pytest.importorskip("torch")

BATCH, TIME, FEATURES, HIDDEN = 4, 9, 6, 8
LENGTHS = np.array([9, 4, 1, 7], np.int32)
TORCH = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}


def arrays(state):
    return {name: value.detach().numpy() for name, value in state.items()}


@pytest.mark.parametrize(
    ("layers", "bidirectional"), [(1, False), (2, True)], ids=["one", "two_bidirectional"]
)
@pytest.mark.parametrize("cell", TORCH)
def test_values_and_gradients(cell, layers, bidirectional):
    torch.manual_seed(0)
    module = TORCH[cell](FEATURES, HIDDEN, layers, batch_first=True, bidirectional=bidirectional)
    directions = 1 + bidirectional
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
    start = rng.normal(size=(1 + (cell == "lstm"), layers * directions, BATCH, HIDDEN))
    start = start.astype(np.float32)
    weight = rng.normal(size=(BATCH, TIME, directions * HIDDEN)).astype(np.float32)

    x = torch.tensor(inputs, requires_grad=True)
    s = torch.tensor(start, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    packed, end = module(packed, tuple(s) if cell == "lstm" else s[0])
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    (expected * torch.tensor(weight)).sum().backward()
    end = torch.stack(end) if cell == "lstm" else end[None]

    encoder = Encoder(HIDDEN, cell, layers, bidirectional)
    params = from_torch(cell, arrays(module.state_dict()))

    def run(params, inputs, start):
        carry = tuple(
            tuple(tuple(start[:, layer * directions + d]) for d in range(directions))
            for layer in range(layers)
        )
        encoded = encoder.apply({"params": params}, inputs, LENGTHS, carry=carry)
        final = jnp.stack([jnp.stack(c) for layer in encoded.carry for c in layer], axis=1)
        return (encoded.frames * weight).sum(), (encoded.frames, final)

    gradient = jax.jit(jax.grad(run, argnums=(0, 1, 2), has_aux=True))
    (d_params, d_inputs, d_start), (frames, final) = gradient(params, inputs, start)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(frames, expected.detach(), **close)
    np.testing.assert_allclose(final, end.detach(), **close)
    np.testing.assert_allclose(d_inputs, x.grad, **close)
    np.testing.assert_allclose(d_start, s.grad, **close)

    # The gradient of each of PyTorch's two biases equals that of our bias, which is their sum.
    d_state = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
    for name in d_state:
        if name.startswith("bias_hh"):
            candidate = d_state[name][2 * HIDDEN :] if cell == "gru" else []
            d_state[name] = np.zeros_like(d_state[name])
            d_state[name][len(d_state[name]) - len(candidate) :] = candidate
    expected_params = from_torch(cell, d_state)
    assert jax.tree.structure(d_params) == jax.tree.structure(expected_params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), d_params, expected_params)


@pytest.mark.parametrize("cell", TORCH)
def test_exported_weights_run_in_torch(cell):
    inputs = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))
    encoder = Encoder(HIDDEN, cell, 2, recurrent_init="uniform", bias_init="normal_0.1")
    params = jax.jit(encoder.init)(jax.random.key(1), inputs)["params"]
    state = to_torch(cell, params)
    module = TORCH[cell](FEATURES, HIDDEN, 2, batch_first=True)
    module.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    expected = module(torch.tensor(np.asarray(inputs)))[0].detach()
    frames = jax.jit(encoder.apply)({"params": params}, inputs).frames
    np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, from_torch(cell, state), params)


def test_a_layer_without_biases():
    module = torch.nn.GRU(FEATURES, HIDDEN, bias=False, batch_first=True)
    inputs = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
    params = from_torch("gru", arrays(module.state_dict()))
    frames = Encoder(HIDDEN).apply({"params": params}, inputs).frames
    expected = module(torch.tensor(inputs))[0].detach()
    np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-5)


def test_an_lstm_with_projections_is_refused():
    module = torch.nn.LSTM(FEATURES, HIDDEN, proj_size=3)
    with pytest.raises(UserError, match="weight_hr_l0"):
        from_torch("lstm", arrays(module.state_dict()))


def test_a_cell_that_torch_does_not_have():
    with pytest.raises(UserError, match="Valid: gru, lstm, rnn"):
        to_torch("lstm_peephole", {})
