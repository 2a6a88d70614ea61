"""How weights begin, which parts are frozen, and the learning rates of parts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.audio.normalise import Normalisation
from gru_audio.training.checkpoint import named_leaves
from gru_audio.training.hyper import hyperparameters, structure
from gru_audio.training.init import Start, is_frozen, is_output
from tests.tones import assert_same, make_loader, member, tiny
from tests.training.one_device import fresh_state, noise, on_one_device, program_of

SMALL = {
    "model.name": "crnn",
    "model.conv": ("2 3x3 stride 2x2", "2 1x3"),
    "model.hidden": 4,
    "frontend.hop_ms": 40.0,
    "optimizer.name": "sgd",
}
BATCH = [9, 7, 5, 9]  # frames
RATES = ("init.front_rate", "init.encoder_rate", "init.head_rate")


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


def step_of(changes):
    """Returns a function from hyperparameters to the outcome of the first update.

    The outcome is named weights before and after it, and the loss.
    """
    changes = SMALL | changes
    program = program_of(changes)
    state, step = fresh_state(program, changes), on_one_device(program.train_step)

    def outcome(**hyper):
        given = {f"init.{name}": jnp.float32(value) for name, value in hyper.items()}
        begun = dataclasses.replace(state, hyper=state.hyper | given)
        after, metrics = step(begun, noise(program, BATCH))
        return named_leaves(state.weights), named_leaves(after.weights), metrics["loss"]

    return outcome


def changed(before, after, kind="params"):
    return {
        name
        for name in before
        if name.startswith(kind) and not np.array_equal(before[name], after[name])
    }


def test_nothing_frozen_moves_by_a_bit():
    """Neither by a gradient nor by weight decay or noise, also with an epsilon of zero."""
    changes = {
        "optimizer.name": "adamw",
        "optimizer.eps": 0.0,
        "optimizer.weight_decay": 0.1,
        "train.weight_noise": 0.01,
        "init.freeze": ("front/*_0", "encoder"),
    }
    before, after, loss = step_of(changes)()
    trained = {"front/conv_1/kernel", "front/norm_1/scale", "front/norm_1/bias"}
    trained |= {"head/output/kernel", "head/output/bias"}
    assert changed(before, after) == {f"params/{name}" for name in trained}
    assert all(np.isfinite(leaf).all() for leaf in (*after.values(), loss))


def test_frozen_batch_norm_computes_in_training_what_it_computes_later():
    """Its statistics stay, and the loss of an update is that of an evaluation of its clips."""
    changes = {"init.freeze": ("front",)}
    before, after, loss = step_of(changes)()
    assert not changed(before, after, "model_state")
    program = program_of(SMALL | changes)
    state = fresh_state(program, SMALL | changes)
    scores = jax.jit(program.score)(state.weights, state.normalisation, noise(program, BATCH))
    assert loss.item() == pytest.approx(scores["loss"].mean().item(), rel=1e-5)


def test_batch_norm_of_which_a_part_is_frozen_goes_on():
    before, after, _ = step_of({"init.freeze": ("front/norm_0", "encoder")})()
    assert len(changed(before, after, "model_state")) == 4  # mean and variance of two layers
    assert not changed(before, after, "params/front/norm_0")


def test_a_rate_multiplies_the_learning_rate_of_its_part_alone():
    """Compared with updates of plain gradient descent."""
    step = step_of(dict.fromkeys(RATES, 0.5))
    before, whole, _ = step(front_rate=1, encoder_rate=1, head_rate=1)
    rates = {"front_rate": 0.25, "encoder_rate": 2, "head_rate": 0}
    _, after, _ = step(**rates)
    for name in filter(lambda name: name.startswith("params"), after):
        rate = rates[f"{name.split('/')[1]}_rate"]
        expected = rate * (whole[name] - before[name])
        np.testing.assert_allclose(after[name] - before[name], expected, rtol=1e-3, atol=1e-6)


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
