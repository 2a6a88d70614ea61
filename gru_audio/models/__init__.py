"""The models that a config may name, and their making."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from gru_audio.config import choose
from gru_audio.models.crnn import CrnnClassifier
from gru_audio.models.head import Head
from gru_audio.models.pooling import POOLINGS
from gru_audio.models.rnn_classifier import RnnClassifier
from gru_audio.models.tcn import TcnClassifier
from gru_audio.rnn import CELLS, IMPLEMENTATIONS, INITIALISERS, Encoder

MODELS: Mapping[str, type[nn.Module]] = {
    "crnn": CrnnClassifier,
    "rnn_classifier": RnnClassifier,
    "tcn": TcnClassifier,
}


def make_model(
    config: ConfigDict, outputs: int, *, per_frame: bool = False, batch_axis: str | None = None
) -> nn.Module:
    """Makes the model that ``config`` describes.

    Keys of ``config`` with the name of a field, of the model, its `Encoder` or its `Head`, set that
    field; the others belong to another model. `compute_dtype` is their `dtype`.

    Args:
      config: the ``model`` part of a config.
      outputs: how many, such as classes.
      per_frame: outputs for every frame, so that ``config.pooling`` has no effect.
      batch_axis: the mesh axis over which the batch is divided inside the step; None elsewhere.

    Raises:
      UserError: a name in the config is unknown; the message gives the nearest valid one.
    """
    model = choose("model", config.name, MODELS)
    choose("cell", config.cell, CELLS)
    choose("pooling", config.pooling, POOLINGS)
    choose("initialiser", config.kernel_init, INITIALISERS)
    choose("initialiser", config.recurrent_init, INITIALISERS)
    choose("implementation", config.implementation, IMPLEMENTATIONS)
    values = {**config, "dtype": config.compute_dtype}
    encoder = Encoder(**_fields(Encoder, values))
    pooling = None if per_frame else config.pooling
    head = Head(**_fields(Head, values | {"outputs": outputs, "pooling": pooling}))
    given = {"encoder": encoder, "head": head, "batch_axis": batch_axis}
    return model(**_fields(model, values | given))


def _fields(module: type[nn.Module], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(module)} - {"name", "parent"}
    return {name: value for name, value in values.items() if name in names}
