"""The recurrent layers as the nodes GRU, LSTM and RNN of ONNX.

Definitions: https://onnx.ai/onnx/operators/onnx__GRU.html, onnx__LSTM.html, onnx__RNN.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.exports.onnx.graph import INT32, Graph, Operand, ints, reshape
from gru_audio.nn.cells import CELLS
from gru_audio.nn.equations import Cell
from gru_audio.nn.layer import Encoder, recurrent_params
from gru_audio.settings import UserError

_OPEN = 1e4  # the sigmoid of this is 1

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Native:
    """A cell as a node.

    Attributes:
      op: the type of the node.
      gates: the cell's gate for each gate of the node, in the node's order; None: it stays open.
      activations: of the node; (): the defaults.
      after: whether a reset gate multiplies the recurrent product, not the output.
      negated: whether the node's update gate is one minus that of the cell.
    """

    op: str
    gates: tuple[str | None, ...]
    activations: tuple[str, ...] = ()
    after: bool = False
    negated: bool = False


NATIVE: Mapping[str, Native] = {
    "gru": Native("GRU", ("z", "r", "n"), after=True),
    "gru_reset_before": Native("GRU", ("z", "r", "n")),
    "li_gru": Native("GRU", ("z", None, "n"), ("Sigmoid", "Relu"), after=True),
    "min_gru": Native("GRU", ("z", None, "n"), ("Sigmoid", "Affine"), negated=True),
    "min_lstm": Native("GRU", ("z", None, "n"), ("Sigmoid", "Affine")),  # see `_shares`
    "lstm": Native("LSTM", ("i", "o", "f", "g")),
    "lstm_peephole": Native("LSTM", ("i", "o", "f", "g")),
    "rnn": Native("RNN", ("a",)),
}
_PEEPHOLES = ("i", "o", "f")


def encode(
    graph: Graph,
    encoder: Encoder,
    params: Mapping[str, Params],
    frames: str,
    lengths: str | None,
    states: Sequence[str] = (),
) -> tuple[str, str, list[str]]:
    """Adds the layers of an encoder.

    Args:
      graph: the graph.
      encoder: the encoder.
      params: parameters of its layers by name.
      frames: (batch, time, features).
      lengths: int64 (batch,); None: all frames are valid.
      states: the initial carry, (batch, hidden) each, layer by layer; (): zeros.

    Returns:
      The frames (batch, time, units), the last output (batch, units), and the final carry, if
      there is an initial one.

    Raises:
      UserError: ONNX has no node for the cell.
    """
    if encoder.cell not in NATIVE:
        raise UserError(
            f'--format onnx does not cover config.model.cell="{encoder.cell}". It covers '
            f"{', '.join(NATIVE)}. --format stablehlo covers every cell."
        )
    steps = "" if lengths is None else graph.add("Cast", lengths, to=INT32)
    x = graph.add("Transpose", frames, perm=[1, 0, 2])
    last, final, carried = "", [], len(CELLS[encoder.cell].carry)
    directions = ("forward", "backward") if encoder.bidirectional else ("forward",)
    for number in range(encoder.layers):
        layer = [params[f"{direction}_{number}"] for direction in directions]
        initial = states[number * carried : (number + 1) * carried]
        x, last, ends = _layer(graph, encoder, layer, x, steps, initial)
        final += ends
    return graph.add("Transpose", x, perm=[1, 0, 2]), last, final


def _layer(
    graph: Graph,
    encoder: Encoder,
    directions: Sequence[Params],
    x: str,
    steps: str,
    initial: Sequence[str],
) -> tuple[str, str, list[str]]:
    """Adds a layer that reads (time, batch, features); returns outputs, last output and carry."""
    name, native, hidden = encoder.cell, NATIVE[encoder.cell], encoder.hidden
    cell = CELLS[name]
    if encoder.layer_norm or name == "min_lstm":
        x, cell, directions = _gate_sums(graph, encoder, cell, directions, x)
    arrays = [_node_weights(native, cell, params, hidden) for params in directions]
    weights = [np.stack(each).astype(np.float32) for each in zip(*arrays, strict=True)]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "forward"}
    if len(directions) == 2:
        attributes["direction"] = "bidirectional"
    if native.op == "GRU":
        attributes["linear_before_reset"] = int(native.after)
    if native.activations:
        attributes["activations"] = list(native.activations) * len(directions)
        if "Affine" in native.activations:
            attributes |= {
                "activation_alpha": [1.0] * len(directions),
                "activation_beta": [0.0] * len(directions),
            }
    carry = [graph.add("Unsqueeze", state, ints(0)) for state in initial]
    inputs: list[Operand] = [x, *weights, steps, *carry]
    if name == "lstm_peephole":
        peepholes = np.stack([_peepholes(params) for params in directions])
        inputs += [*[""] * (2 - len(carry)), peepholes]
    y, *ends = graph.add_several(native.op, inputs, 1 + len(CELLS[name].carry), **attributes)
    last = ends[0]
    if encoder.projection:
        projections = np.stack([np.asarray(params["projection"]) for params in directions])
        y, last = graph.add("MatMul", y, projections), graph.add("MatMul", last, projections)
    y = reshape(graph, graph.add("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1)
    last = reshape(graph, graph.add("Transpose", last, perm=[1, 0, 2]), 0, -1)
    return y, last, [graph.add("Squeeze", end, ints(0)) for end in ends] if initial else []


def _node_weights(
    native: Native, cell: Cell, params: Params, hidden: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the node's W (gates x hidden, features), R (gates x hidden, hidden) and B."""
    recurrent = {k: np.asarray(v) for k, v in recurrent_params(cell, params).items()}
    blocks: dict[str, np.ndarray] = {}  # of the recurrent matrices, by gate
    for name, gates in cell.kernels.items():
        blocks |= zip(gates, np.split(recurrent[name], len(gates), -1), strict=True)
    count = len(cell.gates)
    kernels = dict(zip(cell.gates, np.split(params["input_kernel"], count, -1), strict=True))
    biases = dict(zip(cell.gates, np.split(params["input_bias"], count), strict=True))
    zeros = np.zeros(hidden, np.float32)
    w, r, b, rb = [], [], [], []
    for gate in native.gates:
        sign = -1 if native.negated and gate == "z" else 1
        own = "m" if gate == "n" and "m" in blocks else gate  # of the GRU's recurrent product
        w.append(sign * kernels[gate] if gate else np.zeros_like(kernels[cell.gates[0]]))
        r.append(sign * blocks[own] if own in blocks else np.zeros((hidden, hidden)))
        b.append(sign * biases[gate] if gate else zeros)
        rb.append(recurrent["recurrent_bias"] if own == "m" else zeros if gate else zeros + _OPEN)
    return np.concatenate(w, -1).T, np.concatenate(r, -1).T, np.concatenate([*b, *rb])


def _peepholes(params: Params) -> np.ndarray:
    i, f = np.split(np.asarray(params["peephole"]), 2)
    by_gate = {"i": i, "f": f, "o": np.asarray(params["output_peephole"])}
    return np.concatenate([by_gate[gate] for gate in _PEEPHOLES])


def _gate_sums(
    graph: Graph, encoder: Encoder, cell: Cell, directions: Sequence[Params], x: str
) -> tuple[str, Cell, list[Params]]:
    """Adds the gates' input projections, which a node cannot compute, before the node.

    Returns:
      Inputs of the node, (time, batch, directions x gates x hidden); the cell, and parameters with
      which the node's own projection selects the sums of a direction.
    """
    parts = []
    for params in directions:
        sums = graph.add("MatMul", x, np.asarray(params["input_kernel"]))
        if encoder.layer_norm:
            ones = np.ones(encoder.hidden, np.float32)
            sums = reshape(graph, sums, 0, 0, len(cell.gates), encoder.hidden)
            sums = graph.add("LayerNormalization", sums, ones, epsilon=1e-6)
            sums = reshape(graph, sums, 0, 0, len(cell.gates) * encoder.hidden)
            sums = graph.add("Mul", sums, np.asarray(params["norm_scale"]))
        sums = graph.add("Add", sums, np.asarray(params["input_bias"]))
        parts.append(_shares(graph, sums, encoder.hidden) if encoder.cell == "min_lstm" else sums)
    if encoder.cell == "min_lstm":
        cell = CELLS["min_gru"]
    width = len(cell.gates) * encoder.hidden
    selections = np.split(np.eye(width * len(parts), dtype=np.float32), len(parts), axis=-1)
    bias = np.zeros(width, np.float32)
    own: list[Params] = [
        {**params, "input_kernel": selection, "input_bias": bias}
        for params, selection in zip(directions, selections, strict=True)
    ]
    return graph.add("Concat", *parts, axis=-1), cell, own


def _shares(graph: Graph, sums: str, hidden: int) -> str:
    """Returns the sums (z, n) of a GRU that computes a minimal LSTM from its sums (f, i, n).

    ``s(f) / (s(f) + s(i)) = s(z)`` with ``z = log s(f) - log s(i)``, and the GRU's output is
    ``(1 - s(z)) n + s(z) h``.
    """
    split = ints(hidden, hidden, hidden)
    forget, gate, candidate = graph.add_several("Split", [sums, split], 3, axis=-1)
    softplus = [graph.add("Softplus", graph.add("Neg", each)) for each in (gate, forget)]
    return graph.add("Concat", graph.add("Sub", *softplus), candidate, axis=-1)
