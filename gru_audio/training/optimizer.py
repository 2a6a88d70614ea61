"""Optimizers and learning rate schedules whose numbers may be traced hyperparameters.

Optax's schedules and aliases check their arguments in Python, which fails for traced values. Its
transformations do not. So each step builds the chain of transformations from traced values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from gru_audio.settings import setting
from gru_audio.training.init import is_frozen, path_of, rate_of

_FLOAT = 3e38  # nearly the largest float32

Hyper = Mapping[str, jax.Array]


def _fraction(default: float, doc: str, **more: Any) -> Any:
    return setting(default, doc=doc, low=0, below=1, traced=True, **more)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015)."""

    b1: float = _fraction(0.9, "The decay of the running mean of gradients.")
    b2: float = _fraction(0.999, "The decay of the running mean of squared gradients.")
    eps: float = setting(1e-8, low=0, high=1e6, traced=True, doc="Added to the denominator.")

    decoupled: ClassVar[bool] = False

    @staticmethod
    def scaling(hyper: Hyper) -> list[optax.GradientTransformation]:
        """Returns transformations from gradients to updates of unit learning rate."""
        names = ("optimizer.b1", "optimizer.b2", "optimizer.eps")
        return [optax.scale_by_adam(*(hyper[name] for name in names))]


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    decoupled: ClassVar[bool] = True


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent."""

    momentum: float = _fraction(0.0, "The decay of the running sum of steps.", off=0)

    decoupled: ClassVar[bool] = False

    @staticmethod
    def scaling(hyper: Hyper) -> list[optax.GradientTransformation]:
        """See `Adam.scaling`."""
        name = "optimizer.momentum"
        return [optax.trace(hyper[name])] if name in hyper else []


@dataclass(frozen=True)
class RmsProp(Sgd):
    """RMSProp (Tieleman and Hinton 2012)."""

    decay: float = _fraction(0.9, "The decay of the running mean of squared gradients.")
    eps: float = setting(1e-8, low=0, high=1e6, traced=True, doc="Added to the denominator.")

    @staticmethod
    def scaling(hyper: Hyper) -> list[optax.GradientTransformation]:
        """See `Adam.scaling`."""
        rms = optax.scale_by_rms(hyper["optimizer.decay"], hyper["optimizer.eps"])
        return [rms, *Sgd.scaling(hyper)]


OPTIMIZERS: dict[str, type[Adam] | type[Sgd]] = {
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RmsProp,
    "sgd": Sgd,
}


@dataclass(frozen=True)
class Constant:
    """A constant learning rate."""

    @staticmethod
    def factor(progress: jax.Array, hyper: Hyper) -> jax.Array:
        """Returns the fraction of the peak learning rate; `progress` rises from 0 to 1."""
        return jnp.ones(())


@dataclass(frozen=True)
class Cosine:
    """A learning rate that falls along half a cosine."""

    final_fraction: float = _fraction(
        0.01, "Learning rate at the last step, as a fraction of its peak."
    )

    @staticmethod
    def factor(progress: jax.Array, hyper: Hyper) -> jax.Array:
        """See `Constant.factor`."""
        final = hyper["optimizer.final_fraction"]
        return final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


@dataclass(frozen=True)
class Linear(Cosine):
    """A learning rate that falls linearly."""

    @staticmethod
    def factor(progress: jax.Array, hyper: Hyper) -> jax.Array:
        """See `Constant.factor`."""
        return 1 - (1 - hyper["optimizer.final_fraction"]) * progress


@dataclass(frozen=True)
class Exponential(Cosine):
    """A learning rate that falls by the same factor at each step."""

    @staticmethod
    def factor(progress: jax.Array, hyper: Hyper) -> jax.Array:
        """See `Constant.factor`."""
        return jnp.maximum(hyper["optimizer.final_fraction"], 1e-8) ** progress


SCHEDULES: dict[str, type[Constant] | type[Cosine]] = {
    "constant": Constant,
    "cosine": Cosine,
    "linear": Linear,
    "exponential": Exponential,
}


@dataclass(frozen=True)
class OptimizerSettings:
    """The section `optimizer` of a config: the settings of all optimizers."""

    name: str = setting("adam", choices=OPTIMIZERS, doc="The optimizer.")
    learning_rate: float = setting(1e-3, low=0, high=_FLOAT, traced=True, doc="Peak learning rate.")
    schedule: str = setting(
        "cosine", choices=SCHEDULES, doc="Schedule of the learning rate after the warm-up."
    )
    warmup_steps: int = setting(
        50,
        low=0,
        high=2**31 - 1,
        unit="steps",
        traced=True,
        off=0,
        doc="Steps in which the learning rate rises linearly from 0.",
    )
    weight_decay: float = setting(
        0.0,
        low=0,
        high=_FLOAT,
        traced=True,
        off=0,
        doc="Decoupled for adamw, else added to the gradient; not applied to biases and gains.",
    )
    clip_norm: float = setting(
        1.0,
        low=0,
        high=_FLOAT,
        traced=True,
        off=0,
        doc="Largest norm of the whole gradient; 0: no clipping.",
    )


def make_optimizer(name: str, hyper: Hyper) -> optax.GradientTransformation:
    """Returns the chain from gradients to updates of unit learning rate.

    The updates point in the direction of the gradient. Weight decay is decoupled for "adamw"
    (Loshchilov and Hutter 2019) and added to the gradient for other optimizers. It is not applied
    to vectors (biases, gains).
    """
    optimizer = OPTIMIZERS[name]
    chain = []
    if "optimizer.clip_norm" in hyper:
        chain.append(optax.clip_by_global_norm(hyper["optimizer.clip_norm"]))
    decay = []
    if "optimizer.weight_decay" in hyper:
        decay = [optax.add_decayed_weights(hyper["optimizer.weight_decay"], mask=_matrices)]
    scaling = optimizer.scaling(hyper)
    chain += [*scaling, *decay] if optimizer.decoupled else [*decay, *scaling]
    return optax.chain(*chain) if chain else optax.identity()  # identity: plain SGD


def learning_rate(schedule: str, hyper: Hyper, step: jax.Array) -> jax.Array:
    """Returns the learning rate at a step (0-based): linear warm-up, then the schedule."""
    peak = hyper["optimizer.learning_rate"]
    warmup = hyper.get("optimizer.warmup_steps", jnp.zeros(()))
    step = step.astype(jnp.float32)
    progress = jnp.clip((step - warmup) / jnp.maximum(hyper["train.steps"] - warmup, 1), 0, 1)
    factor = SCHEDULES[schedule].factor(progress, hyper)
    return peak * factor * jnp.minimum(1, (step + 1) / jnp.maximum(warmup, 1))


def descend(
    params: optax.Params,
    updates: optax.Updates,
    rate: jax.Array,
    hyper: Hyper,
    freeze: Sequence[str] = (),
) -> optax.Params:
    """Returns the parameters after an update.

    Args:
      params: those before.
      updates: of unit learning rate, as `make_optimizer` returns them.
      rate: the learning rate; a part of the model may have a multiple of it.
      hyper: of the member.
      freeze: patterns of the parts that stay; see `is_frozen`.
    """

    def step(path: Any, param: jax.Array, update: jax.Array) -> jax.Array:
        name = path_of(path)
        if is_frozen(name, freeze):
            return param
        multiple = hyper.get(rate_of(name))
        return param - (rate if multiple is None else rate * multiple) * update

    return jax.tree.map_with_path(step, params, updates)


def _matrices(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
