"""Optimizers against Optax, schedules against PyTorch and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gru_audio.training.optimizer import SCHEDULES, learning_rate, make_optimizer

HYPER = {
    "optimizer.learning_rate": 0.03,
    "optimizer.b1": 0.8,
    "optimizer.b2": 0.95,
    "optimizer.decay": 0.7,
    "optimizer.eps": 1e-6,
    "optimizer.final_fraction": 0.1,
    "train.steps": 40.0,
}
RNG = np.random.default_rng(0)
PARAMS = {"kernel": RNG.normal(size=(4, 3)), "deep": {"bias": RNG.normal(size=3)}}
PARAMS = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), PARAMS)
TARGET = jax.tree.map(lambda a: a + 1, PARAMS)


def gradients(params, scale):
    """Returns gradients of a quadratic function that changes from step to step."""
    return jax.tree.map(lambda p, t: scale * (p - t), params, TARGET)


def ours(name, hyper, updates=20):
    """Returns parameters after some updates with traced hyperparameters."""

    @jax.jit
    def update(hyper, params, state, scale):
        change, state = make_optimizer(name, hyper).update(gradients(params, scale), state, params)
        rate = hyper["optimizer.learning_rate"]
        return jax.tree.map(lambda p, u: p - rate * u, params, change), state

    hyper = {name: jnp.float32(value) for name, value in hyper.items()}
    params, state = PARAMS, make_optimizer(name, hyper).init(PARAMS)
    for i in range(updates):
        params, state = update(hyper, params, state, 1.0 + i % 3)
    return params


def reference(optimizer, updates=20):
    params, state = PARAMS, optimizer.init(PARAMS)
    for i in range(updates):
        change, state = optimizer.update(gradients(params, 1.0 + i % 3), state, params)
        params = optax.apply_updates(params, change)
    return params


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


@pytest.mark.parametrize(
    ("name", "extra", "expected"),
    [
        ("adam", {}, optax.adam(0.03, 0.8, 0.95, 1e-6)),
        (
            "adamw",
            {"optimizer.weight_decay": 0.2},
            optax.adamw(0.03, 0.8, 0.95, 1e-6, weight_decay=0.2, mask=matrices),
        ),
        ("rmsprop", {}, optax.rmsprop(0.03, 0.7, 1e-6)),
        ("rmsprop", {"optimizer.momentum": 0.9}, optax.rmsprop(0.03, 0.7, 1e-6, momentum=0.9)),
        ("sgd", {}, optax.sgd(0.03)),
        ("sgd", {"optimizer.momentum": 0.9}, optax.sgd(0.03, momentum=0.9)),
        (
            "sgd",
            {"optimizer.clip_norm": 0.5},
            optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.03)),
        ),
        (
            "adam",
            {"optimizer.weight_decay": 0.2},
            optax.chain(
                optax.add_decayed_weights(0.2, mask=matrices), optax.adam(0.03, 0.8, 0.95, 1e-6)
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_optimizer_against_optax(name, extra, expected):
    mine, its = ours(name, HYPER | extra), reference(expected)
    for leaf, other in zip(jax.tree.leaves(mine), jax.tree.leaves(its), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=2e-6, atol=1e-6)


def test_adamw_against_pytorch():
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.tensor(np.asarray(p))) for p in jax.tree.leaves(PARAMS)]
    targets = [torch.tensor(np.asarray(t)) for t in jax.tree.leaves(TARGET)]
    settings = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6}
    groups = [{"params": [p], "weight_decay": 0.2 * (p.ndim > 1)} for p in params]
    optimizer = torch.optim.AdamW(groups, **settings)
    for i in range(20):
        for p, t in zip(params, targets, strict=True):
            p.grad = (1.0 + i % 3) * (p.detach() - t)
        optimizer.step()
    mine = ours("adamw", HYPER | {"optimizer.weight_decay": 0.2})
    for leaf, its in zip(jax.tree.leaves(mine), params, strict=True):
        np.testing.assert_allclose(leaf, its.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_weight_decay_spares_vectors(name):
    without, decayed = ours(name, HYPER), ours(name, HYPER | {"optimizer.weight_decay": 0.5})
    np.testing.assert_array_equal(without["deep"]["bias"], decayed["deep"]["bias"])
    assert np.all(without["kernel"] != decayed["kernel"])


def rates(schedule, **changes):
    hyper = HYPER | {f"optimizer.{name}": value for name, value in changes.items()}
    hyper = {name: jnp.float32(value) for name, value in hyper.items()}
    return np.array(jax.vmap(lambda s: learning_rate(schedule, hyper, s))(jnp.arange(40)))


def test_constant():
    np.testing.assert_allclose(rates("constant"), 0.03, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "exponential"])
def test_schedules_against_pytorch(schedule):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.03)
    schedules = torch.optim.lr_scheduler
    scheduler = {
        "cosine": lambda: schedules.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.003),
        "linear": lambda: schedules.LinearLR(optimizer, 1.0, 0.1, total_iters=40),
        "exponential": lambda: schedules.ExponentialLR(optimizer, gamma=0.1 ** (1 / 40)),
    }[schedule]()
    expected = []
    for _ in range(40):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates(schedule), expected, rtol=2e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_climbs_in_a_line_to_the_peak(schedule):
    warm = rates(schedule, warmup_steps=10)
    np.testing.assert_allclose(warm[:10], 0.03 * np.arange(1, 11) / 10, rtol=1e-5)
    assert warm[10] == warm.max()


def test_cosine_after_warm_up():
    progress = (np.arange(10, 40) - 10) / 30
    expected = 0.003 + 0.027 * 0.5 * (1 + np.cos(np.pi * progress))
    np.testing.assert_allclose(rates("cosine", warmup_steps=10)[10:], expected, rtol=1e-5)


def test_a_schedule_may_end_at_zero():
    for schedule in SCHEDULES:
        assert np.all(np.isfinite(rates(schedule, final_fraction=0.0)))
