import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.head import Head, Hidden
from gru_audio.nn.layer import EncoderOutput

FRAMES = jax.random.normal(jax.random.key(0), (2, 4, 3))
ENCODED = EncoderOutput(FRAMES, jnp.array([4, 2]), FRAMES[:, 0])


@pytest.mark.parametrize("pooling", ["last", None])
def test_dense_layers(pooling):
    head = Head(2, pooling, dense=(Hidden(5, "relu"), Hidden(4, "linear")))
    outputs, variables = head.init_with_output(jax.random.key(1), ENCODED)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    x = np.asarray(FRAMES if pooling is None else FRAMES[:, 0], np.float64)
    x = np.maximum(x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"], 0)
    x = x @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]
    x = x @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(outputs, x, rtol=1e-5, atol=1e-6)


def test_heads():
    variables = Head(2, "multi_head_attention", heads=3).init(jax.random.key(1), ENCODED)
    assert variables["params"]["output"]["kernel"].shape == (3 * 3, 2)
