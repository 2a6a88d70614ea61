"""Convolutions over time and frequency, temporal convolutions, and heads as ONNX nodes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gru_audio.exports.onnx.graph import (
    FLOAT,
    Graph,
    gather_frames,
    ints,
    masked,
    number,
    reshape,
    size,
    valid_frames,
    whole,
    windows,
)
from gru_audio.nn.batch_norm import BatchNorm
from gru_audio.nn.conv import Block, ConvFront
from gru_audio.nn.head import Head
from gru_audio.nn.tcn import TcnClassifier
from gru_audio.settings import UserError

Params = Mapping[str, Any]

_TIME = 2  # the axis of time of an image (batch, channels, time, bands)


def convolutions(
    graph: Graph, front: ConvFront, params: Params, statistics: Params, x: str, lengths: str
) -> tuple[str, str]:
    """Adds the blocks of a `ConvFront`. Batch norm becomes part of the convolutions.

    Args:
      graph: the graph.
      front: the blocks.
      params: their parameters.
      statistics: the running statistics of batch norm by block.
      x: (batch, time, channels x bands).
      lengths: int64 (batch,).

    Returns:
      Frames (batch, frames, units) and their lengths int64 (batch,).
    """
    same = front.padding == "same"
    x = graph.add("Transpose", reshape(graph, x, 0, 0, front.channels, -1), perm=[0, 2, 1, 3])
    x = masked(graph, x, lengths, _TIME, 4)
    for i, block in enumerate(front.blocks):
        kernel, bias = _folded(params, statistics, i)
        pads = [0, 0, 0, 0]
        if same:
            pads = [*((n - 1) // 2 for n in block.kernel), *(n // 2 for n in block.kernel)]
        else:
            x = _at_least(graph, x, block.kernel[0])
        x = graph.add("Conv", x, kernel, bias, strides=block.stride, pads=pads)
        lengths = _output_lengths(graph, lengths, block.kernel[0], block.stride[0], same)
        x = masked(graph, graph.add("Relu", x), lengths, _TIME, 4)
        x = _max_pool(graph, x, block, same)
        lengths = _output_lengths(graph, lengths, block.pool[0], block.pool[0], same)
        x = masked(graph, x, lengths, _TIME, 4)
    return reshape(graph, graph.add("Transpose", x, perm=[0, 2, 3, 1]), 0, 0, -1), lengths


def _folded(params: Params, statistics: Params, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel (out, in, time, frequency) and bias (out,), batch norm included."""
    conv = params[f"conv_{number}"]
    kernel = np.asarray(conv["kernel"], np.float64)
    if "bias" in conv:
        bias = np.asarray(conv["bias"], np.float64)
    else:
        name = f"norm_{number}"
        norm, moments = (
            {key: np.asarray(value, np.float64) for key, value in tree[name].items()}
            for tree in (params, statistics)
        )
        scale = norm["scale"] / np.sqrt(moments["variance"] + BatchNorm.epsilon)
        kernel, bias = kernel * scale, norm["bias"] - moments["mean"] * scale
    return kernel.transpose(3, 2, 0, 1).astype(np.float32), bias.astype(np.float32)


def _output_lengths(graph: Graph, lengths: str, window: int, step: int, same: bool) -> str:
    """Returns the lengths after a convolution or pooling, int64 (batch,)."""
    if same:
        return graph.add("Div", graph.add("Add", lengths, whole(step - 1)), whole(step))
    return windows(graph, lengths, window, step)


def _at_least(graph: Graph, x: str, frames: int) -> str:
    """Pads an image with zeros to at least so many frames."""
    missing = graph.add("Sub", whole(frames), size(graph, x, _TIME))
    missing = graph.add("Unsqueeze", graph.add("Max", missing, whole(0)), ints(0))
    return graph.add(
        "Pad", x, graph.add("Concat", ints(0, 0, 0, 0, 0, 0), missing, ints(0), axis=0)
    )


def _max_pool(graph: Graph, x: str, block: Block, same: bool) -> str:
    """Adds max-pooling of non-negative values; "same" keeps a partial window at the end."""
    if block.pool == (1, 1):
        return x
    if not same:
        x = _at_least(graph, x, block.pool[0])
    return graph.add("MaxPool", x, kernel_shape=block.pool, strides=block.pool, ceil_mode=int(same))


def temporal_convolutions(
    graph: Graph, model: TcnClassifier, params: Params, x: str, lengths: str
) -> tuple[str, str]:
    """Adds a `TcnEncoder`.

    Returns:
      Frames (batch, time, hidden), and the last valid frame (batch, hidden).
    """
    x = graph.add("Transpose", masked(graph, x, lengths, 1, 3), perm=[0, 2, 1])
    for i in range(model.layers):
        block, y = params[f"block_{i}"], x
        for j in range(2):
            conv = {key: np.asarray(value) for key, value in block[f"conv_{j}"].items()}
            norm = np.sqrt((conv["kernel"] ** 2).sum((0, 1)))
            kernel = (conv["kernel"] * (conv["scale"] / norm)).transpose(2, 1, 0)
            pads = [(model.kernel - 1) * 2**i, 0]
            y = graph.add("Conv", y, kernel, conv["bias"], dilations=[2**i], pads=pads)
            y = graph.add("Relu", y)
        if "shortcut" in block:
            shortcut = np.asarray(block["shortcut"]["kernel"]).T[..., None]
            x = graph.add("Conv", x, shortcut, np.asarray(block["shortcut"]["bias"]))
        x = graph.add("Relu", graph.add("Add", x, y))
    frames = masked(graph, graph.add("Transpose", x, perm=[0, 2, 1]), lengths, 1, 3)
    end = graph.add("Sub", graph.add("Max", lengths, whole(1)), whole(1))
    return frames, _frame(graph, frames, end)


def head(
    graph: Graph, head: Head, params: Params, frames: str, lengths: str | None, last: str
) -> str:
    """Adds a head; returns logits (batch, outputs), or (batch, time, outputs) for every frame.

    Args:
      graph: the graph.
      head: the head.
      params: its parameters.
      frames: (batch, time, units), zero past the length.
      lengths: int64 (batch,); None: all frames are valid, and are not pooled.
      last: (batch, units).
    """
    x = frames
    if head.pooling == "last":
        x = last
    elif head.pooling is not None:
        assert lengths is not None
        x = _pooled(graph, head, params, frames, lengths)
    for i, layer in enumerate(head.dense):
        x = _dense(graph, params[f"dense_{i}"], x)
        x = graph.add("Relu", x) if layer.activation == "relu" else x
    return _dense(graph, params["output"], x, name="outputs")


def _pooled(graph: Graph, head: Head, params: Params, frames: str, lengths: str) -> str:
    valid = valid_frames(graph, lengths, size(graph, frames, 1))
    valid = graph.add("Unsqueeze", valid, ints(2))
    if head.pooling == "mean":
        count = graph.add("Cast", graph.add("Max", lengths, whole(1)), to=FLOAT)
        total = graph.add("ReduceSum", frames, ints(1), keepdims=0)
        return graph.add("Div", total, graph.add("Unsqueeze", count, ints(1)))
    if head.pooling == "max":
        found = graph.add("Where", valid, frames, number(-np.inf))
        return graph.add("ReduceMax", found, axes=[1], keepdims=0)
    if head.pooling == "attention":
        score = graph.add("MatMul", frames, np.asarray(params["attention"]["kernel"]))
    elif head.pooling == "multi_head_attention":
        middle = _frame(graph, frames, graph.add("Div", lengths, whole(2)))
        query = _dense(graph, params["query"], middle)
        query = reshape(graph, query, 0, head.heads, -1)
        score = graph.add("MatMul", frames, graph.add("Transpose", query, perm=[0, 2, 1]))
    else:
        raise UserError(f'--format onnx does not cover config.model.pooling="{head.pooling}".')
    weight = graph.add("Softmax", graph.add("Where", valid, score, number(-np.inf)), axis=1)
    weight = graph.add("Transpose", weight, perm=[0, 2, 1])  # (batch, heads, time)
    return reshape(graph, graph.add("MatMul", weight, frames), 0, -1)


def _frame(graph: Graph, frames: str, index: str) -> str:
    """Returns the frames (batch, units) at an index int64 (batch,)."""
    chosen = gather_frames(graph, frames, graph.add("Unsqueeze", index, ints(1)))
    return graph.add("Squeeze", chosen, ints(1))


def _dense(graph: Graph, params: Params, x: str, name: str | None = None) -> str:
    product = graph.add("MatMul", x, np.asarray(params["kernel"]))
    return graph.add("Add", product, np.asarray(params["bias"]), name=name)
