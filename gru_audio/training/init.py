"""How the weights of a run begin, and which of them train: the section `init` of a config.

A run may begin with the weights of a trained model, the source (fine-tuning). A parameter has a
path, such as "encoder/forward_0/input_kernel". Its first name is the part of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from gru_audio.audio.normalise import Normalisation
from gru_audio.settings import setting

SOURCE, TARGET = "source", "target"  # whose statistics normalise the features
RATES = ("front_rate", "encoder_rate", "head_rate")  # keys of the parts' learning rates

_OUTPUT = "output"  # the layer whose last axis has one entry for each output of a model

Tree = Any  # a pytree of arrays


def _rate(part: str) -> Any:
    return setting(
        1.0,
        low=0,
        high=1e6,
        traced=True,
        off=1,
        doc=f"The learning rate of the {part}, as a multiple of optimizer.learning_rate.",
    )


@dataclass(frozen=True)
class InitSettings:
    """The section `init` of a config."""

    source: str = setting(
        "",
        doc='The trained model to begin with: "WORKDIR:RUN"; "WORKDIR", its best run; or a '
        '.safetensors file of export. "{seed}" stands for the seed. "": random weights.',
    )
    freeze: tuple[str, ...] = setting(
        (), high=64, doc='Parts whose weights stay: "encoder", "encoder/*_0"; "*" matches any text.'
    )
    normalisation: str = setting(
        SOURCE,
        choices=(SOURCE, TARGET),
        doc='With a source: its statistics of features, or those of this data set ("target").',
    )
    front_rate: float = _rate("front")
    encoder_rate: float = _rate("encoder")
    head_rate: float = _rate("head")


@struct.dataclass
class Start:
    """What a run begins with instead of random weights. In a group each leaf has a member axis.

    Attributes:
      arrays: parameters and model state, by their path in `Weights`; others begin at random.
      known: which outputs of the model the source has, bool (outputs,).
      normalisation: statistics of the features; None: those of the run's training examples.
    """

    arrays: dict[str, jax.Array]
    known: Any
    normalisation: Normalisation | None

    def replaced(self, weights: Tree) -> Tree:
        """Returns `Weights` with these arrays in the place of random ones."""

        def begin(path: Any, random: jax.Array) -> jax.Array:
            name = path_of(path)
            if name not in self.arrays:
                return random
            array = self.arrays[name]
            return jnp.where(self.known, array, random) if is_output(name) else array

        return jax.tree.map_with_path(begin, weights)


def path_of(path: Any) -> str:
    """Returns the path of a leaf as JAX gives it in the form "encoder/forward_0/input_kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def rate_of(path: str) -> str:
    """Returns the hyperparameter that multiplies the learning rate of a parameter."""
    return f"init.{path.partition('/')[0]}_rate"


def is_output(path: str) -> bool:
    """Whether a parameter has one entry for each output of the model, on its last axis."""
    return path.split("/")[-2:-1] == [_OUTPUT]


def is_frozen(path: str, freeze: Sequence[str]) -> bool:
    """Whether one of the patterns matches a path, or the beginning of it, name by name."""
    names = path.split("/")
    for pattern in freeze:
        globs = pattern.split("/")
        if len(globs) <= len(names) and all(map(fnmatchcase, names, globs)):
            return True
    return False


def stop_gradients(params: Tree, freeze: Sequence[str]) -> Tree:
    """Returns the parameters; frozen ones have no gradient, so that none is computed."""
    if not freeze:
        return params
    return jax.tree.map_with_path(
        lambda path, leaf: (
            jax.lax.stop_gradient(leaf) if is_frozen(path_of(path), freeze) else leaf
        ),
        params,
    )


def keeps_statistics(model_state: Tree, freeze: Sequence[str]) -> bool:
    """Whether all batch norms are frozen. They then use their running statistics in training.

    If some are not, all normalise by the batch.
    """
    paths = [path_of(path[1:]) for path, _ in jax.tree.leaves_with_path(model_state)]
    return bool(paths) and all(is_frozen(path, freeze) for path in paths)
