"""One step on one device: from int16 samples to new parameters.

`Program` holds what is static, shared by all members of a group. Its functions see one member,
without member axis, and the part of the global batch that lies on this device; they reduce over the
mesh axis `DATA` themselves. All noise is keyed by (seed, step, row of the global batch), so that
the numbers do not depend on how many devices share a batch.

A batch may go through the model in parts, to save memory: in micro-batches (`accumulate`), and each
of these in segments of time (`truncate_frames`). Losses and gradients of all parts are added up on
the device before the one reduction over devices.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from gru_audio.audio import augment
from gru_audio.audio.frontend import Frontend, make_frontend
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import UserError
from gru_audio.data.resident import Batch
from gru_audio.models import make_model
from gru_audio.rnn.noise import Dropout
from gru_audio.tasks import Task, make_task
from gru_audio.training import optimizer
from gru_audio.training.keys import (
    DROPOUT,
    GAIN,
    MIXUP,
    SPEC_AUGMENT,
    TIME_SHIFT,
    Keys,
    initial_key,
    step_keys,
)
from gru_audio.training.state import ModelState, Params, TrainState, Weights

DATA = "data"  # the mesh axis over which a batch is shared
METRICS = ("loss", "gradient_norm")  # of every training step


@struct.dataclass
class Share:
    """What this device's rows contribute to a step.

    Attributes:
      loss: their part of the batch's mean, ().
      gradients: of `loss`, like the parameters.
      model_state: the model's other collections, after the step.
    """

    loss: jax.Array
    gradients: Params
    model_state: ModelState


@dataclass(frozen=True)
class Program:
    """The static part of a run: what is computed, by whatever numbers.

    Attributes:
      sample_rate: of the data, in Hz.
      frontend: samples to features.
      model: features to outputs.
      task: outputs and labels to loss and metrics.
      optimizer: its name.
      schedule: name of the learning rate schedule.
      time_masks, frequency_masks: how many of each SpecAugment draws.
      accumulate: micro-batches of a batch.
      truncate_frames: gradients flow back through at most so many frames; 0: through all.
      skip_nonfinite: how many updates may be left out because they are not finite.
    """

    sample_rate: int
    frontend: Frontend
    model: nn.Module
    task: Task
    optimizer: str
    schedule: str
    time_masks: int
    frequency_masks: int
    accumulate: int
    truncate_frames: int
    skip_nonfinite: int

    def init(
        self, seed: jax.Array, hyper: dict[str, jax.Array], normalisation: Normalisation
    ) -> TrainState:
        """A fresh member. The model is initialised on two frames; no size depends on how many."""
        key = initial_key(seed)
        features = jnp.zeros((1, 2, self.frontend.features))
        model_state = dict(self.model.init(key, features, jnp.array([2]), train=False))
        weights = Weights(model_state.pop("params"), model_state)
        opt_state = optimizer.make_optimizer(self.optimizer, hyper).init(weights.params)
        zero = jnp.zeros((), jnp.int32)
        return TrainState(zero, zero, weights, weights, opt_state, hyper, seed, normalisation)

    def frozen(self, state: TrainState) -> jax.Array:
        """Whether more updates were not finite than may be: no step changes such a member."""
        return state.skipped > self.skip_nonfinite

    def train_step(
        self, state: TrainState, batch: Batch, partner: Batch | None, batch_size: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update from this device's rows of a batch of `batch_size` examples over all devices.

        The rows are in the order of `gru_audio.data.plan.rows_by_device`. `partner` holds the
        examples to mix in where the hyperparameters ask for mixup. Returns the new state and the
        loss and gradient norm of the whole batch.

        The three parts are public so that a program with several lengths of batches need hold the
        first and the last, which do not depend on the length, only once.
        """
        keys = self.keys(state, batch.row)
        return self.update(state, self.share(state, keys, batch, partner, batch_size))

    def keys(self, state: TrainState, rows: jax.Array) -> Keys:
        """The keys of this step for the given rows (B,) of the global batch."""
        return step_keys(state.seed, state.step, rows)

    def share(
        self,
        state: TrainState,
        keys: Keys,
        batch: Batch,
        partner: Batch | None,
        batch_size: int,
    ) -> Share:
        """Loss and gradients of this device's rows. Arguments as for `train_step`."""
        return self.share_of(state, keys, (batch, partner), lambda *loaded: loaded, batch_size)

    def share_of(
        self,
        state: TrainState,
        keys: Keys,
        examples: tuple[Any, ...],
        load: Callable[..., tuple[Batch, Batch | None]],
        batch_size: int,
    ) -> Share:
        """`share` of examples that are loaded as late as possible: a micro-batch at a time.

        Args:
          state: of the member.
          keys: of this device's rows.
          examples: arguments of `load`: trees whose leaves begin with this device's rows (B, ...).
          load: makes of those of a micro-batch the batch and its partner.
          batch_size: examples of the batch over all devices.
        """

        def share(model_state: ModelState, rows: jax.Array, examples: tuple[Any, ...]) -> Share:
            now = replace(state, weights=replace(state.weights, model_state=model_state))
            features, frames, targets = self._augmented(now, rows, *load(*examples))
            return self.share_of_features(
                now, Keys(keys.step, rows), features, frames, targets, batch_size
            )

        def next_share(total: Share, part: tuple[jax.Array, tuple[Any, ...]]):
            return _added(total, share(total.model_state, *part)), None

        if self.accumulate == 1:
            return share(state.weights.model_state, keys.rows, examples)
        parts = jax.tree.map(
            lambda a: a.reshape(self.accumulate, -1, *a.shape[1:]), (keys.rows, examples)
        )
        return jax.lax.scan(next_share, _nothing(state.weights), parts)[0]

    def share_of_features(
        self,
        state: TrainState,
        keys: Keys,
        features: jax.Array,
        frames: jax.Array,
        targets: jax.Array,
        batch_size: int,
    ) -> Share:
        """The share of one micro-batch.

        Args:
          state: of the member.
          keys: of the rows.
          features: normalised (B, T, F).
          frames: how many are valid (B,).
          targets: distributions over the classes (B, C).
          batch_size: examples of the whole batch.
        """
        if 0 < self.truncate_frames < features.shape[1]:
            return self._share_of_segments(state, keys, features, frames, targets, batch_size)

        def outputs(variables, dropout):
            return self.model.apply(
                variables,
                features,
                frames,
                train=True,
                dropout=dropout,
                mutable=list(state.weights.model_state),
            )

        share, model_state = self._share(state, keys, outputs, targets, 1.0, batch_size)
        return replace(share, model_state=dict(model_state))

    def _share_of_segments(self, state, keys, features, frames, targets, batch_size) -> Share:
        """Truncated back-propagation: segments one after another, which hand on the carry alone.

        An example's loss is the mean of its segments' losses, weighted with their valid frames.
        """
        length = self.truncate_frames
        segments = -(-features.shape[1] // length)
        padding = segments * length - features.shape[1]
        features = jnp.pad(features, ((0, 0), (0, padding), (0, 0)))

        def next_share(state_so_far, number):
            total, carry = state_so_far
            start = number * length
            segment = jax.lax.dynamic_slice_in_dim(features, start, length, axis=1)
            valid = jnp.clip(frames - start, 0, length)

            def outputs(variables, dropout):
                return self.model.apply(
                    variables, segment, valid, carry, dropout=dropout, method="segment"
                )

            own = keys.of_segment(number)
            share, carry = self._share(state, own, outputs, targets, valid / frames, batch_size)
            return (_added(total, share), carry), None

        carry = self.model.encoder.initial_carry(len(features))
        start = (_nothing(state.weights), carry)
        (total, _), _ = jax.lax.scan(next_share, start, jnp.arange(segments))
        return total

    def _share(self, state, keys, outputs, targets, weight, batch_size) -> tuple[Share, Any]:
        """The share of what `outputs(variables, dropout)` gives: logits, and something to return.

        `weight` is that of each example, () or (B,). The model's state is left as it is.
        """
        hyper, weights, dropout = state.hyper, state.weights, None
        if "model.dropout" in hyper:
            dropout = Dropout(keys.rows[:, DROPOUT], hyper["model.dropout"])

        def batch_loss(params):
            if "train.weight_noise" in hyper:
                params = _noisy(params, keys.weight_noise, hyper["train.weight_noise"])
            logits, rest = outputs({"params": params, **weights.model_state}, dropout)
            # This device's share: the sum over devices is the mean over the batch.
            return jnp.sum(self.task.loss(logits, targets) * weight) / batch_size, rest

        (loss, rest), gradients = jax.value_and_grad(batch_loss, has_aux=True)(weights.params)
        return Share(loss, gradients, weights.model_state), rest

    def update(self, state: TrainState, share: Share) -> tuple[TrainState, dict[str, jax.Array]]:
        """Adds up the devices' shares and takes the step.

        An update that is not finite is left out; where it is one too many, the step does not count
        either, and the member stays as it is, `frozen`.
        """
        loss, gradients = share.loss, share.gradients
        if jax.lax.axis_size(DATA) > 1:  # with one, members are to be the same on any mesh
            loss, gradients = jax.lax.psum((loss, gradients), DATA)
        hyper = state.hyper
        chain = optimizer.make_optimizer(self.optimizer, hyper)
        updates, opt_state = chain.update(gradients, state.opt_state, state.weights.params)
        rate = optimizer.learning_rate(self.schedule, hyper, state.step)
        params = jax.tree.map(lambda p, u: p - rate * u, state.weights.params, updates)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        weights, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (Weights(params, share.model_state), opt_state),
            (state.weights, state.opt_state),
        )
        state = replace(
            state, skipped=state.skipped + ~finite, weights=weights, opt_state=opt_state
        )
        state = replace(state, step=state.step + ~self.frozen(state))
        return state, {"loss": loss, "gradient_norm": norm}

    def score(
        self, weights: Weights, normalisation: Normalisation, batch: Batch
    ) -> dict[str, jax.Array]:
        """The task's scores of every example of a batch, (B, ...) each."""
        return self.task.score(self.outputs(weights, normalisation, batch), batch.target)

    def outputs(self, weights: Weights, normalisation: Normalisation, batch: Batch) -> jax.Array:
        """The model's outputs (B, outputs), as at evaluation: no noise, running statistics."""
        features, frames = self.features(batch)
        variables = {"params": weights.params, **weights.model_state}
        outputs = self.model.apply(variables, normalisation(features), frames, train=False)
        return cast(jax.Array, outputs)  # no collection is mutable, so outputs are all there is

    def features(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Features (B, T, F), not normalised, and frame counts (B,)."""
        return self.frontend(_waveform(batch), batch.length)

    def _augmented(self, state, keys, batch, partner):
        """Normalised features (B, T, F), frame counts (B,) and target distributions (B, C)."""
        hyper, rate = state.hyper, self.sample_rate / 1000
        waveform, length = _waveform(batch), batch.length
        targets = self.task.targets(batch.target, hyper.get("task.label_smoothing", 0.0))
        if "augment.time_shift_ms" in hyper:
            most = hyper["augment.time_shift_ms"] * rate
            waveform = augment.time_shift(keys[:, TIME_SHIFT], waveform, length, most)
        if "augment.gain_db" in hyper:
            waveform = augment.gain(keys[:, GAIN], waveform, hyper["augment.gain_db"])
        if partner is not None:
            alpha = hyper["augment.mixup"]
            waveform, share = augment.mixup(keys[:, MIXUP], waveform, _waveform(partner), alpha)
            length = jnp.maximum(length, partner.length)
            others = self.task.targets(partner.target, hyper.get("task.label_smoothing", 0.0))
            targets = share[:, None] * targets + (1 - share[:, None]) * others
        features, frames = self.frontend(waveform, length)
        features = state.normalisation(features)
        time_ms = hyper.get("augment.time_mask_ms")
        bands = hyper.get("augment.frequency_mask_bands")
        hop = self.frontend.samples(2) - self.frontend.samples(1)
        if time_ms is not None or bands is not None:
            features = augment.spec_augment(
                keys[:, SPEC_AUGMENT],
                features,
                frames,
                time_masks=0 if time_ms is None else self.time_masks,
                time_width=0 if time_ms is None else time_ms * rate / hop,
                frequency_masks=0 if bands is None else self.frequency_masks,
                frequency_width=0 if bands is None else bands,
            )
        return features, frames, targets


def make_program(config: ConfigDict, sample_rate: int, class_names: tuple[str, ...]) -> Program:
    """The program of a config on data of a sample rate and classes.

    Raises:
      UserError: a name or a number that no program could use.
    """
    optimizer.check(config.optimizer.name, config.optimizer.schedule)
    task = make_task(config.task, class_names)
    model = make_model(config.model, task.outputs, batch_axis=DATA)
    if config.train.truncate_frames:
        _check_truncation(model, config.model.name)
    return Program(
        sample_rate=sample_rate,
        frontend=make_frontend(config.frontend, sample_rate),
        model=model,
        task=task,
        optimizer=config.optimizer.name,
        schedule=config.optimizer.schedule,
        time_masks=config.augment.time_masks,
        frequency_masks=config.augment.frequency_masks,
        accumulate=config.train.accumulate,
        truncate_frames=config.train.truncate_frames,
        skip_nonfinite=config.train.skip_nonfinite,
    )


def _check_truncation(model: nn.Module, name: str) -> None:
    if not hasattr(model, "segment"):
        reason = f'config.model.name="{name}" does not carry its state from segment to segment'
    elif model.encoder.bidirectional:
        reason = "config.model.bidirectional also reads from the end"
    else:
        return
    raise UserError(f"{reason}: set config.train.truncate_frames=0.")


def _nothing(weights: Weights) -> Share:
    """What shares are added to."""
    zeros = jax.tree.map(jnp.zeros_like, weights.params)
    return Share(jnp.zeros(()), zeros, weights.model_state)


def _added(total: Share, share: Share) -> Share:
    """Sums of loss and gradients, and the model's state after the later one."""
    gradients = jax.tree.map(jnp.add, total.gradients, share.gradients)
    return Share(total.loss + share.loss, gradients, share.model_state)


def _waveform(batch: Batch) -> jax.Array:
    """Samples as numbers in [-1, 1)."""
    return batch.audio.astype(jnp.float32) / 32768


def _noisy(params, key: jax.Array, deviation: jax.Array):
    """Gaussian noise on every weight, drawn anew each step (Graves 2011; Chung 2014)."""
    leaves, tree = jax.tree.flatten(params)
    noisy = [
        w + deviation * jax.random.normal(k, w.shape, w.dtype)
        for w, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)
