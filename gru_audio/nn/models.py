"""The models that a config can select."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from gru_audio.nn.autoencoder import Autoencoder
from gru_audio.nn.cnn import CnnClassifier
from gru_audio.nn.crnn import CrnnClassifier
from gru_audio.nn.model import Model
from gru_audio.nn.rnn_classifier import RnnClassifier
from gru_audio.nn.rnn_generator import RnnGenerator
from gru_audio.nn.samplernn import SampleRnn
from gru_audio.nn.tcn import TcnClassifier
from gru_audio.nn.wavenet import WaveNet
from gru_audio.nn.wavernn import WaveRnn
from gru_audio.settings import UserError, choose, make, setting

_CHECKED_LENGTHS = range(1, 65)  # enough to tell whether a model keeps all lengths

MODELS: dict[str, type[Model]] = {
    "autoencoder": Autoencoder,
    "cnn": CnnClassifier,
    "crnn": CrnnClassifier,
    "rnn_classifier": RnnClassifier,
    "rnn_generator": RnnGenerator,
    "samplernn": SampleRnn,
    "tcn": TcnClassifier,
    "wavenet": WaveNet,
    "wavernn": WaveRnn,
}


@dataclass(frozen=True)
class ModelSettings:
    """The section `model` of a config: the settings of all models."""

    name: str = setting("rnn_classifier", choices=MODELS, doc="The model.")
    dropout: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        off=0,
        doc="Dropout rate, between layers and before the output; in a TCN after convolutions.",
    )
    compute_dtype: str = setting(
        "float32",
        choices=("float32", "bfloat16"),
        doc="The type of computation in layers; parameters and outputs stay float32.",
    )


def make_model(
    config: ConfigDict,
    outputs: int,
    *,
    per_frame: bool = False,
    keep_frames: bool = True,
    batch_axis: str | None = None,
) -> Model:
    """Makes the model that ``config`` describes.

    Args:
      config: the ``model`` section of a config.
      outputs: number of outputs, such as classes.
      per_frame: whether there are outputs for every frame; ``config.pooling`` then has no effect.
      keep_frames: whether there must be as many output frames as input frames, if `per_frame`.
      batch_axis: the mesh axis over which the batch is divided; None: there is none.

    Raises:
      UserError: a value is invalid for the model.
    """
    values = {**config, "pooling": None} if per_frame else config
    model = make(
        choose("model", config.name, MODELS),
        values,
        outputs=outputs,
        batch_axis=batch_axis,
        dtype=config.compute_dtype,
    )
    shortens = any(model.output_lengths(count) != count for count in _CHECKED_LENGTHS)
    if per_frame and keep_frames and shortens:
        raise UserError(
            "config.model.conv: outputs for every frame need every frame: no stride and no pool "
            'over time, and config.model.conv_padding="same".'
        )
    return model
