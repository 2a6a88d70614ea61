"""Dropout: its masks depend on keys only, and its rate may be traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.layer import Dropout

KEYS = jax.random.split(jax.random.key(0), 6)


def test_a_mask_depends_only_on_key_and_salt():
    whole = Dropout(KEYS, 0.4)(jnp.ones((6, 20, 7)), 3)
    alone = Dropout(KEYS[4:5], 0.4)(jnp.ones((1, 11, 7)), 3)  # another row, other padding
    np.testing.assert_array_equal(alone[0], whole[4, :11])
    assert np.any(whole[0] != whole[1])
    assert np.any(whole[:, 0] != whole[:, 1])
    assert np.any(whole != Dropout(KEYS, 0.4)(jnp.ones((6, 20, 7)), 2))


@pytest.mark.parametrize("shape", [(6, 4000), (6, 40, 100), (6, 20, 10, 20)])
def test_rate_and_scale(shape):
    rate = 0.3
    dropped = np.asarray(Dropout(KEYS, rate)(jnp.ones(shape), 0))
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / (1 - rate)], rtol=1e-6)
    share = (dropped == 0).mean()
    assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / dropped.size)


def test_a_traced_rate():
    x = jax.random.normal(jax.random.key(1), (6, 5, 4))
    run = jax.jit(lambda rate: Dropout(KEYS, rate)(x, 0))
    np.testing.assert_array_equal(run(0.5), Dropout(KEYS, 0.5)(x, 0))
    np.testing.assert_array_equal(run(0.0), x)
    np.testing.assert_array_equal(run(1.0), jnp.zeros_like(x))


def test_dropout_is_a_pytree_that_vmap_accepts():
    dropout = Dropout(jnp.stack([KEYS, KEYS]), jnp.array([0.0, 0.5]))
    dropped = jax.vmap(lambda d: d(jnp.ones((6, 9)), 1))(dropout)
    np.testing.assert_array_equal(dropped[0], jnp.ones((6, 9)))
    np.testing.assert_array_equal(dropped[1], Dropout(KEYS, 0.5)(jnp.ones((6, 9)), 1))


def test_dtype_is_kept():
    assert Dropout(KEYS, 0.5)(jnp.ones((6, 3), jnp.bfloat16), 0).dtype == jnp.bfloat16
