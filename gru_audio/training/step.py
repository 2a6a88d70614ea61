"""One step on one device: from int16 samples to new parameters.

`Program` holds what is static, shared by all members of a group. Its functions see one member,
without member axis, and the part of the global batch that lies on this device; they reduce over the
mesh axis `DATA` themselves. All noise is keyed by (seed, step, row of the global batch), so that
the numbers do not depend on how many devices share a batch.
"""

from dataclasses import dataclass, replace
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from gru_audio.audio import augment
from gru_audio.audio.frontend import Frontend, make_frontend
from gru_audio.audio.normalise import Normalisation
from gru_audio.data.resident import Batch
from gru_audio.models import make_model
from gru_audio.rnn.noise import Dropout
from gru_audio.tasks import Task, make_task
from gru_audio.training import optimizer
from gru_audio.training.state import ModelState, Params, TrainState, Weights

DATA = "data"  # the mesh axis over which a batch is shared
METRICS = ("loss", "gradient_norm")  # of every training step

# Uses of a member's key, and of a step's key for a row: no two draws are alike.
_INIT, _STEP = range(2)
_TIME_SHIFT, _GAIN, _MIXUP, _SPEC_AUGMENT, _DROPOUT = _ROW_USES = range(5)
_WEIGHT_NOISE = 2**32 - 1  # of a step's key too: no row comes to this number


@struct.dataclass
class Keys:
    """Typed keys of the random draws of one step.

    Attributes:
      step: what all others come from, ().
      rows: for what is drawn for each row of this device, one a use (B, uses).
    """

    step: jax.Array
    rows: jax.Array


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
    """

    sample_rate: int
    frontend: Frontend
    model: nn.Module
    task: Task
    optimizer: str
    schedule: str
    time_masks: int
    frequency_masks: int

    def init(
        self, seed: jax.Array, hyper: dict[str, jax.Array], normalisation: Normalisation
    ) -> TrainState:
        """A fresh member. The model is initialised on two frames; no size depends on how many."""
        key = jax.random.fold_in(jax.random.key(seed), _INIT)
        features = jnp.zeros((1, 2, self.frontend.features))
        model_state = dict(self.model.init(key, features, jnp.array([2]), train=False))
        weights = Weights(model_state.pop("params"), model_state)
        opt_state = optimizer.make_optimizer(self.optimizer, hyper).init(weights.params)
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, weights, weights, opt_state, hyper, seed, normalisation)

    def train_step(
        self, state: TrainState, batch: Batch, partner: Batch | None, batch_size: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update from this device's rows of a batch of `batch_size` examples over all devices.

        `partner` holds the examples to mix in where the hyperparameters ask for mixup. Returns the
        new state and the loss and gradient norm of the whole batch.

        The three parts are public so that a program with several lengths of batches need hold the
        first and the last, which do not depend on the length, only once.
        """
        keys = self.keys(state, batch.row)
        return self.update(state, self.share(state, keys, batch, partner, batch_size))

    def keys(self, state: TrainState, rows: jax.Array) -> Keys:
        """The keys of this step for the given rows (B,) of the global batch."""
        member = jax.random.fold_in(jax.random.key(state.seed), _STEP)
        step = jax.random.fold_in(member, state.step)
        numbers = rows[:, None] * len(_ROW_USES) + jnp.arange(len(_ROW_USES))
        return Keys(
            step, jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))(step, numbers)
        )

    def share(
        self,
        state: TrainState,
        keys: Keys,
        batch: Batch,
        partner: Batch | None,
        batch_size: int,
    ) -> Share:
        """Loss and gradients of this device's rows. Arguments as for `train_step`."""
        features, frames, targets = self._augmented(state, keys.rows, batch, partner)
        return self.share_of_features(state, keys, features, frames, targets, batch_size)

    def share_of_features(
        self,
        state: TrainState,
        keys: Keys,
        features: jax.Array,
        frames: jax.Array,
        targets: jax.Array,
        batch_size: int,
    ) -> Share:
        """`share` from normalised features (B, T, F), frame counts (B,) and targets (B, C)."""
        hyper, dropout = state.hyper, None
        if "model.dropout" in hyper:
            dropout = Dropout(keys.rows[:, _DROPOUT], hyper["model.dropout"])

        def batch_loss(params):
            if "train.weight_noise" in hyper:
                key = jax.random.fold_in(keys.step, _WEIGHT_NOISE)
                params = _noisy(params, key, hyper["train.weight_noise"])
            logits, model_state = self.model.apply(
                {"params": params, **state.weights.model_state},
                features,
                frames,
                train=True,
                dropout=dropout,
                mutable=list(state.weights.model_state),
            )
            # This device's share: the sum over devices is the mean over the batch.
            return jnp.sum(self.task.loss(logits, targets)) / batch_size, model_state

        (loss, model_state), gradients = jax.value_and_grad(batch_loss, has_aux=True)(
            state.weights.params
        )
        return Share(loss, gradients, dict(model_state))

    def update(self, state: TrainState, share: Share) -> tuple[TrainState, dict[str, jax.Array]]:
        """Adds up the devices' shares and takes the step."""
        loss, gradients = jax.lax.psum((share.loss, share.gradients), DATA)
        hyper = state.hyper
        chain = optimizer.make_optimizer(self.optimizer, hyper)
        updates, opt_state = chain.update(gradients, state.opt_state, state.weights.params)
        rate = optimizer.learning_rate(self.schedule, hyper, state.step)
        params = jax.tree.map(lambda p, u: p - rate * u, state.weights.params, updates)
        state = replace(
            state,
            step=state.step + 1,
            weights=Weights(params, share.model_state),
            opt_state=opt_state,
        )
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}

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
            waveform = augment.time_shift(keys[:, _TIME_SHIFT], waveform, length, most)
        if "augment.gain_db" in hyper:
            waveform = augment.gain(keys[:, _GAIN], waveform, hyper["augment.gain_db"])
        if partner is not None:
            alpha = hyper["augment.mixup"]
            waveform, share = augment.mixup(keys[:, _MIXUP], waveform, _waveform(partner), alpha)
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
                keys[:, _SPEC_AUGMENT],
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
    return Program(
        sample_rate=sample_rate,
        frontend=make_frontend(config.frontend, sample_rate),
        model=make_model(config.model, task.outputs, batch_axis=DATA),
        task=task,
        optimizer=config.optimizer.name,
        schedule=config.optimizer.schedule,
        time_masks=config.augment.time_masks,
        frequency_masks=config.augment.frequency_masks,
    )


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
