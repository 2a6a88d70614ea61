"""How weights begin, which parts are frozen, and the learning rates of parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.audio.normalise import Normalisation
from gru_audio.training.checkpoint import named_leaves
from gru_audio.training.hyper import hyperparameters, structure
from gru_audio.training.init import Start, is_frozen, is_output
from tests.tones import assert_same, fresh, make_loader, member, steps, tiny

SMALL = {
    "model.name": "crnn",
    "model.conv": ("2 3x3 stride 2x2", "2 1x3"),
    "model.hidden": 4,
    "frontend.hop_ms": 40.0,
    "optimizer.name": "sgd",
}


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        ("encoder", True),
        ("enc*", True),
        ("encoder/*_0", True),
        ("encoder/forward_0/input_kernel", True),
        ("*/*/*_kernel", True),
        ("encoder/forward_0/input_kernel/more", False),
        ("forward_0", False),
        ("encode", False),
        ("ENCODER", False),
        ("encoder/*_1", False),
        ("", False),
        ("encoder/", False),
    ],
)
def test_patterns_match_paths_from_the_left(pattern, frozen):
    assert is_frozen("encoder/forward_0/input_kernel", ("head", pattern)) == frozen


def test_the_output_layer_is_found_by_its_name():
    assert is_output("params/head/output/kernel")
    assert not is_output("params/head/dense_0/kernel")
    assert not is_output("output")


def trained(source, changes, count=2, members=({},)):
    """Named parameters and state before and after some steps, and the metrics."""
    configs = [tiny(SMALL | changes | own) for own in members]
    loader = make_loader(source, configs)
    before = jax.device_get(loader.placement.gather(fresh(loader, configs)))
    after, metrics = steps(loader, configs, [count])
    return named_leaves(before.weights), named_leaves(after.weights), metrics


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


HEAD = {"params/head/output/kernel", "params/head/output/bias"}


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_nothing_frozen_moves_by_a_bit(source, name):
    """Neither by a gradient nor by weight decay or noise, also with an epsilon of zero."""
    changes = {
        "optimizer.name": name,
        "optimizer.eps": 0.0,
        "optimizer.weight_decay": 0.1,
        "train.weight_noise": 0.01,
        "init.freeze": ("front/*_0", "encoder"),
    }
    before, after, metrics = trained(source, changes)
    moved = {name for name in changed(before, after) if name.startswith("params")}
    rest = {f"params/front/{name}" for name in ("conv_1/kernel", "norm_1/scale", "norm_1/bias")}
    assert moved == rest | HEAD
    assert all(np.isfinite(leaf).all() for leaf in (*after.values(), metrics["loss"]))


@pytest.mark.parametrize(("frozen", "moving"), [("front", 0), ("front/norm_0", 4)])
def test_batch_norm_keeps_its_statistics_if_all_of_it_is_frozen(source, frozen, moving):
    before, after, _ = trained(source, {"init.freeze": (frozen, "encoder")})
    statistics = {name for name in changed(before, after) if "batch_stats" in name}
    assert len(statistics) == moving  # mean and variance of two layers


def test_the_gradient_norm_is_that_of_the_trained_weights(source):
    """The squares of the norms of all parts add up."""

    def norm(*frozen):
        changes = {"model.name": "rnn_classifier", "init.freeze": frozen}
        return trained(source, changes, 1)[2]["gradient_norm"].item()

    parts = norm("encoder") ** 2 + norm("head") ** 2
    assert parts == pytest.approx(norm() ** 2, rel=1e-4)


def test_a_rate_multiplies_the_learning_rate_of_its_part_alone(source):
    """Compared with updates of plain gradient descent: members differ in the encoder's rate."""
    members = ({}, {"init.encoder_rate": 0.25}, {"init.encoder_rate": 0.0})
    before, after, _ = trained(source, {"parallel.vmap_members": 0}, 1, members)
    for name, leaf in after.items():
        if not name.startswith("params"):
            continue
        step = leaf - before[name]
        np.testing.assert_array_equal(before[name][0], before[name][1])
        share = (1, 0.25, 0) if name.startswith("params/encoder") else (1, 1, 1)
        for m in range(3):
            np.testing.assert_allclose(step[m], share[m] * step[0], rtol=1e-3, atol=1e-6)


def test_rates_are_traced_and_frozen_parts_are_not():
    same = structure(tiny({"init.head_rate": 2.0}))
    assert same == structure(tiny({"init.head_rate": 0.1})) != structure(tiny())
    assert structure(tiny({"init.freeze": ("head",)})) != structure(tiny())
    assert hyperparameters([tiny()]).keys() & {"init.front_rate", "init.head_rate"} == set()
    rates = hyperparameters([tiny(), tiny({"init.head_rate": 0.5})])["init.head_rate"]
    np.testing.assert_array_equal(rates, np.float32([1, 0.5]))


def start_of(weights, known, seed):
    """A start with other weights, for one member."""
    rng = np.random.default_rng(seed)
    arrays = {
        name: rng.normal(size=leaf.shape).astype(np.float32)
        for name, leaf in named_leaves(weights).items()
    }
    statistics = Normalisation(*rng.uniform(1, 2, (2, 8)).astype(np.float32))
    return Start(arrays, np.array(known), statistics)


@pytest.mark.parametrize(
    "parallel",
    [
        {},
        {"parallel.member": 2, "parallel.data": 2},
        {"parallel.mode": "pmap", "parallel.data": 2, "parallel.vmap_members": 0},
    ],
    ids=str,
)
def test_each_member_begins_with_its_own_start(source, parallel):
    """Unknown outputs begin as they would without a start, on any placement."""
    configs = [tiny(parallel | {"seed": seed}) for seed in range(2)]
    loader = make_loader(source, configs)
    hyper, gather = hyperparameters(configs), loader.placement.gather
    random = jax.device_get(gather(loader.initial_state(hyper)))
    known = [True, False, True]
    starts = [start_of(member(random.weights, m), known, m) for m in range(2)]
    start = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    state = jax.device_get(gather(loader.initial_state(hyper, start)))
    for m, its in enumerate(starts):
        assert_same(member(state.normalisation, m), its.normalisation)
        for name, leaf in named_leaves(member(state.weights, m)).items():
            expected = its.arrays[name]
            if is_output(name):
                expected[..., 1] = named_leaves(member(random.weights, m))[name][..., 1]
            np.testing.assert_array_equal(leaf, expected)
    assert_same(state.best, state.weights)


def test_arrays_that_a_start_lacks_are_random():
    weights = {"a": jnp.zeros(3), "head": {"output": {"bias": jnp.zeros(2)}}}
    start = Start({"a": np.ones(3)}, np.array([True, False]), None)
    replaced = start.replaced(weights)
    np.testing.assert_array_equal(replaced["a"], 1)
    np.testing.assert_array_equal(replaced["head"]["output"]["bias"], 0)
