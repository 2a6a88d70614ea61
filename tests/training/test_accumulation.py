"""Gradient accumulation gives the update of the whole batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.data.plan import rows_by_device
from tests.tones import NOISE, make_loader, steps, tiny
from tests.training.one_device import (
    compiled_step,
    fresh_state,
    memory,
    noise,
    on_one_device,
    program_of,
)

CRNN = {"model.name": "crnn", "model.conv": ("4 3x3 stride 1x2",), "frontend.hop_ms": 40.0}


def losses(source, changes):
    configs = [tiny(NOISE | changes)]
    loader = make_loader(source, configs)
    calls = [1] * 20 if changes.get("data.loader") == "streamed" else [20]
    return steps(loader, configs, calls)[1]["loss"][0]


@pytest.fixture(scope="module")
def whole(source):
    return losses(source, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"train.grad_accumulation": 4, "parallel.data": 2},
        pytest.param({"train.grad_accumulation": 2}, marks=pytest.mark.reliability),
        pytest.param(
            {"train.grad_accumulation": 2, "parallel.data": 2, "data.loader": "streamed"},
            marks=pytest.mark.reliability,
        ),
    ],
    ids=str,
)
def test_without_batch_norm_it_changes_nothing(source, whole, changes):
    """All noise and mixup's partners depend on the row of the whole batch only."""
    np.testing.assert_allclose(losses(source, changes), whole, rtol=1e-5, atol=1e-5)


def test_devices_share_each_part():
    rows = rows_by_device(12, devices=2, parts=3)
    assert rows.shape == (2, 3, 2)
    np.testing.assert_array_equal(rows[0], [[0, 1], [4, 5], [8, 9]])
    np.testing.assert_array_equal(rows[1], [[2, 3], [6, 7], [10, 11]])
    np.testing.assert_array_equal(rows_by_device(12, devices=3).ravel(), np.arange(12))


@pytest.mark.reliability  # for its length
def test_batch_norm_is_over_each_part_and_updated_once_per_part():
    """The model is applied twice, the second time with the updated statistics."""
    changes = CRNN | {"train.grad_accumulation": 2, "optimizer.name": "sgd"}
    program = program_of(changes)
    state, batch = fresh_state(program, changes), noise(program, [8, 3, 5, 1, 8, 6, 7, 2])
    step = on_one_device(lambda state, batch: program.train_step(state, batch))
    after, metrics = step(state, batch)

    features, frames = program.features(batch)
    targets = jax.nn.one_hot(batch.labels, 3)
    model = program.model.clone(front=program.model.front.clone(batch_axis=None))

    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, stats, part):
        logits, stats = model.apply(
            {"params": params, **stats},
            features[part],
            frames[part],
            train=True,
            mutable=["batch_stats"],
        )
        return -(jax.nn.log_softmax(logits.values) * targets[part]).sum() / 8, stats

    params, stats = state.weights.params, state.weights.model_state
    (first, stats), gradients = loss(params, stats, slice(0, 4))
    (second, stats), more = loss(params, stats, slice(4, 8))
    gradients = jax.tree.map(jnp.add, gradients, more)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(metrics["loss"], first + second)
    rate = state.hyper["optimizer.learning_rate"]
    jax.tree.map(close, after.weights.model_state, dict(stats))
    jax.tree.map(
        lambda new, old, g: close(new, old - rate * g), after.weights.params, params, gradients
    )


@pytest.mark.reliability  # for its length
def test_batch_norms_parts_do_not_depend_on_the_devices(source):
    whole, shared = (
        steps(make_loader(source, configs), configs, [10])[1]["loss"]
        for configs in (
            [tiny(CRNN | {"train.grad_accumulation": 2, "parallel.data": devices})]
            for devices in (1, 2)
        )
    )
    np.testing.assert_allclose(shared, whole, rtol=1e-5, atol=1e-5)


def test_memory_is_that_of_one_part():
    size = {"model.hidden": 32, "train.batch_size": 64}
    whole, parts = (
        memory(compiled_step(size | {"train.grad_accumulation": parts}, 400)) for parts in (1, 8)
    )
    assert parts < whole / 3  # the rest has a constant size: parameters, their moments, the sound
