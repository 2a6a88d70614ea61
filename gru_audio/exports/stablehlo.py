"""StableHLO by `jax.export`: one file for CPU, GPU and TPU, with any batch size and length.

Only JAX and FlatBuffers are needed to run it: ``jax.export.deserialize(data).call(*inputs)``. See
https://docs.jax.dev/en/latest/export/export.html
"""

from collections.abc import Sequence

import flatbuffers  # noqa: F401 (JAX imports it only when it writes or reads a file)
import jax
import numpy as np
from jax import export

from gru_audio.exports.function import SAMPLES, TIME, Function
from gru_audio.settings import UserError

PLATFORMS = ("cpu", "cuda", "tpu")


def encode(function: Function) -> bytes:
    """Returns the serialised function, with names as the sizes of its inputs.

    Raises:
      UserError: a part of the model cannot be exported for every length.
    """
    free = {SAMPLES, TIME} & set(function.inputs[0].shape)
    scope = export.SymbolicScope([f"{axis} >= {function.shortest}" for axis in free])
    arguments = [
        jax.ShapeDtypeStruct(
            export.symbolic_shape(", ".join(map(str, tensor.shape)) + ",", scope=scope),
            tensor.dtype,
        )
        for tensor in function.inputs
    ]
    try:
        exported = export.export(jax.jit(function.__call__), platforms=PLATFORMS)(*arguments)
    except NotImplementedError as error:  # an associative scan of unknown length
        frontend = function.trained.config.frontend.name
        raise UserError(
            f'--format stablehlo does not cover config.frontend.name="{frontend}": '
            "pass --from features."
        ) from error
    except jax.errors.InconclusiveDimensionOperation as error:
        raise UserError(
            "--format stablehlo does not cover the convolutions of this model for every length: "
            "pass --format onnx."
        ) from error
    return bytes(exported.serialize())


def run(function: Function, data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of the serialised function."""
    del function
    return [np.asarray(output) for output in export.deserialize(bytearray(data)).call(*inputs)]
