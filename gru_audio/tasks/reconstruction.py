"""Reconstruction of the frames of a sequence from one vector: the task of an autoencoder."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.tasks.metrics import LOSS, Metric, Predictions, Weights, linearized
from gru_audio.tasks.scale import PERCENT
from gru_audio.tasks.task import InputsAndTargets, SelfSupervised, Stored, over_frames


class ExplainedVariance(Metric):
    """The share of the frames' variance that outputs explain: 1 - squared error / variance.

    Both are means over all valid frames and their values; the variance is that of each value around
    its mean over the frames. This is scikit-learn's `r2_score` with
    `multioutput="variance_weighted"`. The best constant frame has 0.
    """

    name = "explained_variance"
    bounds = (-math.inf, 1.0)
    scale = PERCENT

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the explained variance; NaN if the frames do not vary."""
        error, spread = self._sums(predictions, weights)
        whole = float(spread.sum())
        return 1 - float(error.sum()) / whole if whole > 0 else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """Returns the contributions by the delta method.

        The means do not contribute, as the variance is the smallest mean squared distance.
        """
        return 1 - linearized(*self._sums(predictions, None))

    @staticmethod
    def _sums(predictions: Predictions, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
        """Returns sums over each example's frames (N,): squared errors, and squared deviations."""
        weight = np.ones(len(predictions["loss"])) if weights is None else weights
        frames = predictions["weight"].astype(np.float64)
        sums, squares = (predictions[name].astype(np.float64) for name in ("sum", "squares"))
        mean = weight @ sums / max(float(weight @ frames), 1.0)
        deviations = squares - 2 * (sums * mean).mean(1) + frames * (mean**2).mean()
        return weight * predictions["loss"] * frames, weight * deviations


EXPLAINED_VARIANCE = ExplainedVariance()


@dataclass(frozen=True)
class Reconstruction(SelfSupervised):
    """Reconstruction of the frames that the model has read.

    The loss is the mean squared error per value, averaged over valid frames. Frames are normalised
    if the config says so; then the mean of the training frames has a loss of about 1.

    Attributes:
      features: values per frame.
    """

    features: int

    per_frame: ClassVar[bool] = True
    bottleneck: ClassVar[bool] = True
    trivial: ClassVar[str] = "mean of each value over the training frames"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Explained variance, and the loss."""
        return EXPLAINED_VARIANCE, LOSS

    @property
    def requires_raw_values(self) -> bool:
        """False: normalised values weight all bands equally."""
        return False

    @property
    def outputs(self) -> int:
        """Number of values per frame."""
        return self.features

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Returns the frames as inputs and as targets."""
        return InputsAndTargets(features, lengths, features)

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns each example's summed squared error (B,) and its number of frames (B,)."""
        return over_frames(((outputs - targets) ** 2).mean(-1), lengths)

    def score(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns loss and frames of each example, and the moments of its targets.

        These are `sum` (B, F), over frames, and `squares` (B,), the mean over values of the sum of
        squares.
        """
        valid = (jnp.arange(targets.shape[1]) < lengths[:, None])[..., None]
        return super().score(outputs, targets, lengths) | {
            "sum": jnp.sum(targets, axis=1, where=valid),
            "squares": jnp.sum(targets**2, axis=1, where=valid).mean(-1),
        }

    @property
    def stored(self) -> Mapping[str, Stored]:
        """See `Task.stored`."""
        return {**super().stored, "sum": Stored("f", (None,)), "squares": Stored("f")}

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the sum of each value over valid frames (F,), and their number."""
        valid = jnp.arange(targets.shape[1]) < lengths[:, None]
        return jnp.sum(targets, axis=(0, 1), where=valid[..., None]), valid.sum(dtype=jnp.float32)

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the mean of each value in the training split, (B, T, F)."""
        return jnp.broadcast_to(mean, (len(lengths), steps, self.outputs))
