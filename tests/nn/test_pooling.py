import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.layer import Encoder
from gru_audio.nn.pooling import POOLINGS, attention, multi_head_attention

LENGTHS = np.array([6, 2, 1], np.int32)


@pytest.fixture(scope="module")
def encoded():
    inputs = jax.random.normal(jax.random.key(0), (3, 6, 4))
    encoder = Encoder(5, "lstm", bidirectional=True, recurrent_init="uniform")
    return jax.jit(encoder.init_with_output)(jax.random.key(1), inputs, LENGTHS)[0]


def test_last_has_seen_every_frame(encoded):
    pooled = np.asarray(POOLINGS["last"](encoded))
    frames = np.asarray(encoded.frames)
    for i, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(pooled[i, :5], frames[i, length - 1, :5])
        np.testing.assert_array_equal(pooled[i, 5:], frames[i, 0, 5:])


@pytest.mark.parametrize(("name", "of_numpy"), [("mean", np.mean), ("max", np.max)])
def test_over_valid_frames(encoded, name, of_numpy):
    pooled = POOLINGS[name](encoded)
    frames = np.asarray(encoded.frames)
    for i, length in enumerate(LENGTHS):
        np.testing.assert_allclose(pooled[i], of_numpy(frames[i, :length], axis=0), rtol=1e-6)


def test_attention(encoded):
    class Pool(nn.Module):
        @nn.compact
        def __call__(self, encoded):
            return attention(encoded)

    pooled, variables = Pool().init_with_output(jax.random.key(2), encoded)
    frames = np.asarray(encoded.frames, np.float64)
    query = np.asarray(variables["params"]["attention"]["kernel"], np.float64)
    for i, length in enumerate(LENGTHS):
        weight = np.exp(frames[i, :length] @ query)
        expected = (weight / weight.sum() * frames[i, :length]).sum(0)
        np.testing.assert_allclose(pooled[i], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("heads", [1, 3])
def test_multi_head_attention(encoded, heads):
    class Pool(nn.Module):
        @nn.compact
        def __call__(self, encoded):
            return multi_head_attention(encoded, heads)

    params = Pool().init(jax.random.key(2), encoded)["params"]
    assert jax.tree.map(jnp.shape, params["query"]) == {
        "kernel": (10, heads * 10),
        "bias": (heads * 10,),
    }
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(10, heads * 10)), rng.normal(size=heads * 10)
    pooled = Pool().apply({"params": {"query": {"kernel": kernel, "bias": bias}}}, encoded)
    frames = np.asarray(encoded.frames, np.float64)
    for i, length in enumerate(LENGTHS):
        own, query = frames[i, :length], frames[i, length // 2] @ kernel + bias
        for head in range(heads):
            weight = np.exp(own @ query[10 * head :][:10])
            expected = weight @ own / weight.sum()
            np.testing.assert_allclose(pooled[i, 10 * head :][:10], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["last", "mean", "max"])
def test_an_empty_example_pools_to_zero(encoded, name):
    empty = encoded.replace(
        frames=jnp.zeros_like(encoded.frames),
        lengths=jnp.zeros_like(encoded.lengths),
        last=jnp.zeros_like(encoded.last),
    )
    np.testing.assert_array_equal(POOLINGS[name](empty), np.zeros((3, 10)))
