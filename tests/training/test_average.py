"""The moving average of the weights: its values, and that evaluations use it."""

import jax
import numpy as np
import pytest

from tests.tones import assert_same, make_loader, member, steps, tiny
from tests.training.one_device import fresh_state, noise, on_one_device, program_of
from tests.training.outcome import Outcome

DECAY = 0.5
CHANGES = {"model.name": "crnn", "model.conv": ("2 3x3 stride 1x2",), "train.ema_decay": DECAY}


def test_it_follows_parameters_and_batch_norm_statistics():
    program = program_of(CHANGES)
    step = on_one_device(lambda state, batch: program.train_step(state, batch))
    state, batch = fresh_state(program, CHANGES), noise(program, [8, 3, 5, 1, 8, 6, 7, 2])
    expected = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.weights)]
    for update in range(12):
        state, _ = step(state, batch)
        decay = min(DECAY, (update + 1) / (update + 10))
        for i, leaf in enumerate(jax.tree.leaves(state.weights)):
            expected[i] = decay * expected[i] + (1 - decay) * np.asarray(leaf, np.float64)
    for found, wanted in zip(jax.tree.leaves(state.average), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_it_does_not_change_training(source):
    configs = [tiny({"train.ema_decay": decay}) for decay in (0.0, DECAY)]
    (without, losses), (with_average, others) = (
        steps(make_loader(source, [config]), [config], [10]) for config in configs
    )
    assert without.average is None
    np.testing.assert_allclose(others["loss"], losses["loss"], rtol=1e-6)
    for leaf, wanted in zip(
        *map(jax.tree.leaves, (with_average.weights, without.weights)), strict=True
    ):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=1e-6)


def test_members_may_differ_in_the_decay(source):
    """And each has the average that it would have alone."""
    configs = [tiny({"train.ema_decay": decay}) for decay in (0.3, 0.8)]
    together, _ = steps(make_loader(source, configs), configs, [8])
    for m, config in enumerate(configs):
        alone, _ = steps(make_loader(source, [config]), [config], [8])
        assert_same(member(together.average, m), member(alone.average, 0))


def test_evaluations_and_the_best_weights_are_those_of_the_average(source, tmp_path):
    outcome = Outcome(source, tmp_path, {"train.ema_decay": DECAY, "train.eval_every": 20})
    state = jax.device_get(outcome.state)
    assert_same(state.best, state.average)
    with pytest.raises(AssertionError):
        assert_same(state.best, state.weights)
