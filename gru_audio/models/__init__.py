"""The models that a config may name, and their making."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from gru_audio.config import UserError, choose
from gru_audio.models.cnn import CnnClassifier
from gru_audio.models.conv import ConvFront, parse_block
from gru_audio.models.crnn import CrnnClassifier
from gru_audio.models.head import Head, parse_hidden
from gru_audio.models.model import Model
from gru_audio.models.pooling import POOLINGS
from gru_audio.models.rnn_classifier import RnnClassifier
from gru_audio.models.tcn import TcnClassifier, receptive_field
from gru_audio.rnn import CELLS, IMPLEMENTATIONS, INITIALISERS, Encoder, check_projection

_LONG = 65  # frames: a model that keeps the length of all shorter sequences keeps any
_MOST_LAYERS = 64  # in a list of them
_LONGEST = 2**20  # frames that an output of a TCN may depend on

MODELS: Mapping[str, type[Model]] = {
    "cnn": CnnClassifier,
    "crnn": CrnnClassifier,
    "rnn_classifier": RnnClassifier,
    "tcn": TcnClassifier,
}


def make_model(
    config: ConfigDict, outputs: int, *, per_frame: bool = False, batch_axis: str | None = None
) -> Model:
    """Makes the model that ``config`` describes.

    Keys of ``config`` with the name of a field, of the model, its `Encoder` or its `Head`, set that
    field; the others belong to another model or to the `ConvFront`. `compute_dtype` is their
    `dtype`.

    Args:
      config: the ``model`` part of a config.
      outputs: how many, such as classes.
      per_frame: outputs for every frame, so that ``config.pooling`` has no effect.
      batch_axis: the mesh axis over which the batch is divided inside the step; None elsewhere.

    Raises:
      UserError: a name in the config is unknown, and the message gives the nearest valid one; or
        what is named does not go together.
    """
    model = choose("model", config.name, MODELS)
    choose("cell", config.cell, CELLS)
    choose("pooling", config.pooling, POOLINGS)
    choose("initialiser", config.kernel_init, INITIALISERS)
    choose("initialiser", config.recurrent_init, INITIALISERS)
    choose("initialiser", config.output_init, INITIALISERS)
    choose("implementation", config.implementation, IMPLEMENTATIONS)
    check_projection(config.cell, config.projection)
    for name in ("conv", "dense"):
        if len(config[name]) > _MOST_LAYERS:
            raise UserError(
                f"config.model.{name} has {len(config[name])} layers: at most {_MOST_LAYERS}."
            )
    if model is TcnClassifier and receptive_field(config.layers, config.tcn_kernel) > _LONGEST:
        raise UserError(
            f"config.model.layers={config.layers} and tcn_kernel={config.tcn_kernel} read more "
            f"than {_LONGEST} frames: lower one of them."
        )
    values = {**config, "dtype": config.compute_dtype}
    front = ConvFront(
        blocks=tuple(map(parse_block, config.conv)),
        norm=config.conv_norm,
        padding=config.conv_padding,
        channels=config.channels,
        batch_axis=batch_axis,
        dtype=config.compute_dtype,
    )
    encoder = Encoder(**_fields(Encoder, values))
    values["outputs"] = outputs
    values["pooling"] = None if per_frame else config.pooling
    values["dense"] = tuple(map(parse_hidden, config.dense))
    head = Head(**_fields(Head, values))
    made = model(**_fields(model, values | {"front": front, "encoder": encoder, "head": head}))
    if per_frame and any(made.output_lengths(count) != count for count in range(1, _LONG)):
        raise UserError(
            "config.model.conv: outputs for every frame need every frame: no stride and no pool "
            'over time, and config.model.conv_padding="same".'
        )
    return made


def _fields(module: type[nn.Module], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in _names(module)}


def _names(module: type[nn.Module]) -> set[str]:
    return {field.name for field in dataclasses.fields(module)} - {"name", "parent"}
