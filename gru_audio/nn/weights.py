"""Conversion of recurrent weights from and to linen and PyTorch, as NumPy arrays.

linen's `GRUCell` and `OptimizedLSTMCell` and PyTorch's `nn.GRU`, `nn.LSTM` and `nn.RNN` compute the
same functions as the cells "gru", "lstm" and "rnn", with the gates in the same order. Only the
biases differ. If a gate has two biases, their sum is the input bias here. The exception is the
recurrent bias of the GRU's candidate: the reset gate multiplies it, so it is a separate parameter
here, too.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gru_audio.nn.cells import CELLS
from gru_audio.settings import UserError, choose

Arrays = dict[str, np.ndarray]

_LINEN = {"gru": "GRUCell", "lstm": "OptimizedLSTMCell"}
_TORCH = {"gru": "nn.GRU", "lstm": "nn.LSTM", "rnn": "nn.RNN"}


def from_linen(cell: str, params: Mapping[str, Mapping[str, Any]]) -> Arrays:
    """Converts the parameters of a linen cell to those of a `Layer`.

    Args:
      cell: "gru" for a `GRUCell`, "lstm" for an `OptimizedLSTMCell` or `LSTMCell`.
      params: those of the linen cell; for an `nn.RNN`, ``variables["params"]["cell"]``.

    Raises:
      UserError: the cell is unknown.
    """
    choose("cell of linen", cell, _LINEN)

    def kernel(source: str) -> np.ndarray:
        return np.concatenate(
            [params[source + gate]["kernel"] for gate in CELLS[cell].gates], axis=-1
        )

    def bias(source: str) -> np.ndarray:
        dense = [params[source + gate] for gate in CELLS[cell].gates]
        return np.concatenate([d.get("bias", np.zeros(d["kernel"].shape[-1:])) for d in dense])

    return _layer(cell, kernel("i"), kernel("h"), bias("i"), bias("h"))


def to_linen(cell: str, params: Mapping[str, Any]) -> dict[str, Arrays]:
    """Converts the parameters of a `Layer` to those of a linen cell: inverse of `from_linen`."""
    choose("cell of linen", cell, _LINEN)
    gates = CELLS[cell].gates

    def blocks(name: str) -> list[np.ndarray]:
        return np.split(np.asarray(params[name]), len(gates), axis=-1)

    dense = {}
    for source, name in (("i", "input_kernel"), ("h", "recurrent_kernel")):
        for gate, block in zip(gates, blocks(name), strict=True):
            dense[source + gate] = {"kernel": block}
    biased = "i" if cell == "gru" else "h"
    for gate, block in zip(gates, blocks("input_bias"), strict=True):
        dense[biased + gate]["bias"] = block
    if cell == "gru":
        dense["hn"]["bias"] = np.asarray(params["recurrent_bias"])
    return dense


def from_torch(cell: str, state: Mapping[str, Any]) -> dict[str, Arrays]:
    """Converts the parameters of a PyTorch module to those of an `Encoder`.

    Args:
      cell: "gru", "lstm" or "rnn".
      state: ``module.state_dict()`` of an `nn.GRU`, `nn.LSTM` or `nn.RNN`, with any number of
        layers and directions, with or without biases. NumPy must be able to convert its values.

    Raises:
      UserError: the cell is unknown, or the state has other parameters, such as projections.
    """
    choose("cell of PyTorch", cell, _TORCH)
    state = {name: np.asarray(value) for name, value in state.items()}
    layers: dict[str, Arrays] = {}
    for name, kernel in state.items():
        match = re.fullmatch(r"(weight|bias)_(ih|hh)_(l(\d+)(_reverse)?)", name)
        if not match:
            raise UserError(f'"{name}" is not a parameter of a plain {_TORCH[cell]}.')
        kind, source, suffix, layer, reverse = match.groups()
        if (kind, source) == ("weight", "ih"):
            zeros = np.zeros(len(kernel), kernel.dtype)
            layers[f"{'backward' if reverse else 'forward'}_{layer}"] = _layer(
                cell,
                kernel.T,
                state[f"weight_hh_{suffix}"].T,
                state.get(f"bias_ih_{suffix}", zeros),
                state.get(f"bias_hh_{suffix}", zeros),
            )
    return layers


def to_torch(cell: str, params: Mapping[str, Mapping[str, Any]]) -> Arrays:
    """Converts the parameters of an `Encoder` to the state of a PyTorch module.

    The second bias of each gate is zero, except for the candidate of the GRU. Convert the arrays to
    tensors before you call ``module.load_state_dict``.
    """
    choose("cell of PyTorch", cell, _TORCH)
    state = {}
    for name, layer in params.items():
        direction, number = name.split("_")
        suffix = f"l{number}" + ("_reverse" if direction == "backward" else "")
        layer = {key: np.asarray(value) for key, value in layer.items()}
        second = np.zeros_like(layer["input_bias"])
        if cell == "gru":
            second[-len(layer["recurrent_bias"]) :] = layer["recurrent_bias"]
        state[f"weight_ih_{suffix}"] = layer["input_kernel"].T
        state[f"weight_hh_{suffix}"] = layer["recurrent_kernel"].T
        state[f"bias_ih_{suffix}"] = layer["input_bias"]
        state[f"bias_hh_{suffix}"] = second
    return state


def _layer(
    cell: str,
    input_kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    input_bias: np.ndarray,
    recurrent_bias: np.ndarray,
) -> Arrays:
    """Returns a `Layer`'s parameters from fused arrays with two biases for every gate."""
    if cell != "gru":
        return {
            "input_kernel": input_kernel,
            "recurrent_kernel": recurrent_kernel,
            "input_bias": input_bias + recurrent_bias,
        }
    summed, candidate = np.split(recurrent_bias, [2 * len(recurrent_kernel)])
    return {
        "input_kernel": input_kernel,
        "recurrent_kernel": recurrent_kernel,
        "input_bias": input_bias + np.concatenate([summed, np.zeros_like(candidate)]),
        "recurrent_bias": candidate,
    }
