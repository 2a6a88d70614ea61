"""Prediction of the next sample of sound from those before it: a generative model of sound."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from gru_audio.data.fields import ClassField, Field, Values
from gru_audio.nn.generative import silence
from gru_audio.tasks.metrics import LOSS, Loss, Metric
from gru_audio.tasks.scale import SPACE, Scale
from gru_audio.tasks.task import InputsAndTargets, Task, over_frames

_EPSILON = 1e-9  # added to frequencies of codes, because a code may be absent from training


class BitsPerSample(Loss):
    """The mean negative log-likelihood of a sample in bits, over all samples of all clips."""

    name = "bits"
    title = "bits per sample"
    scale = Scale(1, 3, f"{SPACE}bits", f"{SPACE}bits", small=0.1)


@dataclass(frozen=True)
class Generation(Task):
    """Prediction of the code of every sample, with a softmax (van den Oord et al. 2016).

    The frontend `samples` computes the codes. The first sample is predicted from silence. The loss
    is the negative log-likelihood in bits, averaged over samples. Of split codes, the coarse half
    is predicted first, and the fine half given the coarse one; the bits of both are added.

    The classes of `config.data.target`, if there is one, are the model's condition.

    Attributes:
      features: codes per sample, 1 or 2.
      levels: values of a code.
      conditions: names of the classes; () without a target.
    """

    features: int
    levels: int = 0
    conditions: tuple[str, ...] = ()

    needs: ClassVar[type[Field] | None] = ClassField
    optional: ClassVar[bool] = True
    of_samples: ClassVar[bool] = True
    causal: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    per_frame: ClassVar[bool] = True
    mixable: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (BitsPerSample(), LOSS)
    trivial: ClassVar[str] = "frequency of each code in the training samples"

    @property
    def requires_raw_values(self) -> bool:
        """True, because codes must not be normalised."""
        return True

    @property
    def outputs(self) -> int:
        """Number of logits per sample."""
        return self.features * self.levels

    def input_width(self, features: int) -> int:
        """Returns the width of the inputs: codes, the coarse half of split codes, the condition."""
        return features + (features == 2) + len(self.conditions)

    def labels(self, values: Values) -> Any:
        """Returns the class numbers (N,); () without a condition."""
        return values if self.conditions else ()

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: Any
    ) -> InputsAndTargets:
        """Returns the inputs that `SampleModel` describes, and the codes (B, T, features)."""
        start = jnp.broadcast_to(silence(self.features, self.levels), features[:, :1].shape)
        parts = [jnp.concatenate([start, features[:, :-1]], axis=1)]
        if self.features == 2:
            parts.append(features[..., :1])
        if self.conditions:
            condition = jax.nn.one_hot(labels, len(self.conditions))[:, None]
            parts.append(jnp.repeat(condition, features.shape[1], axis=1))
        return InputsAndTargets(jnp.concatenate(parts, -1), lengths, features.astype(jnp.int32))

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns each example's summed loss in bits (B,) and its number of samples (B,)."""
        logits = outputs.reshape(*targets.shape, self.levels)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return over_frames(nats.sum(-1) / math.log(2), lengths)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the number of samples with each code (features, levels), and of all samples."""
        valid = jnp.arange(targets.shape[1]) < lengths[:, None]
        counts = jnp.zeros((self.features, self.levels))
        channel = jnp.arange(self.features)
        weights = jnp.broadcast_to(valid[..., None], targets.shape).astype(jnp.float32)
        counts = counts.at[jnp.broadcast_to(channel, targets.shape), targets].add(weights)
        return counts, valid.sum(dtype=jnp.float32)

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the log-frequencies of the codes in the training split, (B, T, outputs)."""
        logits = jnp.log(mean + _EPSILON).reshape(-1)
        return jnp.broadcast_to(logits, (len(lengths), steps, self.outputs))
