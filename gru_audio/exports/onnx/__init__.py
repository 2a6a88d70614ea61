"""ONNX files with the standard's own recurrent nodes, written node by node.

Batch size and length are free. The nodes are those of opset 17 in IR version 9, which runtimes on
phones read, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

import gru_audio
from gru_audio.exports.function import Function
from gru_audio.exports.onnx.frontend import features as add_frontend
from gru_audio.exports.onnx.graph import INT32, INT64, Graph
from gru_audio.exports.onnx.layers import convolutions, temporal_convolutions
from gru_audio.exports.onnx.layers import head as add_head
from gru_audio.exports.onnx.recurrent import encode as add_encoder
from gru_audio.nn.cnn import CnnClassifier
from gru_audio.nn.crnn import CrnnClassifier
from gru_audio.nn.model import Model
from gru_audio.nn.rnn_classifier import RnnClassifier
from gru_audio.nn.tcn import TcnClassifier
from gru_audio.settings import UserError

Variables = Mapping[str, Any]

_MODELS = (RnnClassifier, CrnnClassifier, CnnClassifier, TcnClassifier)


def encode(function: Function) -> bytes:
    """Returns the ONNX file of a function.

    Raises:
      UserError: a part of the model is not covered.
    """
    model = function.program.model
    if type(model) not in _MODELS:  # a subclass may compute something else
        name = function.trained.config.model.name
        raise UserError(
            f'--format onnx does not cover config.model.name="{name}". --format stablehlo covers '
            "every model."
        )
    if function.stream:
        _check_stream(function)
    graph = Graph()
    signal, *others = (tensor.name for tensor in function.inputs)
    lengths, states = None, others
    if not function.stream:
        lengths, states = graph.add("Cast", others[0], to=INT64), []
    if function.source == "sound":
        assert lengths is not None
        signal, lengths = add_frontend(graph, function.program.frontend, signal, lengths)
    mean, std = (
        np.asarray(each, np.float32)
        for each in (function.trained.normalisation.mean, function.trained.normalisation.std)
    )
    x = graph.add("Div", graph.add("Sub", signal, mean), std)
    variables = {"params": function.trained.weights.params, **function.trained.weights.model_state}
    lengths, final = _add_model(graph, model, variables, x, lengths, states)
    for name, state in zip(function.states, final, strict=True):
        graph.add("Identity", state, name=f"next_{name.name}")
    if lengths is not None:
        graph.add("Cast", lengths, to=INT32, name="output_lengths")
    producer = f"gru_audio {gru_audio.__version__}"
    return graph.encode(function.inputs, function.outputs, producer)


def _check_stream(function: Function) -> None:
    """Raises `UserError` if a stream is not covered."""
    model = function.program.model
    covered = isinstance(model, RnnClassifier) and model.head.pooling in (None, "last")
    if function.source == "sound" or not covered:
        raise UserError(
            "--format onnx --stream covers features, the model rnn_classifier, and outputs for "
            'every frame or the pooling "last". --format stablehlo covers all streams.'
        )


def run(function: Function, data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of the file in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in function.inputs]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def _add_model(
    graph: Graph,
    model: Model,
    variables: Variables,
    x: str,
    lengths: str | None,
    states: Sequence[str],
) -> tuple[str | None, list[str]]:
    """Adds a model; returns the lengths of its outputs int64 (batch,), and the final state."""
    params, last = variables["params"], ""
    final: list[str] = []
    if isinstance(model, CrnnClassifier | CnnClassifier):
        assert lengths is not None
        statistics = variables.get("batch_stats", {}).get("front", {})
        x, lengths = convolutions(graph, model.front, params["front"], statistics, x, lengths)
    if isinstance(model, RnnClassifier | CrnnClassifier):
        encoder = model.encoder
        x, last, final = add_encoder(graph, encoder, params["encoder"], x, lengths, states)
    if isinstance(model, TcnClassifier):
        assert lengths is not None
        x, last = temporal_convolutions(graph, model, params["encoder"], x, lengths)
    assert isinstance(model, _MODELS)
    add_head(graph, model.head, params["head"], x, lengths, last)
    return lengths, final
