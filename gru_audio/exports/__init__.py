"""Exports: a trained model in a format that other programs read."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from gru_audio.settings import UserError

SOURCES = ("sound", "features")  # what an export may read


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
      module: the module of this package that has `encode` and `run`.
      suffix: of the file.
      packages: distributions that write and run the file.
      extra: the extra of gru_audio that installs these.
      step: whether a file computes a step of fixed size, so that it needs `--stream`.
      weights: whether a file has the weights only.
    """

    module: str
    suffix: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    step: bool = False
    weights: bool = False

    def load(self) -> ModuleType:
        """Imports the module.

        Raises:
          UserError: a package is missing.
        """
        try:
            return importlib.import_module(f"{__name__}.{self.module}")
        except ImportError as error:
            raise UserError(
                f"{' and '.join(self.packages)} cannot be imported ({error}): "
                f'pip install "gru-audio[{self.extra}]"'
            ) from error


FORMATS: Mapping[str, Format] = {
    "safetensors": Format("safetensors", ".safetensors", ("safetensors",), "export", weights=True),
    "torch": Format("torch", ".safetensors", ("safetensors",), "export", weights=True),
    "stablehlo": Format("stablehlo", ".stablehlo", ("flatbuffers",), "export"),
    "onnx": Format("onnx", ".onnx", ("onnx", "onnxruntime"), "export"),
    "litert": Format(
        "litert", ".tflite", ("litert-converter", "ai-edge-litert"), "litert", step=True
    ),
}
