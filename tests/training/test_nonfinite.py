"""Updates that are not finite are skipped, and too many of them stop the member."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tones import assert_same, fresh, make_loader, member, tiny
from tests.training.one_device import fresh_state, noise, on_one_device, program_of

FRAMES = [8, 3, 5, 1, 8, 6, 7, 2]
KEPT = ("weights", "best", "opt_state", "hyper", "seed", "normalisation", "average")
# After an update with a huge learning rate the loss is NaN.
HUGE = {"optimizer.learning_rate": 3e38}


@pytest.fixture(scope="module")
def stepped():
    """Returns a program that may skip two updates, a state after one step, and the step."""
    changes = {
        "model.name": "crnn",
        "model.conv": ("2 3x3 stride 1x2",),
        "optimizer.momentum": 0.9,
        "optimizer.name": "sgd",
        "train.ema_decay": 0.9,
        "train.skip_nonfinite": 2,
    }
    program = program_of(changes)
    step = on_one_device(lambda state, batch: program.train_step(state, batch))
    state, metrics = step(fresh_state(program, changes), noise(program, FRAMES))
    assert np.isfinite(metrics["loss"])
    return program, state, step


def poisoned(state):
    """Returns the state with one weight set to NaN."""
    params = jax.tree.map(jnp.copy, state.weights.params)
    output = params["head"]["output"]
    output["bias"] = output["bias"].at[0].set(jnp.nan)
    return state.replace(weights=state.weights.replace(params=params))


def assert_kept(state, before):
    for name in KEPT:
        assert_same(getattr(state, name), getattr(before, name))


def test_an_update_that_is_not_finite_changes_only_the_counts(stepped):
    program, state, step = stepped
    batch = noise(program, FRAMES)
    state, counts = poisoned(state), []
    for _ in range(4):
        before = state
        state, metrics = step(state, batch)
        assert np.isnan(metrics["loss"])
        assert_kept(state, before)
        counts.append((int(state.skipped), int(state.step), bool(program.frozen(state))))
    # The third exceeds the limit and does not count as a step.
    assert counts[:3] == [(1, 2, False), (2, 3, False), (3, 3, True)]


def test_infinite_gradients_of_a_finite_loss_are_skipped(stepped):
    program, state, step = stepped
    params = jax.tree.map(jnp.copy, state.weights.params)
    params["front"]["norm_0"]["scale"] *= 1e-30
    params["encoder"]["forward_0"]["input_kernel"] = jnp.full_like(
        params["encoder"]["forward_0"]["input_kernel"], 1e30
    )
    params["head"]["output"]["kernel"] *= 1e30
    state = state.replace(weights=state.weights.replace(params=params))
    after, metrics = step(state, noise(program, FRAMES))
    assert not np.isfinite(metrics["gradient_norm"])
    assert_kept(after, state)
    assert (int(after.skipped), int(after.step)) == (1, 2)


def trained(source, changes, count, members=({},)):
    """Trains new members for `count` steps, and then for two more."""
    configs = [tiny(HUGE | changes | its) for its in members]
    loader = make_loader(source, configs)
    state, alive, series, start = fresh(loader, configs), np.ones(len(configs), bool), [], 0
    lengths = [1] * count if changes.get("data.loader") == "streamed" else [count - 2, 2]
    for length in lengths:
        state, metrics = loader.train(state, alive, start, start + length)
        series.append(metrics)
        start += length
    return jax.device_get(state), {
        name: np.concatenate([m[name] for m in series], axis=1) for name in series[0]
    }


@pytest.mark.parametrize("loader", ["resident", "streamed"])
def test_a_frozen_member_does_not_change(source, loader):
    """The other member continues as in a single run."""
    members = ({}, {"seed": 1, "optimizer.learning_rate": 0.01})
    state, metrics = trained(source, {"data.loader": loader}, 6, members)
    losses = metrics["loss"][0]
    bad = int(np.flatnonzero(~np.isfinite(losses))[0])
    assert 0 < bad < 5
    assert not losses[bad + 1 :].any()
    assert not metrics["gradient_norm"][0, bad + 1 :].any()
    assert (state.step[0], state.skipped[0]) == (bad, 1)
    assert (state.step[1], state.skipped[1]) == (6, 0)
    assert np.isfinite(metrics["loss"][1]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(member(state.opt_state, 0)))


def test_skipped_updates_within_the_limit_do_not_stop_a_member(source):
    state, metrics = trained(source, {"train.skip_nonfinite": 10}, 6)
    losses = metrics["loss"][0]
    bad = int(np.flatnonzero(~np.isfinite(losses))[0])
    assert not np.isfinite(losses[bad:]).any()
    assert (state.step[0], state.skipped[0]) == (6, 6 - bad)
