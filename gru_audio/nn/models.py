"""The models that a config may name, and their making."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from gru_audio.nn.cnn import CnnClassifier
from gru_audio.nn.crnn import CrnnClassifier
from gru_audio.nn.model import Model
from gru_audio.nn.rnn_classifier import RnnClassifier
from gru_audio.nn.tcn import TcnClassifier
from gru_audio.settings import UserError, choose, make, setting

_LONG = 65  # frames: a model that keeps the length of all shorter sequences keeps any

MODELS: dict[str, type[Model]] = {
    "cnn": CnnClassifier,
    "crnn": CrnnClassifier,
    "rnn_classifier": RnnClassifier,
    "tcn": TcnClassifier,
}


@dataclass(frozen=True)
class ModelSettings:
    """The section `model` of a config: what all models have."""

    name: str = setting("rnn_classifier", choices=MODELS, doc="The model.")
    dropout: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        zero_is_off=True,
        doc="The share of values that are dropped: between layers and before the output; in a "
        "TCN after convolutions.",
    )
    compute_dtype: str = setting(
        "float32",
        choices=("float32", "bfloat16"),
        doc="The type that layers compute in; parameters and outputs stay float32.",
    )


def make_model(
    config: ConfigDict, outputs: int, *, per_frame: bool = False, batch_axis: str | None = None
) -> Model:
    """Makes the model that ``config`` describes.

    Args:
      config: the ``model`` part of a config.
      outputs: how many, such as classes.
      per_frame: outputs for every frame, so that ``config.pooling`` has no effect.
      batch_axis: the mesh axis over which the batch is divided inside the step; None elsewhere.

    Raises:
      UserError: values that the model cannot have.
    """
    values = {**config, "pooling": None} if per_frame else config
    made = make(
        choose("model", config.name, MODELS),
        values,
        outputs=outputs,
        batch_axis=batch_axis,
        dtype=config.compute_dtype,
    )
    if per_frame and any(made.output_lengths(count) != count for count in range(1, _LONG)):
        raise UserError(
            "config.model.conv: outputs for every frame need every frame: no stride and no pool "
            'over time, and config.model.conv_padding="same".'
        )
    return made
