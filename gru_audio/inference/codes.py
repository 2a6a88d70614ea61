"""The latent vectors of a trained autoencoder, and what it decodes from them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gru_audio.audio.normalise import Normalisation
from gru_audio.data.resident import Batch
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError
from gru_audio.training.step import Weights


class Code(NamedTuple):
    """A clip as an autoencoder reads it, encodes it and decodes it.

    Attributes:
      frames: the normalised frames, float32 (frames, features).
      latent: the latent vector, float32 (latent,).
      decoded: the reconstruction of the frames from the latent vector (frames, features).
    """

    frames: np.ndarray
    latent: np.ndarray
    decoded: np.ndarray


def encode(trained: TrainedModel, clips: Sequence[np.ndarray], batch: int = 32) -> list[Code]:
    """Encodes and decodes whole clips of any length.

    Args:
      trained: the model.
      clips: N signals of the kind that the model was trained on.
      batch: clips per model call; each value is compiled once.

    Raises:
      UserError: the model has no latent vector.
    """
    program = trained.program()
    if not program.model.bottleneck:
        raise UserError(
            f"{trained.about['run']} has no latent vectors: config.model.name="
            f"{trained.config.model.name} is not an autoencoder."
        )

    def coded(weights: Weights, normalisation: Normalisation, batch: Batch) -> Any:
        outputs, prepared = program.outputs(weights, normalisation, batch)
        variables = {"params": weights.params, **weights.model_state}
        inputs = prepared.inputs, prepared.lengths
        latent = program.model.apply(variables, *inputs, method="encode")
        return outputs.lengths, prepared.inputs, latent, outputs.values

    return [
        Code(frames[:length], latent, decoded[:length])
        for length, frames, latent, decoded in trained.apply(coded, clips, batch)
    ]
