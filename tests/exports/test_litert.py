"""Steps in the interpreter of LiteRT."""

import jax
import numpy as np
import pytest

from gru_audio.nn.cells import CELLS
from tests.exports.models import assert_runs_alike, function_of

pytest.importorskip("litert_converter", reason="needs the extra [litert]")
pytest.importorskip("ai_edge_litert", reason="needs the extra [litert]")

from gru_audio.exports import litert


@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell):
    function = function_of({"model.cell": cell, "model.layers": 2}, stream=True)
    assert_runs_alike(litert, function, function.example(litert.BATCH, litert.FRAMES))


def test_steps_one_after_another_are_the_whole_clip():
    whole = function_of({"model.cell": "lstm"})
    function = function_of({"model.cell": "lstm"}, stream=True)
    features = whole.example(batch=1, frames=20)[0]
    expected, _ = jax.jit(whole.__call__)(features, np.array([20]))
    data, state = litert.encode(function), [np.zeros((1, 5), np.float32)] * 2
    for piece in np.split(features, 10, axis=1):
        outputs, *state = litert.run(function, data, [piece, *state])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
