"""A step gives the same results on any number of devices, and in any group."""

import jax
import numpy as np
import pytest

from tests.tones import NOISE, assert_same, make_loader, member, steps, tiny

# Members that differ in everything that may differ in a group.
MEMBERS = [
    {"seed": 0, "data.hold_out": "group=ann", "train.weight_noise": 0.1},
    {"seed": 1, "data.hold_out": "group=ben", "model.dropout": 0.5, "augment.mixup": 0.1},
    {
        **{"seed": 2, "data.hold_out": "group=cid", "data.train_examples": 20},
        **{"optimizer.learning_rate": 0.02, "train.steps": 30},
    },
]


LONG = pytest.mark.reliability
# All noise, and a batch in two parts that eight devices can share.
SHARED = NOISE | {"train.batch_size": 16, "train.grad_accumulation": 2}


def losses(source, changes):
    configs = [tiny(SHARED | changes)]
    return steps(make_loader(source, configs), configs, [50])[1]["loss"][0]


@pytest.fixture(scope="module")
def one_device(source):
    return losses(source, {})


def test_the_loss_falls(one_device):
    assert np.all(np.isfinite(one_device))
    assert one_device[-5:].mean() < 0.9 * one_device[:5].mean()


@pytest.mark.parametrize(
    ("mode", "devices"),
    [
        ("pjit", 2),
        ("pmap", 4),
        *(
            pytest.param(*rest, marks=LONG)
            for rest in (("pjit", 4), ("pjit", 8), ("pmap", 2), ("pmap", 8))
        ),
    ],
)
def test_sharing_a_batch_between_devices_changes_nothing(source, one_device, mode, devices):
    """Over 50 steps. Noise and parts depend on the row of the whole batch."""
    shared = losses(source, {"parallel.mode": mode, "parallel.data": devices})
    np.testing.assert_allclose(shared, one_device, rtol=1e-5, atol=1e-5)


def test_batch_norm_is_over_the_whole_batch(source):
    changes = {"model.name": "crnn", "model.conv": ("4 3x3 stride 1x2",), "frontend.hop_ms": 40.0}
    whole, shared = (
        steps(make_loader(source, configs), configs, [10])
        for configs in ([tiny(changes)], [tiny(changes | {"parallel.data": 2})])
    )
    np.testing.assert_allclose(whole[1]["loss"], shared[1]["loss"], rtol=1e-5, atol=1e-5)
    for leaf, expected in zip(
        jax.tree.leaves(whole[0].weights.model_state),
        jax.tree.leaves(shared[0].weights.model_state),
        strict=True,
    ):
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def in_a_group(source):
    configs = [tiny(NOISE | changes) for changes in MEMBERS]
    return steps(make_loader(source, configs), configs, [20])


@pytest.mark.parametrize("index", range(len(MEMBERS)))
def test_a_member_equals_a_single_run(source, in_a_group, index):
    """Bit-identical on a CPU: other members have no effect."""
    configs = [tiny(NOISE | MEMBERS[index])]
    loader = make_loader(source, configs)
    state, metrics = steps(loader, configs, [20])
    group_state, group_metrics = in_a_group
    assert_same(member(group_metrics, index), member(metrics, 0))
    assert_same(member(group_state, index), member(state, 0))


def test_sharing_members_between_devices_changes_nothing(source):
    configs = [tiny({"seed": seed}) for seed in range(3)]
    alone = steps(make_loader(source, configs), configs, [20])
    configs = [tiny({"seed": seed, "parallel.member": 2}) for seed in range(3)]
    loader = make_loader(source, configs)
    assert loader.placement.padded_members == 4
    assert_same(steps(loader, configs, [20]), alone)
