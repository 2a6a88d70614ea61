"""The train state of one member. In a group every leaf has a leading member axis."""

from typing import Any

import jax
import optax
from flax import struct

from gru_audio.audio.normalise import Normalisation

Params = Any  # a pytree of parameters
ModelState = Any  # the other collections of a model: running statistics of batch norm


@struct.dataclass
class Weights:
    """All that a trained model needs to give outputs from features."""

    params: Params
    model_state: ModelState


@struct.dataclass
class TrainState:
    """Everything that changes in training, and the numbers that set this member apart.

    Attributes:
      step: updates done or left out, int32 ().
      skipped: updates left out because loss or gradients were not finite, int32 ().
      weights: what is being trained.
      best: the weights at the best look at the validation split so far.
      opt_state: the optimizer's.
      hyper: hyperparameters, dotted name -> float32 (); see `hyper.py`.
      seed: the member's seed, uint32 (): initialisation, order of examples and noise follow from
        it.
      normalisation: of the features, from this member's training examples.
    """

    step: jax.Array
    skipped: jax.Array
    weights: Weights
    best: Weights
    opt_state: optax.OptState
    hyper: dict[str, jax.Array]
    seed: jax.Array
    normalisation: Normalisation
