"""One step on one device: from stored signals to new parameters.

`Program` holds what is static, shared by all members of a group. Its functions see one member,
without member axis, and the part of the global batch that lies on this device; they reduce over the
mesh axis `DATA` themselves. All noise is keyed by (seed, step, row of the global batch), so that
the numbers do not depend on how many devices share a batch.

A batch may go through the model in parts, to save memory: in micro-batches (`accumulate`), and each
of these in segments of time (`truncate_frames`). Losses, gradients and the number of terms are
added up over the parts on a device, then over devices in one reduction; a division makes means.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from gru_audio.audio import augment
from gru_audio.audio.frontends import Frontend
from gru_audio.audio.normalise import Normalisation
from gru_audio.data.resident import Batch, Mixed
from gru_audio.data.signal import Signal
from gru_audio.models.model import Model, Outputs
from gru_audio.rnn.noise import Dropout
from gru_audio.tasks.task import Problem, Task
from gru_audio.training import optimizer
from gru_audio.training.keys import (
    BACKGROUND,
    DROPOUT,
    GAIN,
    MIXUP,
    SPEC_AUGMENT,
    SPEED,
    TIME_SHIFT,
    Keys,
    initial_key,
    step_keys,
)
from gru_audio.training.state import ModelState, Params, TrainState, Weights

DATA = "data"  # the mesh axis over which a batch is shared
METRICS = ("loss", "gradient_norm")  # of every training step
UNMIXED = Mixed()


@struct.dataclass
class Share:
    """What this device's rows contribute to a step.

    Attributes:
      loss: the sum of their terms, ().
      terms: how many those are, ().
      gradients: of `loss`, like the parameters.
      model_state: the model's other collections, after the step.
    """

    loss: jax.Array
    terms: jax.Array
    gradients: Params
    model_state: ModelState


@dataclass(frozen=True)
class Program:
    """The static part of a run: what is computed, by whatever numbers.

    Attributes:
      signal: what the examples are sequences of.
      frontend: their steps to features.
      normalise: whether features are normalised by the training split's statistics.
      model: features to `Outputs`.
      task: features and labels to a problem, outputs to loss and metrics.
      optimizer: its name.
      schedule: name of the learning rate schedule.
      time_masks, frequency_masks: how many of each SpecAugment draws.
      blocks: of the same bands, that the features are.
      accumulate: micro-batches of a batch.
      truncate_frames: gradients flow back through at most so many frames; 0: through all.
      skip_nonfinite: how many updates may be left out because they are not finite.
    """

    signal: Signal
    frontend: Frontend
    normalise: bool
    model: Model
    task: Task
    optimizer: str
    schedule: str
    time_masks: int
    frequency_masks: int
    blocks: int
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
        self, state: TrainState, batch: Batch, mixed: Mixed = UNMIXED
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update from this device's rows of a batch.

        The rows are in the order of `gru_audio.data.plan.rows_by_device`. `mixed` holds what the
        hyperparameters ask to be mixed in. Returns the new state and the loss and gradient norm of
        the whole batch.

        The three parts are public so that a program with several lengths of batches need hold the
        first and the last, which do not depend on the length, only once.
        """
        keys = self.keys(state, batch.row)
        # As if it were a program of its own: fused with the update, the share would differ in its
        # last bits from that of a feed that chooses among several lengths.
        state, keys = jax.lax.optimization_barrier((state, keys))
        share = jax.lax.optimization_barrier(self.share(state, keys, batch, mixed))
        return self.update(state, share)

    def keys(self, state: TrainState, rows: jax.Array) -> Keys:
        """The keys of this step for the given rows (B,) of the global batch."""
        return step_keys(state.seed, state.step, rows)

    def share(self, state: TrainState, keys: Keys, batch: Batch, mixed: Mixed = UNMIXED) -> Share:
        """Loss and gradients of this device's rows. Arguments as for `train_step`."""
        return self.share_of(state, keys, (batch, mixed), lambda *loaded: loaded)

    def share_of(
        self,
        state: TrainState,
        keys: Keys,
        examples: tuple[Any, ...],
        load: Callable[..., tuple[Batch, Mixed]],
    ) -> Share:
        """`share` of examples that are loaded as late as possible: a micro-batch at a time.

        Args:
          state: of the member.
          keys: of this device's rows.
          examples: arguments of `load`: trees whose leaves begin with this device's rows (B, ...).
          load: makes of those of a micro-batch the batch, and what is mixed into it.
        """

        def share(model_state: ModelState, rows: jax.Array, examples: tuple[Any, ...]) -> Share:
            now = replace(state, weights=replace(state.weights, model_state=model_state))
            problem = self._augmented(now, rows, *load(*examples))
            return self.share_of_problem(now, Keys(keys.step, rows), problem)

        def next_share(total: Share, part: tuple[jax.Array, tuple[Any, ...]]):
            return _added(total, share(total.model_state, *part)), None

        if self.accumulate == 1:
            return share(state.weights.model_state, keys.rows, examples)
        parts = jax.tree.map(
            lambda a: a.reshape(self.accumulate, -1, *a.shape[1:]), (keys.rows, examples)
        )
        return jax.lax.scan(next_share, _nothing(state.weights), parts)[0]

    def share_of_problem(self, state: TrainState, keys: Keys, problem: Problem) -> Share:
        """The share of one micro-batch, whose rows `keys` are of."""
        inputs, frames, targets = problem
        if 0 < self.truncate_frames < inputs.shape[1]:
            return self._share_of_segments(state, keys, problem)

        def run(variables, dropout):
            return self.model.apply(
                variables,
                inputs,
                frames,
                train=True,
                dropout=dropout,
                mutable=list(state.weights.model_state),
            )

        share, model_state = self._share(state, keys, run, targets, 1.0)
        return replace(share, model_state=dict(model_state))

    def _share_of_segments(self, state: TrainState, keys: Keys, problem: Problem) -> Share:
        """Truncated back-propagation: segments one after another, which hand on the carry alone.

        Where a task asks one thing of an example, it asks it of every segment, and these are
        weighted with their valid frames.
        """
        length, frames, per_frame = self.truncate_frames, problem.frames, self.task.per_frame
        segments = -(-problem.inputs.shape[1] // length)
        inputs, targets = _filled(problem.inputs, segments * length), problem.targets
        if per_frame:
            targets = _filled(targets, segments * length)

        def next_share(state_so_far, number):
            total, carry = state_so_far
            start = number * length
            segment = functools.partial(
                jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=length, axis=1
            )
            valid = jnp.clip(frames - start, 0, length)
            asked = jax.tree.map(segment, targets) if per_frame else targets
            weight = 1.0 if per_frame else valid / frames

            def run(variables, dropout):
                outputs = self.model.apply(
                    variables, segment(inputs), valid, state=carry, train=True, dropout=dropout
                )
                return outputs, cast(Outputs, outputs).state

            own = keys.of_segment(number)
            share, carry = self._share(state, own, run, asked, weight)
            return (_added(total, share), carry), None

        carry = self.model.initial_state(len(frames))
        start = (_nothing(state.weights), carry)
        (total, _), _ = jax.lax.scan(next_share, start, jnp.arange(segments))
        return total

    def _share(self, state, keys, run, targets, weight) -> tuple[Share, Any]:
        """The share of what `run(variables, dropout)` gives: `Outputs`, and more to return.

        `weight` is that of each example, () or (B,). The model's state is left as it is.
        """
        hyper, weights, dropout = state.hyper, state.weights, None
        if "model.dropout" in hyper:
            dropout = Dropout(keys.rows[:, DROPOUT], hyper["model.dropout"])

        def batch_loss(params):
            if "train.weight_noise" in hyper:
                params = _noisy(params, keys.weight_noise, hyper["train.weight_noise"])
            outputs, rest = run({"params": params, **weights.model_state}, dropout)
            loss, terms = self.task.loss(outputs.values, targets, outputs.lengths)
            return jnp.sum(loss * weight), (jnp.sum(terms * weight), rest)

        loss, gradients = jax.value_and_grad(batch_loss, has_aux=True)(weights.params)
        loss, (terms, rest) = loss
        return Share(loss, terms, gradients, weights.model_state), rest

    def update(self, state: TrainState, share: Share) -> tuple[TrainState, dict[str, jax.Array]]:
        """Adds up the devices' shares and takes the step.

        An update that is not finite is left out; where it is one too many, the step does not count
        either, and the member stays as it is, `frozen`.
        """
        # Loss and terms as one array: XLA would reduce a number that is known early by itself.
        sums = jnp.stack([share.loss, share.terms]), share.gradients
        if jax.lax.axis_size(DATA) > 1:  # with one, members are to be the same on any mesh
            sums = jax.lax.psum(sums, DATA)
        (loss, terms), gradients = sums
        loss, gradients = jax.tree.map(lambda a: a / terms, (loss, gradients))
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
        inputs, frames, targets = self.problem(normalisation, batch)
        variables = {"params": weights.params, **weights.model_state}
        outputs = cast(Outputs, self.model.apply(variables, inputs, frames, train=False))
        return self.task.score(outputs.values, targets, outputs.lengths)

    def problem(self, normalisation: Normalisation, batch: Batch) -> Problem:
        """What a batch asks of the model, as at evaluation: no noise."""
        features, frames = self.features(batch)
        return self.task.problem(
            normalisation(features), frames, self.task.soft_labels(batch.labels)
        )

    def features(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Features (B, T, F), not normalised, and frame counts (B,)."""
        return self.frontend(self.signal.floats(batch.signal), batch.length)

    def _augmented(self, state, keys, batch, mixed) -> Problem:
        """What a batch asks of the model in training."""
        hyper, rate = state.hyper, self.signal.rate / 1000
        waveform, length = self.signal.floats(batch.signal), batch.length
        labels = self.task.soft_labels(batch.labels, hyper.get("task.label_smoothing", 0.0))
        if "augment.speed" in hyper:
            most = hyper["augment.speed"]
            waveform, length = augment.speed(keys[:, SPEED], waveform, length, most)
        if "augment.time_shift_ms" in hyper:
            most = hyper["augment.time_shift_ms"] * rate
            waveform = augment.time_shift(keys[:, TIME_SHIFT], waveform, length, most)
        if "augment.gain_db" in hyper:
            waveform = augment.gain(keys[:, GAIN], waveform, hyper["augment.gain_db"])
        if mixed.background is not None:
            waveform = augment.background(
                keys[:, BACKGROUND],
                waveform,
                length,
                self.signal.floats(mixed.background.signal),
                mixed.background.length,
                share=hyper["augment.background"],
                snr_db=(hyper.get("augment.snr_min_db", 0.0), hyper.get("augment.snr_max_db", 0.0)),
            )
        if mixed.partner is not None:
            partner, alpha = mixed.partner, hyper["augment.mixup"]
            other = self.signal.floats(partner.signal)
            waveform, share = augment.mixup(keys[:, MIXUP], waveform, other, alpha)
            length = jnp.maximum(length, partner.length)
            others = self.task.soft_labels(partner.labels, hyper.get("task.label_smoothing", 0.0))
            labels = jax.tree.map(functools.partial(_mixed, share), labels, others)
        features, frames = self.frontend(waveform, length)
        problem = self.task.problem(state.normalisation(features), frames, labels)
        time_ms = hyper.get("augment.time_mask_ms")
        bands = hyper.get("augment.frequency_mask_bands")
        hop = self.frontend.samples(2) - self.frontend.samples(1)
        if time_ms is not None or bands is not None:
            masked = augment.spec_augment(
                keys[:, SPEC_AUGMENT],
                problem.inputs,
                problem.frames,
                time_masks=0 if time_ms is None else self.time_masks,
                time_width=0 if time_ms is None else time_ms * rate / hop,
                frequency_masks=0 if bands is None else self.frequency_masks,
                frequency_width=0 if bands is None else bands,
                blocks=self.blocks,
            )
            problem = problem._replace(inputs=masked)
        return problem


def _filled(values: Any, length: int) -> Any:
    """Leaves (B, T, ...), filled up with zeros to (B, length, ...)."""

    def fill(a: jax.Array) -> jax.Array:
        return jnp.pad(a, ((0, 0), (0, length - a.shape[1]), *[(0, 0)] * (a.ndim - 2)))

    return jax.tree.map(fill, values)


def _mixed(share: jax.Array, labels: jax.Array, others: jax.Array) -> jax.Array:
    """Soft labels (B, ...) of two examples in each row, of which one has `share` (B,)."""
    share = share.reshape(-1, *[1] * (labels.ndim - 1))
    return share * labels + (1 - share) * others


def _nothing(weights: Weights) -> Share:
    """What shares are added to."""
    zero, zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, weights.params)
    return Share(zero, zero, zeros, weights.model_state)


def _added(total: Share, share: Share) -> Share:
    """Sums of losses, terms and gradients, and the model's state after the later one."""
    sums = (total.loss, total.terms, total.gradients), (share.loss, share.terms, share.gradients)
    loss, terms, gradients = jax.tree.map(jnp.add, *sums)
    return Share(loss, terms, gradients, share.model_state)


def _noisy(params, key: jax.Array, deviation: jax.Array):
    """Gaussian noise on every weight, drawn anew each step (Graves 2011; Chung 2014)."""
    leaves, tree = jax.tree.flatten(params)
    noisy = [
        w + deviation * jax.random.normal(k, w.shape, w.dtype)
        for w, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)
