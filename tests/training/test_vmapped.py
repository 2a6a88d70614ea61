"""Members in one vmap: each equals a single run, and only one padded length is computed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.training.vmapped import any_member, max_over_members, where_active
from tests.tones import SPEAKERS, fresh, make_loader, tiny

GOES_ON = np.array([True, False, True])


def test_the_loop_runs_while_any_member_is_active():
    together = jax.vmap(any_member, out_axes=None)  # not allowed with one index per member
    assert together(GOES_ON)
    assert not together(np.zeros(3, bool))
    assert not any_member(jnp.bool_(False))


def test_members_share_the_longest_bucket():
    assert jax.vmap(max_over_members, out_axes=None)(jnp.array([1, 3, 0])) == 3
    assert max_over_members(jnp.int32(1)) == 1


def test_stopped_members_do_not_change():
    new, old = {"a": jnp.arange(3.0), "b": jnp.ones((3, 2))}, {"a": -jnp.ones(3)}
    kept = jax.vmap(where_active)(GOES_ON, new, old | {"b": jnp.zeros((3, 2))})
    np.testing.assert_array_equal(kept["a"], [0, -1, 2])
    np.testing.assert_array_equal(kept["b"], [[1, 1], [0, 0], [1, 1]])


def test_shared_values_are_kept_for_each_member():
    kept = jax.vmap(where_active, in_axes=(0, None, 0))(GOES_ON, jnp.float32(7), jnp.arange(3.0))
    np.testing.assert_array_equal(kept, [7, 1, 7])


@pytest.fixture(scope="module")
def configs():
    """Four members. The second one stops because its loss becomes NaN.

    Each member holds out another speaker, so their orders of buckets differ.
    """
    settings = {"data.buckets": 3, "parallel.member": 1, "train.steps": 12}
    rates = enumerate((0.01, 3e38, 0.02, 0.005))
    own = (
        {"optimizer.learning_rate": r, "data.hold_out": f"group={SPEAKERS[m]}"} for m, r in rates
    )
    return [tiny(settings | {"seed": m} | changes) for m, changes in enumerate(own)]


def trained(source, configs, vmap_members):
    """Returns loader, state and metrics of 12 steps; the third member stops after five."""
    for config in configs:
        config.parallel.vmap_members = vmap_members
    loader, series = make_loader(source, configs), []
    state = fresh(loader, configs)
    for start, stop, third in ((0, 5, True), (5, 12, False)):
        state, metrics = loader.train(state, np.array([True, True, third, True]), start, stop)
        series.append(metrics)
    joined = {k: np.concatenate([m[k] for m in series], axis=1) for k in series[0]}
    return loader, jax.device_get(state), joined


@pytest.mark.reliability  # for its length
def test_one_padded_length_is_computed_per_step(source, configs):
    """The program computes one padded length, where a plain `vmap` would compute all.

    Each member equals a single run, whenever the others stop.
    """
    loader, state, together = trained(source, configs, vmap_members=0)
    assert len(loader.data.plan.padded) == 3
    buckets, _ = loader.data.schedule(0, 12)
    assert (buckets != buckets[0]).any()
    program = loader.placement._calls["train"].call.as_text()
    (chosen,) = re.findall(r"conditional\(.*branch_computations={(.*?)}", program)
    assert len(chosen.split(",")) == 3
    _, alone_state, alone = trained(source, configs, vmap_members=1)
    for name, values in alone.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(state.step, [12, 1, 5, 12])
    np.testing.assert_array_equal(alone_state.step, state.step)
    for leaf, other in zip(
        *map(jax.tree.leaves, (state.weights, alone_state.weights)), strict=True
    ):
        np.testing.assert_allclose(leaf, other, rtol=1e-3, atol=1e-4)
