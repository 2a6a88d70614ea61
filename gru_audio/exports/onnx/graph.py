"""An ONNX graph that is built node by node."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gru_audio.exports.function import Tensor

OPSET = 17
IR_VERSION = 9  # runtimes on phones read no later one

Operand = str | np.ndarray  # the name of a value, or a constant

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
_DTYPES = {"float32": FLOAT, "int32": INT32}


class Graph:
    """Nodes and constants of a graph. A value is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initialisers: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: Operand, name: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output.

        Args:
          op: type of the node, https://onnx.ai/onnx/operators.
          inputs: names of values, or constants; "": an optional input that is left out.
          name: of the output; None: a new name.
          attributes: those of the node.

        Returns:
          The name of the output.
        """
        return self.add_several(op, inputs, 1, name, **attributes)[0]

    def add_several(
        self,
        op: str,
        inputs: Sequence[Operand],
        outputs: int,
        name: str | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Adds a node with several outputs, and returns their names."""
        base = name or f"{op.lower()}_{len(self._nodes)}"
        names = [base] if outputs == 1 else [f"{base}_{i}" for i in range(outputs)]
        operands = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        self._nodes.append(helper.make_node(op, operands, names, **attributes))
        return names

    def constant(self, array: np.ndarray) -> str:
        """Adds a constant, and returns its name. Equal constants are stored once."""
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = name = f"constant_{len(self._constants)}"
            contiguous = np.array(array, order="C")
            self._initialisers.append(numpy_helper.from_array(contiguous, name))
        return self._constants[key]

    def encode(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], producer: str) -> bytes:
        """Returns the file of a model with these inputs and outputs, after a check."""
        graph = helper.make_graph(
            self._nodes,
            "model",
            [_value(tensor) for tensor in inputs],
            [_value(tensor) for tensor in outputs],
            self._initialisers,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=producer,
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def _value(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _DTYPES[tensor.dtype], tensor.shape)


def ints(*values: int) -> np.ndarray:
    """Returns an int64 constant (n,), such as axes or a shape."""
    return np.array(values, np.int64)


def whole(value: int) -> np.ndarray:
    """Returns an int64 constant ()."""
    return np.array(value, np.int64)


def number(value: float) -> np.ndarray:
    """Returns a float32 constant ()."""
    return np.array(value, np.float32)


def size(graph: Graph, value: str, axis: int) -> str:
    """Returns the size of an axis, int64 ()."""
    return graph.add("Gather", graph.add("Shape", value), whole(axis), axis=0)


def reshape(graph: Graph, value: str, *shape: int) -> str:
    """Returns the value in another shape; 0 keeps the size of an axis, -1 is what remains."""
    return graph.add("Reshape", value, ints(*shape))


def count_to(graph: Graph, count: str) -> str:
    """Returns int64 (count,): 0, 1, 2, ..."""
    return graph.add("Range", whole(0), count, whole(1))


def valid_frames(graph: Graph, lengths: str, time: str) -> str:
    """Returns bool (batch, time): see `gru_audio.nn.pooling.valid_frames`.

    Args:
      graph: the graph.
      lengths: int64 (batch,).
      time: int64 ().
    """
    at_least_one = graph.add("Max", lengths, whole(1))
    ends = graph.add("Unsqueeze", at_least_one, ints(1))
    return graph.add("Less", count_to(graph, time), ends)


def masked(graph: Graph, values: str, lengths: str, axis: int, rank: int) -> str:
    """Sets values past each example's length to zero.

    Args:
      graph: the graph.
      values: (batch, ...).
      lengths: int64 (batch,).
      axis: the axis of time.
      rank: number of axes of the values.
    """
    valid = valid_frames(graph, lengths, size(graph, values, axis))
    others = [i for i in range(rank) if i not in (0, axis)]
    valid = graph.add("Unsqueeze", valid, ints(*others)) if others else valid
    return graph.add("Where", valid, values, number(0))


def windows(graph: Graph, length: str, window: int, step: int) -> str:
    """Returns the number of whole windows in lengths above 0, int64 (...), but at least 1."""
    rest = graph.add("Max", graph.add("Sub", length, whole(window)), whole(0))
    return graph.add("Add", graph.add("Div", rest, whole(step)), whole(1))


def gather_frames(graph: Graph, values: str, index: str) -> str:
    """Returns the frames (batch, n, ...) at an index int64 (batch, n) of (batch, time, ...)."""
    return graph.add("GatherND", values, graph.add("Unsqueeze", index, ints(2)), batch_dims=1)
