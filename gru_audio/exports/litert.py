"""LiteRT (TensorFlow Lite): the next frames of one stream, without TensorFlow.

The file has fixed sizes and no loop: the steps of its frames are unrolled. Only `litert_converter`
and `ai_edge_litert` are needed.
"""

from collections.abc import Sequence

import jax
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from jax import export
from jax.extend.core import jaxpr_as_fun
from litert_converter.mlir import ir, passmanager
from litert_converter.mlir._mlir_libs import converter_api_ext

from gru_audio.exports.function import Function
from gru_audio.settings import UserError

BATCH, FRAMES = 1, 2
_SIGNATURE = "serving_default"


def encode(function: Function) -> bytes:
    """Returns the file of a step over `FRAMES` frames of one stream.

    Raises:
      UserError: the function reads sound.
    """
    if function.source == "sound":
        raise UserError("--format litert reads features: pass --from features.")
    arguments = [
        jax.ShapeDtypeStruct(array.shape, array.dtype) for array in function.example(BATCH, FRAMES)
    ]
    with jax.disable_jit():  # unrolls loops over time
        steps = jax.make_jaxpr(function.__call__)(*arguments)
    unrolled = jax.jit(jaxpr_as_fun(steps))
    text = export.export(unrolled, platforms=["cpu"])(*arguments).mlir_module()
    context = ir.Context()
    converter_api_ext.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(text)
        converter_api_ext.set_signature(
            module.operation,
            _SIGNATURE,
            [tensor.name for tensor in function.inputs],
            [tensor.name for tensor in function.outputs],
        )
        config = converter_api_ext.ConvertToTFLConfig()
        converter_api_ext.run_convert_to_tfl_passes(module, passmanager.PassManager(), config)
        return converter_api_ext.export_flatbuffer_to_bytes(module.operation)


def run(function: Function, data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of the file in the interpreter of LiteRT."""
    interpreter = Interpreter(model_content=data)
    step = interpreter.get_signature_runner(_SIGNATURE)
    names = [tensor.name for tensor in function.inputs]
    outputs = step(**dict(zip(names, inputs, strict=True)))
    return [outputs[tensor.name] for tensor in function.outputs]
