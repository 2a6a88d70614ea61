"""The gates and states of trained layers over time, for inspection.

They are computed with the equations of the cells, in float32 or wider. Their names are those of the
cell's `activations`: "update", "reset", "forget", ..., and "candidate". In a GRU (see `cells.py`)
and a Li-GRU the output is ``update * previous + (1 - update) * candidate``. So an update gate near
1 keeps the previous output, and one near 0 replaces it. In a minimal GRU it is the reverse.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from gru_audio.nn.cells import CELLS
from gru_audio.nn.equations import Carry, Params, Values, wide_dtype
from gru_audio.nn.layer import Layer, project, recurrent_params
from gru_audio.settings import UserError, choose


@struct.dataclass
class Gates:
    """The gates and states of all recurrent layers of a model for one batch.

    Attributes:
      layers: path of the layer in the model ("encoder/forward_0") -> name of the gate or state ->
        array (batch, time, hidden), in the order of the frames; zero past an example's length.
      lengths: int (batch,), input frames of the layers. A convolutional front may subsample, so
        they may be smaller than the input frames of the model.
    """

    layers: Mapping[str, Mapping[str, jax.Array]]
    lengths: jax.Array


def gates_of_layer(
    layer: Layer,
    params: Params,
    inputs: jax.Array,
    lengths: jax.Array | None = None,
    carry: Carry | None = None,
) -> dict[str, jax.Array]:
    """Computes the gates and states of one layer.

    Args:
      layer: only its cell, units and direction matter.
      params: parameters of the layer.
      inputs: frames (batch, time, features).
      lengths: int (batch,), valid frames; None: all frames are valid.
      carry: the initial carry; None: zeros.

    Returns:
      Name of the gate or state -> (batch, time, hidden); zero past an example's length. States are
      those after each frame, before a projection.
    """
    cell = choose("cell", layer.cell, CELLS)
    inputs = jnp.swapaxes(inputs, 0, 1)
    inputs = inputs.astype(wide_dtype(inputs.dtype))
    if carry is None:
        carry = cell.initial_carry(inputs.shape[1], layer.hidden, inputs.dtype)
    recurrent = recurrent_params(cell, params)
    time = jnp.arange(len(inputs))[:, None]
    valid = time < (len(inputs) if lengths is None else lengths)

    def step(carry: Carry, frame) -> tuple[Carry, Values]:
        projections, valid = frame
        new, gates = cell.step_with_activations(recurrent, carry, projections)
        carry = tuple(jnp.where(valid, n, o) for n, o in zip(new, carry, strict=True))
        found = {**gates, **dict(zip(cell.carry, carry, strict=True))}
        return carry, {name: jnp.where(valid, value, 0) for name, value in found.items()}

    frames = (project(params, inputs, len(cell.gates)), valid[..., None])
    _, gates = jax.lax.scan(step, carry, frames, reverse=layer.reverse)
    return {name: jnp.swapaxes(gate, 0, 1) for name, gate in gates.items()}


def gates_of(
    model: nn.Module, variables: Mapping[str, Any], features: jax.Array, lengths: jax.Array
) -> Gates:
    """Computes the gates and states of all recurrent layers of a model or of an `Encoder`.

    Args:
      model: a module with the arguments features and lengths.
      variables: "params" and the other collections of the model.
      features: input of the model (batch, time, features).
      lengths: int (batch,), valid frames.

    Raises:
      UserError: the model has no recurrent layers.
    """
    layers: dict[str, dict[str, jax.Array]] = {}
    layer_lengths = lengths

    def record(run, args, kwargs, context):
        nonlocal layer_lengths
        layer = context.module
        if isinstance(layer, Layer) and context.method_name == "__call__":
            gates = gates_of_layer(layer, layer.variables["params"], *args, **kwargs)
            layers["/".join(layer.path)], layer_lengths = gates, args[1]
        return run(*args, **kwargs)

    with nn.intercept_methods(record):
        model.apply(variables, features, lengths)
    if not layers:
        raise UserError(
            "This model has no recurrent layers, so it has no gates. Models with gates: "
            'config.model.name="rnn_classifier" and "crnn".'
        )
    return Gates(layers, layer_lengths)
