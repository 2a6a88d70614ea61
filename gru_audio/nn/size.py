"""The number of parameters of a model."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gru_audio.nn.model import Model
from gru_audio.nn.models import make_model
from gru_audio.settings import choose

COUNTINGS: Mapping[str, Callable[[Model, Mapping[str, Any]], Any]] = {
    "total": lambda model, params: params,
    "recurrent": lambda model, params: [params[name] for name in model.recurrent],
}


def count_parameters(model: Model, params: Mapping[str, Any], counting: str = "total") -> int:
    """Returns the number of parameters of a model.

    Args:
      model: the model.
      params: its parameters, arrays or shapes.
      counting: "total", or "recurrent" for the input and recurrent weights and biases of its
        recurrent layers only, as Chung et al. 2014 (arXiv 1412.3555) count them.
    """
    counted = choose("counting", counting, COUNTINGS)(model, params)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(counted))


def model_size(config: ConfigDict, features: int, outputs: int, counting: str = "total") -> int:
    """Returns `count_parameters` of the model of a config's ``model`` section."""
    model = make_model(config, outputs)
    frames, lengths = jnp.zeros((1, 1, features)), jnp.ones(1, jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), frames, lengths)
    return count_parameters(model, variables["params"], counting)
