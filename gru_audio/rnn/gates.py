"""The gates of trained layers over time, to look into them.

They are worked out by the equations that the layers run by, in float32 or wider, and are named as
the cell's `activations`: "update", "reset", "forget", ... and the "candidate", which is what a cell
would write. In a GRU as `cells.py` has it, and in a Li-GRU, the output is
``update * old + (1 - update) * candidate``: an update gate near 1 keeps, one near 0 writes anew. In
a minimal GRU it is the other way round.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from gru_audio.rnn.cells import CELLS
from gru_audio.rnn.equations import Carry, Params, Values, wide_dtype
from gru_audio.rnn.layer import Layer, project, recurrent_params
from gru_audio.settings import UserError, choose


@struct.dataclass
class Gates:
    """The gates of the layers of a model on a batch.

    Attributes:
      layers: name of the layer (its path in the model: "encoder/forward_0") -> name of the gate ->
        (batch, time, hidden), in the order of the frames; zero past an example's length.
      lengths: int (batch,), frames that the layers saw: fewer than the model's where a front
        subsamples.
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
    """The gates of one layer on (batch, time, features).

    Args:
      layer: its cell, units and direction count; what else it is told has no effect.
      params: of the layer.
      inputs: frames.
      lengths: int (batch,), valid frames; None: all are.
      carry: to start from; None: zeros.

    Returns:
      Name of the gate -> (batch, time, hidden); zero past an example's length.
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
        kept = tuple(jnp.where(valid, n, o) for n, o in zip(new, carry, strict=True))
        return kept, {name: jnp.where(valid, gate, 0) for name, gate in gates.items()}

    frames = (project(params, inputs, len(cell.gates)), valid[..., None])
    _, gates = jax.lax.scan(step, carry, frames, reverse=layer.reverse)
    return {name: jnp.swapaxes(gate, 0, 1) for name, gate in gates.items()}


def gates_of(
    model: nn.Module, variables: Mapping[str, Any], features: jax.Array, lengths: jax.Array
) -> Gates:
    """The gates of all recurrent layers of a model, or of an `Encoder` by itself, as it runs.

    Args:
      model: takes features and lengths.
      variables: of the model: its "params", and other collections where it has them.
      features: (batch, time, features), as the model takes them.
      lengths: int (batch,), valid frames.

    Raises:
      UserError: the model has no recurrent layers.
    """
    layers: dict[str, dict[str, jax.Array]] = {}
    seen = lengths

    def record(run, args, kwargs, context):
        nonlocal seen
        layer = context.module
        if isinstance(layer, Layer) and context.method_name == "__call__":
            gates = gates_of_layer(layer, layer.variables["params"], *args, **kwargs)
            layers["/".join(layer.path)], seen = gates, args[1]
        return run(*args, **kwargs)

    with nn.intercept_methods(record):
        model.apply(variables, features, lengths)
    if not layers:
        raise UserError(
            "This model has no recurrent layers, and so no gates: "
            'config.model.name="rnn_classifier" and "crnn" have.'
        )
    return Gates(layers, seen)
