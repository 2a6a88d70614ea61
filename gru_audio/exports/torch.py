"""The weights of a recurrent model as those of PyTorch modules, in a safetensors file.

`encoder.` names the parameters of an `nn.GRU`, `nn.LSTM` or `nn.RNN`, and `output.`, `dense_0.` ...
those of an `nn.Linear`. `mean` and `std` normalise the features. PyTorch itself is not needed.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load as read
from safetensors.numpy import save as write

from gru_audio.audio.normalise import Normalisation
from gru_audio.exports.function import Function
from gru_audio.nn.rnn_classifier import RnnClassifier
from gru_audio.nn.weights import from_torch, to_torch
from gru_audio.settings import UserError
from gru_audio.training.step import Weights

_ENCODER = "encoder."


def encode(function: Function) -> bytes:
    """Returns the file.

    Raises:
      UserError: PyTorch has no module for a part of the model.
    """
    config, model = function.trained.config.model, function.program.model
    if type(model) is not RnnClassifier:
        raise UserError(
            f'--format torch covers config.model.name="rnn_classifier", not "{config.name}".'
        )
    for key in ("layer_norm", "projection"):
        if config.get(key):
            raise UserError(f"--format torch does not cover config.model.{key}={config[key]}.")
    params = jax.device_get(function.trained.weights.params)
    arrays = to_torch(config.cell, params["encoder"])
    arrays = {_ENCODER + name: array for name, array in arrays.items()}
    for name, dense in params["head"].items():
        arrays[f"{name}.weight"] = dense["kernel"].T
        if "bias" in dense:
            arrays[f"{name}.bias"] = dense["bias"]
    normalisation = function.trained.normalisation
    arrays |= {"mean": np.asarray(normalisation.mean), "std": np.asarray(normalisation.std)}
    return write({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def decode(cell: str, data: bytes) -> tuple[Weights, Normalisation]:
    """Returns the weights of a file, whose PyTorch modules may have been trained elsewhere.

    Args:
      cell: "gru", "lstm" or "rnn".
      data: the file.
    """
    arrays = read(data)
    normalisation = Normalisation(*(jnp.asarray(arrays.pop(name)) for name in ("mean", "std")))
    encoder = {
        name.removeprefix(_ENCODER): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(_ENCODER)
    }
    head: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            head.setdefault(layer, {})["kernel"] = array.T
        else:
            head.setdefault(layer, {})[kind] = array
    return Weights({"encoder": from_torch(cell, encoder), "head": head}, {}), normalisation


def run(function: Function, data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of the function with the weights of the file."""
    weights = decode(function.trained.config.model.cell, data)
    return jax.device_get(jax.jit(function.with_weights(*weights).__call__)(*inputs))
