"""Optimizers and learning rate schedules whose every number may be a traced hyperparameter.

Optax's own schedules and aliases test their arguments in Python, which a traced value cannot pass;
its transformations do not. So the chain is put together here, anew inside each step, from traced
values.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from gru_audio.config import UserError, nearest

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "linear", "exponential")

Hyper = Mapping[str, jax.Array]


def check(name: str, schedule: str) -> None:
    """Raises `UserError` for an unknown optimizer or schedule."""
    if name not in OPTIMIZERS:
        raise UserError(f'config.optimizer.name="{name}" is unknown.{nearest(name, OPTIMIZERS)}')
    if schedule not in SCHEDULES:
        raise UserError(
            f'config.optimizer.schedule="{schedule}" is unknown.{nearest(schedule, SCHEDULES)}'
        )


def make_optimizer(name: str, hyper: Hyper) -> optax.GradientTransformation:
    """The chain from gradients to a step of unit learning rate, against the gradient's direction.

    Weight decay is decoupled for "adamw" (Loshchilov and Hutter 2019) and added to the gradient for
    the others; it spares vectors (biases, gains).
    """
    chain = []
    if "optimizer.clip_norm" in hyper:
        chain.append(optax.clip_by_global_norm(hyper["optimizer.clip_norm"]))
    decay = None
    if "optimizer.weight_decay" in hyper:
        decay = optax.add_decayed_weights(hyper["optimizer.weight_decay"], mask=_matrices)
    if decay is not None and name != "adamw":
        chain.append(decay)
    if name in ("adam", "adamw"):
        b1, b2 = hyper["optimizer.b1"], hyper["optimizer.b2"]
        chain.append(optax.scale_by_adam(b1, b2, hyper["optimizer.eps"]))
    if name == "rmsprop":
        chain.append(optax.scale_by_rms(hyper["optimizer.decay"], hyper["optimizer.eps"]))
    if name in ("rmsprop", "sgd") and "optimizer.momentum" in hyper:
        chain.append(optax.trace(hyper["optimizer.momentum"]))
    if decay is not None and name == "adamw":
        chain.append(decay)
    return optax.chain(*chain) if chain else optax.identity()  # plain sgd is the latter


def learning_rate(schedule: str, hyper: Hyper, step: jax.Array) -> jax.Array:
    """The learning rate at a step (0-based): linear warm-up, then the schedule to the horizon.

    "cosine", "linear" and "exponential" fall to `final_fraction` of the peak at the horizon.
    """
    peak, final = hyper["optimizer.learning_rate"], hyper["optimizer.final_fraction"]
    warmup = hyper.get("optimizer.warmup_steps", jnp.zeros(()))
    step = step.astype(jnp.float32)
    progress = jnp.clip((step - warmup) / jnp.maximum(hyper["train.steps"] - warmup, 1), 0, 1)
    if schedule == "cosine":
        factor = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    elif schedule == "linear":
        factor = 1 - (1 - final) * progress
    elif schedule == "exponential":
        factor = jnp.maximum(final, 1e-8) ** progress
    else:
        factor = jnp.ones(())
    return peak * factor * jnp.minimum(1, (step + 1) / jnp.maximum(warmup, 1))


def _matrices(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
