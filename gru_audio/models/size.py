"""How many parameters a model has, and arms of a sweep at equal size."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gru_audio.config import choose, override
from gru_audio.models import make_model
from gru_audio.models.model import Model

COUNTINGS: Mapping[str, Callable[[Model, Mapping[str, Any]], Any]] = {
    "total": lambda model, params: params,
    "recurrent": lambda model, params: [params[name] for name in model.recurrent],
}


def count_parameters(model: Model, params: Mapping[str, Any], counting: str = "total") -> int:
    """The number of trained numbers in a model's parameters, arrays or their shapes.

    Args:
      model: which declares the submodules that are recurrent.
      params: its parameters.
      counting: "total"; or "recurrent", the input and recurrent weights and biases of its recurrent
        layers, as Chung et al. 2014 (arXiv 1412.3555) compare their models.
    """
    counted = choose("counting", counting, COUNTINGS)(model, params)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(counted))


def model_size(config: ConfigDict, features: int, outputs: int, counting: str = "total") -> int:
    """`count_parameters` of the model that the ``model`` part of a config describes, not made."""
    model = make_model(config, outputs)
    frames, lengths = jnp.zeros((1, 1, features)), jnp.ones(1, jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), frames, lengths)
    return count_parameters(model, variables["params"], counting)


def match_parameters(
    config: ConfigDict,
    arms: Mapping[str, Mapping[str, Any]],
    *,
    to: str,
    features: int,
    outputs: int,
    counting: str = "total",
) -> dict[str, dict[str, Any]]:
    """Gives every arm the ``model.hidden`` that brings its size nearest to that of the arm ``to``.

    Args:
      config: what the arms have in common.
      arms: name -> changes to the config, by dotted names ("model.cell").
      to: the arm that stays as it is.
      features: width of the frontend's frames.
      outputs: number of classes.
      counting: what is made equal, see `count_parameters`.

    Returns:
      The arms, those other than ``to`` with "model.hidden" set.
    """

    def size(arm: Mapping[str, Any]) -> int:
        return model_size(override(config, dict(arm)).model, features, outputs, counting)

    def resized(arm: Mapping[str, Any]) -> dict[str, Any]:
        return {**arm, "model.hidden": _nearest(lambda n: size({**arm, "model.hidden": n}), target)}

    target = size(choose("arm", to, arms))
    return {name: dict(arm) if name == to else resized(arm) for name, arm in arms.items()}


def _nearest(size: Callable[[int], int], target: int) -> int:
    """The positive integer whose ``size``, which grows with it, is nearest to ``target``.

    Each size takes a trace of the model, so the search interpolates. Sizes grow about
    quadratically.
    """
    size = functools.cache(size)
    below, above = 0, 64
    while size(above) < target:
        below, above = above, 2 * above
    while above - below > 1:
        low, high = (math.sqrt(size(n)) if n else 0.0 for n in (below, above))
        guess = below + round((above - below) * (math.sqrt(target) - low) / (high - low))
        middle = min(max(guess, below + 1), above - 1)
        if size(middle) < target:
            below = middle
        else:
            above = middle
    return min((n for n in (below, above) if n), key=lambda n: abs(size(n) - target))
