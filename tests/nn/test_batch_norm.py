"""Batch norm against linen's with a mask, and over a divided batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from gru_audio.nn.batch_norm import BatchNorm

LENGTHS = jnp.array([7, 2, 5, 1], jnp.int32)
VALID = jnp.arange(7) < LENGTHS[:, None]
X = 3 + 2 * jax.random.normal(jax.random.key(0), (4, 7, 3, 5))


def run(x, valid, batch_axis=None):
    norm = BatchNorm(batch_axis)
    variables = norm.init(jax.random.key(1), x, valid, train=False)
    return norm.apply(variables, x, valid, train=True, mutable=["batch_stats"])


def test_against_linen():
    theirs = nn.BatchNorm(use_running_average=False, momentum=0.9)
    mask = jnp.broadcast_to(VALID[..., None, None], X.shape)
    variables = theirs.init(jax.random.key(1), X)
    expected, stats = theirs.apply(variables, X, mask=mask, mutable=["batch_stats"])
    y, updates = run(X, VALID)
    np.testing.assert_allclose(jnp.where(mask, y, 0), jnp.where(mask, expected, 0), atol=1e-5)
    stats = stats["batch_stats"]
    np.testing.assert_allclose(updates["batch_stats"]["mean"], stats["mean"], rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["variance"], stats["var"], rtol=1e-5)


def test_evaluation_uses_running_statistics():
    norm = BatchNorm()
    variables = {
        "params": {"scale": jnp.full(5, 2.0), "bias": jnp.full(5, 1.0)},
        "batch_stats": {"mean": jnp.full(5, 3.0), "variance": jnp.full(5, 4.0)},
    }
    y = norm.apply(variables, X, VALID, train=False)
    np.testing.assert_allclose(y, 2 * (X - 3) / 2 + 1, atol=1e-5)


def test_padding_has_no_effect_on_statistics():
    y, stats = run(X, VALID)
    y2, stats2 = run(jnp.where(VALID[..., None, None], X, 1e6), VALID)
    np.testing.assert_array_equal(y[VALID], y2[VALID])
    jax.tree.map(np.testing.assert_array_equal, stats, stats2)


def test_no_cancellation_far_from_zero():
    far, _ = run(X + 1e4, VALID)
    near, _ = run(X, VALID)
    np.testing.assert_allclose(far[VALID], near[VALID], atol=2e-3)  # float32 keeps 1e-3 at 1e4


def test_a_divided_batch_has_the_statistics_of_the_whole():
    """Two parts of different lengths; the module only needs an axis name."""
    expected, stats = run(X, VALID)
    parts, part_stats = jax.vmap(lambda x, v: run(x, v, "data"), axis_name="data")(
        X.reshape(2, 2, 7, 3, 5), VALID.reshape(2, 2, 7)
    )
    np.testing.assert_allclose(parts.reshape(X.shape)[VALID], expected[VALID], atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5), part_stats, stats)


def test_inside_shard_map():
    devices = max(n for n in (1, 2, 4) if n <= len(jax.devices()))
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    data = PartitionSpec("data")
    divided = jax.shard_map(
        lambda x, v: run(x, v, "data"),
        mesh=mesh,
        in_specs=(data, data),
        out_specs=(data, PartitionSpec()),
        check_vma=False,
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        jax.jit(divided)(X, VALID),
        run(X, VALID),
    )
