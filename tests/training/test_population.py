"""Stopped members leave the devices, and the results of the others do not change."""

import shutil

import jax
import numpy as np
import pytest

from tests.tones import NOISE, assert_same, make_loader, member, steps, tiny
from tests.training.outcome import Outcome, same_member

SHORT, LONG = {"train.steps": 10}, {"train.steps": 30}
TWO_DEVICES = {"parallel.member": 2, "checkpoint.every_steps": 5, "train.eval_every": 10}
NEVER, ALWAYS = {"parallel.shrink_gain": 1e9}, {"parallel.shrink_gain": 0.0}
# The remaining members are on one of two devices.
MEMBERS = [LONG | {"seed": 0}, LONG | {"seed": 1}, SHORT | {"seed": 2}, SHORT | {"seed": 3}]


@pytest.fixture(scope="module")
def unpacked(source, tmp_path_factory):
    return Outcome(source, tmp_path_factory.mktemp("whole"), *MEMBERS, **TWO_DEVICES, **NEVER)


def test_remaining_members_move_to_other_devices(source, tmp_path, unpacked):
    assert unpacked.population.size == 4
    packed = Outcome(source, tmp_path, *MEMBERS, **TWO_DEVICES, **ALWAYS)
    assert packed.population.size == 2
    for m in range(4):
        same_member(packed, unpacked, m)
    spent = packed.population.compile_time
    packed.population.restore_all()
    assert packed.population.compile_time == spent  # includes programs that are no longer used
    for role in ("validation", "test"):
        for its, other in zip(
            packed.population.score(role, best=True),
            unpacked.population.score(role, best=True),
            strict=True,
        ):
            assert_same(its, other)


@pytest.mark.parametrize("devices", [2, 1])
def test_resumed_when_some_have_left(source, tmp_path, unpacked, devices):
    """A checkpoint contains all members, on the devices or not."""
    Outcome(source, tmp_path, *MEMBERS, **TWO_DEVICES, **ALWAYS)
    for step in (20, 25, 30):
        shutil.rmtree(tmp_path / "checkpoints" / str(step))
    elsewhere = TWO_DEVICES | {"parallel.member": devices}
    resumed = Outcome(source, tmp_path, *MEMBERS, **elsewhere, **ALWAYS)
    for m in range(4):
        same_member(resumed, unpacked, m)


@pytest.mark.reliability  # for its length
def test_a_vmapped_group_shrinks_when_half_have_stopped(source, tmp_path, unpacked):
    members = [MEMBERS[i] for i in (0, 2, 1, 3)]  # one of each kind on a device
    settings = TWO_DEVICES | {"parallel.vmap_members": 2}
    packed = Outcome(source, tmp_path, *members, **settings, **ALWAYS)
    assert packed.population.size == 2
    for m, its in ((0, 0), (2, 1), (1, 2)):
        for record, other in zip(packed.records(m), unpacked.records(its), strict=True):
            assert record == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.reliability  # for its length
def test_a_vmapped_member_equals_a_single_run(source):
    """Losses agree to 1e-5 over 100 steps with all noise. A NaN member does not affect others."""
    configs = [
        tiny(NOISE | {"seed": seed, "parallel.vmap_members": 0, "optimizer.learning_rate": rate})
        for seed, rate in ((0, 0.01), (1, 3e38), (2, 0.002))
    ]
    _, together = steps(make_loader(source, configs), configs, [100])
    assert not np.isfinite(together["loss"][1]).all()
    for m in (0, 2):
        alone = [configs[m]]
        _, metrics = steps(make_loader(source, alone), alone, [100])
        np.testing.assert_allclose(together["loss"][m], metrics["loss"][0], rtol=1e-5, atol=1e-5)


def test_without_a_gain_members_stay(source, tmp_path):
    """Where members run one after another, stopped members take no time."""
    members = [MEMBERS[i] for i in (0, 2, 1, 3)]
    outcome = Outcome(source, tmp_path, *members, **TWO_DEVICES, **ALWAYS)
    assert outcome.population.size == 4
    assert_same(member(jax.device_get(outcome.state), 1).step, np.int32(10))
