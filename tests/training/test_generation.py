"""Training of a generative model of sound is the same on any number of devices and members."""

import functools

import numpy as np
import pytest

from tests.inference.test_generator import SOUND
from tests.tones import make_loader, steps, tiny

STEPS = 4


def losses(source, changes, members=2):
    configs = [tiny(SOUND | {"seed": seed} | changes) for seed in range(members)]
    _, metrics = steps(make_loader(source, configs), configs, [STEPS])
    return metrics["loss"]


@functools.cache
def alone(source):
    return np.concatenate([losses(source, {"seed": seed}, 1) for seed in range(2)])


@pytest.mark.parametrize(
    "changes",
    [
        {"parallel.vmap_members": 0},
        {"parallel.mode": "pmap", "parallel.data": 2, "train.grad_accumulation": 2},
        {"parallel.data": 2, "parallel.member": 2},
    ],
    ids=["vmap", "pmap", "pjit"],
)
def test_members_and_devices(source, changes):
    np.testing.assert_allclose(losses(source, changes), alone(source), rtol=1e-4)
