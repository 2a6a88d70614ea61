"""Weights by the names of PyTorch's modules."""

import jax
import numpy as np
import pytest

from gru_audio.settings import UserError
from tests.exports.models import assert_runs_alike, function_of
from tests.tones import assert_same

pytest.importorskip("safetensors", reason="needs the extra [export]")

from gru_audio.exports import torch as writer

CELLS = {"gru": "GRU", "lstm": "LSTM", "rnn": "RNN"}


@pytest.mark.parametrize("cell", CELLS)
def test_weights_come_back(cell):
    changes = {"model.cell": cell, "model.layers": 2, "model.bidirectional": True}
    changes |= {"model.pooling": "attention", "model.dense": ("4 relu",)}
    function = function_of(changes)
    weights, normalisation = writer.decode(cell, writer.encode(function))
    assert_same(weights.params, function.trained.weights.params)
    assert_same(normalisation, function.trained.normalisation)
    assert_runs_alike(writer, function)


@pytest.mark.parametrize("cell", CELLS)
def test_pytorch_computes_the_same(cell):
    torch = pytest.importorskip("torch", reason="needs the extra [bench]")
    from safetensors.torch import load

    function = function_of({"model.cell": cell, "model.layers": 2})
    features, lengths = function.example()
    state = load(writer.encode(function))
    modules = torch.nn.ModuleDict(
        {
            "encoder": getattr(torch.nn, CELLS[cell])(features.shape[-1], 5, 2, batch_first=True),
            "output": torch.nn.Linear(5, 3),
        }
    )
    x = (torch.from_numpy(features) - state.pop("mean")) / state.pop("std")
    modules.load_state_dict(state)
    with torch.no_grad():
        frames, _ = modules["encoder"](x)
        last = frames[np.arange(len(frames)), lengths - 1]
        found = modules["output"](last).numpy()
    expected, _ = jax.jit(function.__call__)(features, lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model.cell": "li_gru"}, "li_gru"),
        ({"model.layer_norm": True}, "does not cover config.model.layer_norm=True"),
        ({"model.cell": "lstm", "model.projection": 3}, "does not cover config.model.projection=3"),
        ({"model.name": "tcn"}, 'covers config.model.name="rnn_classifier", not "tcn"'),
    ],
)
def test_parts_that_are_not_covered(changes, why):
    with pytest.raises(UserError, match=why):
        writer.encode(function_of(changes))
