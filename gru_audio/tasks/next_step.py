"""Prediction of the next frame from the frames before it: a generative model of sequences."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from gru_audio.settings import setting
from gru_audio.tasks.task import InputsAndTargets, SelfSupervised, log_odds, over_frames

BERNOULLI, GAUSSIAN = DISTRIBUTIONS = ("bernoulli", "gaussian")


@dataclass(frozen=True)
class NextStep(SelfSupervised):
    """Prediction of every frame of a sequence, with independent values.

    "bernoulli" is for frames of zeros and ones, such as piano rolls. The loss is the negative
    log-likelihood in nats, summed over the values of a frame and averaged over frames, as in
    Boulanger-Lewandowski et al. 2012 (arXiv 1206.6392). "gaussian" is half the squared error,
    summed and averaged in the same way. Up to a constant it is the negative log-likelihood at unit
    variance.

    Attributes:
      features: values per frame.
      distribution: one of `DISTRIBUTIONS`.
      first_frame: whether the first frame is predicted, from a frame of zeros, and counted in the
        loss. Bai et al. 2018 (arXiv 1803.01271) only use it as input.
    """

    features: int
    distribution: str = setting(
        BERNOULLI, choices=DISTRIBUTIONS, doc="The distribution of a frame's values."
    )
    first_frame: bool = setting(
        True, doc="The first frame is predicted as well, from a frame of zeros."
    )

    causal: ClassVar[bool] = True
    per_frame: ClassVar[bool] = True
    trivial: ClassVar[str] = "mean of each value over the training frames"

    @property
    def requires_raw_values(self) -> bool:
        """True for zeros and ones, which must not be normalised."""
        return self.distribution == BERNOULLI

    @property
    def outputs(self) -> int:
        """Number of values per frame."""
        return self.features

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: jax.Array
    ) -> InputsAndTargets:
        """Returns as inputs the frames delayed by one step, and as targets the frames."""
        if self.first_frame:
            delayed = jnp.pad(features, ((0, 0), (1, 0), (0, 0)))[:, :-1]
            return InputsAndTargets(delayed, lengths, features)
        return InputsAndTargets(features[:, :-1], lengths - 1, features[:, 1:])

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns each example's summed loss (B,) and its number of frames (B,)."""
        if self.distribution == BERNOULLI:
            losses = optax.sigmoid_binary_cross_entropy(outputs, targets)
        else:
            losses = (outputs - targets) ** 2 / 2
        return over_frames(losses.sum(-1), lengths)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the sum of each value over valid frames (features,), and their number."""
        valid = jnp.arange(targets.shape[1]) < lengths[:, None]
        return jnp.sum(targets, axis=(0, 1), where=valid[..., None]), valid.sum(dtype=jnp.float32)

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns each value's log-odds, or its mean, in the training split, (B, T, features)."""
        output = log_odds(mean) if self.distribution == BERNOULLI else mean
        return jnp.broadcast_to(output, (len(lengths), steps, self.outputs))
