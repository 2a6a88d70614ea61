"""The weights of a model as safetensors, a format of arrays that holds no code.

https://github.com/huggingface/safetensors
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from safetensors.numpy import load as read
from safetensors.numpy import save as write

from gru_audio.audio.normalise import Normalisation
from gru_audio.exports.function import Function
from gru_audio.files import read_bytes, read_json
from gru_audio.inference.trained_model import TrainedModel, save_model
from gru_audio.settings import UserError
from gru_audio.training.checkpoint import named_leaves
from gru_audio.training.step import Weights


def encode(function: Function) -> bytes:
    """Returns the file: parameters, model state and normalisation, by path."""
    arrays = named_leaves(jax.device_get(_arrays(function.trained)))
    return write({name: np.ascontiguousarray(leaf) for name, leaf in arrays.items()})


def run(function: Function, data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of the function with the weights of the file."""
    arrays, tree = read(data), _arrays(function.trained)
    ordered = [arrays[name] for name in named_leaves(tree)]
    tree = jax.tree.unflatten(jax.tree.structure(tree), ordered)
    weights = Weights(tree["params"], tree["model_state"])
    normalisation = Normalisation(**tree["normalisation"])
    restored = function.with_weights(weights, normalisation)
    return jax.device_get(jax.jit(restored.__call__)(*inputs))


def load(directory: epath.PathLike) -> TrainedModel:
    """Reads an exported model. The files may be untrusted: reading runs no code from them.

    Args:
      directory: the folder of `model.safetensors` and `model.json`.

    Raises:
      UserError: a file is missing or damaged, or the arrays do not match the config.
    """
    directory = epath.Path(directory).expanduser()
    try:
        description = read_json(directory / "model.json")["model"]
        arrays = read(read_bytes(directory / "model.safetensors"))
        with tempfile.TemporaryDirectory() as scratch:  # `TrainedModel.load` checks the arrays
            save_model(epath.Path(scratch), arrays, description)
            return TrainedModel.load(scratch)
    except Exception as error:  # a crafted description can fail anywhere
        cause = error.__cause__ or error  # which names no temporary folder
        reason = str(cause) or type(cause).__name__
        raise UserError(f"The model in {directory} cannot be used: {reason}") from error


def _arrays(trained: TrainedModel) -> dict[str, Any]:
    return {
        "params": trained.weights.params,
        "model_state": trained.weights.model_state,
        "normalisation": {
            "mean": trained.normalisation.mean,
            "std": trained.normalisation.std,
        },
    }
