"""One training step of one run on one device: from a batch to new weights.

Read from the top: `Program.train_step` draws keys, sums gradients over this device's rows, and
updates the weights. `Program` holds what is static and shared by all members of a group. Its
functions see one member, without a member axis, and this device's rows of the global batch. Only
`update` reduces over devices, along the mesh axis `DATA`.

A batch may go through the model in parts, which saves memory: in micro-batches
(`grad_accumulation`), and each of these in segments of time (`tbptt_frames`). Losses, gradients and
weights are summed over the parts, then over devices in one reduction, and divided once.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from gru_audio.audio import augment
from gru_audio.audio.frontends import Frontend
from gru_audio.audio.normalise import Normalisation
from gru_audio.data.resident import Batch, Mixed
from gru_audio.data.signal import Signal
from gru_audio.nn.layer import Dropout
from gru_audio.nn.model import Model, Outputs
from gru_audio.tasks.task import FrameTimes, InputsAndTargets, Task
from gru_audio.training import init, optimizer
from gru_audio.training import keys as uses
from gru_audio.training.keys import Keys, initial_key, step_keys

DATA = "data"  # the mesh axis over which the rows of a batch are divided
METRICS = ("loss", "gradient_norm")  # metrics of every training step
UNMIXED = Mixed()

Params = Any  # a pytree of trained arrays
ModelState = Any  # the other collections of a model: batch norm's running statistics


@struct.dataclass
class Weights:
    """The parameters and the state of a model."""

    params: Params
    model_state: ModelState


@struct.dataclass
class TrainState:
    """Everything of a member that changes in training. In a group each leaf has a member axis.

    Attributes:
      step: updates so far, int32 (). Skipped updates count.
      skipped: updates skipped because loss or gradients were not finite, int32 ().
      weights: current weights.
      best: weights of the best evaluation so far.
      opt_state: the optimizer's state.
      hyper: traced hyperparameters, dotted name -> float32 ().
      seed: uint32 (): initialisation, order of examples and noise follow from it.
      normalisation: statistics of the features of this member's training examples.
      class_weights: result of `Task.class_weights` for this member; None: no class weights.
    """

    step: jax.Array
    skipped: jax.Array
    weights: Weights
    best: Weights
    opt_state: optax.OptState
    hyper: dict[str, jax.Array]
    seed: jax.Array
    normalisation: Normalisation
    class_weights: Any = None


@struct.dataclass
class GradientSum:
    """Sums over some examples: a micro-batch, a device's rows, or a whole batch.

    Attributes:
      loss: summed loss ().
      weight: number of terms in that sum ().
      gradients: gradients of the summed loss.
      model_state: batch norm's statistics after these examples.
    """

    loss: jax.Array
    weight: jax.Array
    gradients: Params
    model_state: ModelState

    @classmethod
    def zero(cls, weights: Weights) -> "GradientSum":
        """Returns the sum over no examples."""
        zero = jnp.zeros(())
        return cls(zero, zero, jax.tree.map(jnp.zeros_like, weights.params), weights.model_state)

    def __add__(self, later: "GradientSum") -> "GradientSum":
        loss, weight, gradients = jax.tree.map(
            jnp.add,
            (self.loss, self.weight, self.gradients),
            (later.loss, later.weight, later.gradients),
        )
        return GradientSum(loss, weight, gradients, later.model_state)


@dataclass(frozen=True)
class Program:
    """The static part of a run.

    Attributes:
      signal: what the examples are sequences of.
      frontend: maps the signal to features.
      normalise: whether features are normalised by the statistics of the training split.
      model: maps features to `Outputs`.
      task: computes inputs, targets and losses.
      optimizer, schedule: names.
      time_masks, frequency_masks: numbers of SpecAugment masks.
      blocks: number of blocks of the same bands in the features (deltas add blocks).
      grad_accumulation: micro-batches in a batch.
      tbptt_frames: gradients flow back through at most this many frames; 0: through all.
      skip_nonfinite: how many updates may be skipped because they are not finite.
      freeze: patterns of the parts that do not train; see `init.is_frozen`.
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
    grad_accumulation: int
    tbptt_frames: int
    skip_nonfinite: int
    freeze: tuple[str, ...] = ()

    @property
    def frame_times(self) -> FrameTimes:
        """The times of the model's output frames."""
        first, step = self.model.positions
        hop, rate = self.frontend.hop, self.signal.rate
        return FrameTimes((self.frontend.centre + first * hop) / rate, step * hop / rate)

    def output_frames(self, lengths: Any) -> Any:
        """Returns the numbers of output frames of signals of these lengths, an int or an array."""
        return self.model.output_lengths(self.frontend.frames(lengths))

    def init(
        self,
        seed: jax.Array,
        hyper: dict[str, jax.Array],
        normalisation: Normalisation,
        class_weights: Any = None,
        start: init.Start | None = None,
    ) -> TrainState:
        """Returns a new member, with random weights unless a start has others.

        No shape of a model depends on the number of frames.
        """
        features = jnp.zeros((1, 2, self.task.input_width(self.frontend.features)))
        state = dict(self.model.init(initial_key(seed), features, jnp.array([2]), train=False))
        weights = Weights(state.pop("params"), state)
        if start is not None:
            weights = start.replaced(weights)
        opt_state = optimizer.make_optimizer(self.optimizer, hyper).init(weights.params)
        zero = jnp.zeros((), jnp.int32)
        about = hyper, seed, normalisation, class_weights
        return TrainState(zero, zero, weights, weights, opt_state, *about)

    def train_step(
        self, state: TrainState, batch: Batch, mixed: Mixed = UNMIXED
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Computes one update from this device's rows of a batch.

        Args:
          state: of the member.
          batch: rows in the order of `gru_audio.data.plan.rows_by_device`.
          mixed: examples to mix into the batch, according to the hyperparameters.

        Returns:
          The new state; loss and gradient norm of the whole batch, () each.
        """
        keys = self.keys(state, batch.row)
        # The barriers make XLA compile the gradients as if they were a program of their own. Fused
        # with the update, their last bits would differ from those of a step that chooses among
        # several padded lengths.
        state, keys = jax.lax.optimization_barrier((state, keys))
        gradients = jax.lax.optimization_barrier(self.gradients(state, keys, batch, mixed))
        return self.update(state, gradients)

    def keys(self, state: TrainState, rows: jax.Array) -> Keys:
        """Returns random keys of this step for rows (B,) of the global batch."""
        return step_keys(state.seed, state.step, rows)

    def gradients(
        self,
        state: TrainState,
        keys: Keys,
        *examples: Any,
        load: Callable[..., tuple[Batch, Mixed]] = lambda batch, mixed=UNMIXED: (batch, mixed),
    ) -> GradientSum:
        """Returns summed loss and gradients of this device's rows, in micro-batches.

        Args:
          state: of the member.
          keys: of these rows.
          examples: arguments of `load`, pytrees with leaves (B, ...).
          load: makes the batch of a micro-batch's rows, and what is mixed into it.
        """

        def micro_batch(model_state: ModelState, rows: jax.Array, examples: Any) -> GradientSum:
            prepared = self.augmented(state, rows, *load(*examples))
            return self.batch_gradients(state, model_state, Keys(keys.step, rows), prepared)

        if self.grad_accumulation == 1:
            return micro_batch(state.weights.model_state, keys.rows, examples)
        parts = jax.tree.map(
            lambda a: a.reshape(self.grad_accumulation, -1, *a.shape[1:]), (keys.rows, examples)
        )
        total, _ = jax.lax.scan(
            lambda total, part: (total + micro_batch(total.model_state, *part), None),
            GradientSum.zero(state.weights),
            parts,
        )
        return total

    def batch_gradients(
        self, state: TrainState, model_state: ModelState, keys: Keys, prepared: InputsAndTargets
    ) -> GradientSum:
        """Returns summed loss and gradients of one micro-batch, whole or in segments of time.

        The state of the model passes between segments, but gradients do not. A task with one target
        per example has a loss after every segment, weighted by the fraction of the example's frames
        in the segment.
        """
        loss_and_gradients = jax.value_and_grad(self._loss, has_aux=True)

        def of_segment(model_state, keys, segment, carry, weight) -> tuple[GradientSum, Any]:
            (loss, rest), gradients = loss_and_gradients(
                state.weights.params, state.hyper, model_state, keys, segment, carry, weight
            )
            terms, new_model_state, carry = rest
            return GradientSum(loss, terms, gradients, dict(new_model_state)), carry

        length, per_frame = self.tbptt_frames, self.task.per_frame  # hence aligned
        if not 0 < length < prepared.inputs.shape[1]:
            return of_segment(model_state, keys, prepared, None, 1.0)[0]
        segments = -(-prepared.inputs.shape[1] // length)
        inputs, targets = _padded((prepared.inputs, prepared.targets), segments * length, per_frame)

        def next_segment(so_far: tuple[GradientSum, Any], number: jax.Array):
            total, carry = so_far
            start = number * length

            def cut(a: jax.Array) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(a, start, length, axis=1)

            valid = jnp.clip(prepared.lengths - start, 0, length)
            wanted = jax.tree.map(cut, targets) if per_frame else targets
            weight = 1.0 if per_frame else valid / prepared.lengths
            segment = InputsAndTargets(cut(inputs), valid, wanted)
            added, carry = of_segment(model_state, keys.of_segment(number), segment, carry, weight)
            return (total + added, carry), None

        carry = self.model.initial_state(len(prepared.lengths))
        zero = GradientSum.zero(state.weights)
        (total, _), _ = jax.lax.scan(next_segment, (zero, carry), jnp.arange(segments))
        return total

    def _loss(
        self,
        params: Params,
        hyper: dict[str, jax.Array],
        model_state: ModelState,
        keys: Keys,
        prepared: InputsAndTargets,
        carry: Any,
        weight: jax.Array | float,
    ) -> tuple[jax.Array, tuple[jax.Array, ModelState, Any]]:
        """Returns summed loss, number of terms, and the states of the model afterwards.

        Args:
          params: differentiated.
          hyper: of the member.
          model_state: batch norm's statistics before.
          keys: of the rows.
          problem: inputs and targets.
          carry: the state after the segment before; None for whole sequences.
          weight: weight of each example, () or (B,).
        """
        params = init.stop_gradients(params, self.freeze)
        dropout = None
        if "model.dropout" in hyper:
            dropout = Dropout(keys.rows[:, uses.DROPOUT], hyper["model.dropout"])
        if "train.weight_noise" in hyper:
            params = _with_noise(params, keys.weight_noise, hyper["train.weight_noise"])
        outputs, new_state = self.model.apply(
            {"params": params, **model_state},
            prepared.inputs,
            prepared.lengths,
            state=carry,
            train=not init.keeps_statistics(model_state, self.freeze),
            dropout=dropout,
            mutable=list(model_state),
        )
        loss, terms = self.task.loss(outputs.values, prepared.targets, outputs.lengths)
        return jnp.sum(loss * weight), (jnp.sum(terms * weight), new_state, outputs.state)

    def update(
        self, state: TrainState, gradients: GradientSum
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Sums over devices and updates the weights.

        An update that is not finite is skipped. Too many of them freeze the member; see `frozen`.
        """
        # Loss and weight are in one array. Otherwise XLA reduces the first one separately.
        sums = jnp.stack([gradients.loss, gradients.weight]), gradients.gradients
        if jax.lax.axis_size(DATA) > 1:  # results must be bit-identical on any mesh
            sums = jax.lax.psum(sums, DATA)
        (loss, weight), mean = sums
        loss, mean = jax.tree.map(lambda a: a / weight, (loss, mean))
        chain = optimizer.make_optimizer(self.optimizer, state.hyper)
        updates, opt_state = chain.update(mean, state.opt_state, state.weights.params)
        rate = optimizer.learning_rate(self.schedule, state.hyper, state.step)
        params = optimizer.descend(state.weights.params, updates, rate, state.hyper, self.freeze)
        norm = optax.tree.norm(mean)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        weights, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (Weights(params, gradients.model_state), opt_state),
            (state.weights, state.opt_state),
        )
        state = replace(
            state, skipped=state.skipped + ~finite, weights=weights, opt_state=opt_state
        )
        state = replace(state, step=state.step + ~self.frozen(state))
        return state, {"loss": loss, "gradient_norm": norm}

    def frozen(self, state: TrainState) -> jax.Array:
        """Whether more updates were skipped than allowed: no later step changes the member."""
        return state.skipped > self.skip_nonfinite

    def score(
        self, weights: Weights, normalisation: Normalisation, batch: Batch
    ) -> dict[str, jax.Array]:
        """Returns the arrays (B, ...) that the task's metrics need."""
        outputs, prepared = self.outputs(weights, normalisation, batch)
        scores = self.task.score(outputs.values, prepared.targets, outputs.lengths)
        return scores | dict(prepared.reference)

    def outputs(
        self, weights: Weights, normalisation: Normalisation, batch: Batch
    ) -> tuple[Outputs, InputsAndTargets]:
        """Returns the outputs of the model at evaluation, and its inputs and targets."""
        prepared = self.inputs_and_targets(normalisation, batch)
        variables = {"params": weights.params, **weights.model_state}
        outputs: Any = self.model.apply(variables, prepared.inputs, prepared.lengths, train=False)
        return outputs, prepared

    def inputs_and_targets(self, normalisation: Normalisation, batch: Batch) -> InputsAndTargets:
        """Returns inputs and targets of a batch at evaluation, without noise."""
        features, frames = self.features(batch)
        labels = self._labels_of_crop(self.task.soft_labels(batch.labels), batch)
        return self.task.inputs_and_targets(normalisation(features), frames, labels)

    def features(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Returns unnormalised features (B, T, F) and numbers of valid frames (B,)."""
        return self.frontend(self.signal.floats(batch.signal), batch.length)

    def _labels_of_crop(self, soft: Any, batch: Batch) -> Any:
        """Returns soft labels with times from the beginning of the signal, not of the clip."""
        start = batch.start / self.signal.rate
        return self.task.moved(soft, jnp.ones_like(start), -start)

    def _training_labels(self, state: TrainState, batch: Batch) -> Any:
        """Returns the labels of a batch with the member's smoothing and class weights."""
        soft = self.task.soft_labels(batch.labels, state.hyper.get("task.label_smoothing", 0.0))
        if state.class_weights is not None:
            soft = self.task.weighted(soft, batch.labels, state.class_weights)
        return self._labels_of_crop(soft, batch)

    def augmented(
        self, state: TrainState, keys: jax.Array, batch: Batch, mixed: Mixed
    ) -> InputsAndTargets:
        """Returns inputs and targets of a batch in training, with keys of its rows (B, uses)."""
        hyper, rate = state.hyper, self.signal.rate / 1000
        waveform, length = self.signal.floats(batch.signal), batch.length
        labels = self._training_labels(state, batch)
        if "augment.speed" in hyper:
            most = hyper["augment.speed"]
            waveform, length, factor = augment.speed(keys[:, uses.SPEED], waveform, length, most)
            labels = self.task.moved(labels, factor, jnp.zeros_like(factor))
        if "augment.time_shift_ms" in hyper:
            most = hyper["augment.time_shift_ms"] * rate
            waveform, shift = augment.time_shift(keys[:, uses.TIME_SHIFT], waveform, length, most)
            labels = self.task.moved(labels, jnp.ones(shift.shape), shift / self.signal.rate)
        if "augment.gain_db" in hyper:
            waveform = augment.gain(keys[:, uses.GAIN], waveform, hyper["augment.gain_db"])
        if mixed.background is not None:
            waveform = augment.background(
                keys[:, uses.BACKGROUND],
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
            waveform, share = augment.mixup(keys[:, uses.MIXUP], waveform, other, alpha)
            length = jnp.maximum(length, partner.length)
            others = self._training_labels(state, partner)
            labels = jax.tree.map(functools.partial(_mixed_labels, share), labels, others)
        features, frames = self.frontend(waveform, length)
        prepared = self.task.inputs_and_targets(state.normalisation(features), frames, labels)
        time_ms = hyper.get("augment.time_mask_ms")
        bands = hyper.get("augment.frequency_mask_bands")
        if time_ms is None and bands is None:
            return prepared
        hop = self.frontend.hop
        masked = augment.spec_augment(
            keys[:, uses.SPEC_AUGMENT],
            prepared.inputs,
            prepared.lengths,
            time_masks=0 if time_ms is None else self.time_masks,
            time_width=0 if time_ms is None else time_ms * rate / hop,
            frequency_masks=0 if bands is None else self.frequency_masks,
            frequency_width=0 if bands is None else bands,
            blocks=self.blocks,
        )
        return prepared._replace(inputs=masked)


def _padded(inputs_and_targets: tuple[Any, Any], length: int, per_frame: bool) -> tuple[Any, Any]:
    """Pads inputs and targets per frame (B, T, ...) with zeros to (B, length, ...)."""

    def pad(a: jax.Array) -> jax.Array:
        return jnp.pad(a, ((0, 0), (0, length - a.shape[1]), *[(0, 0)] * (a.ndim - 2)))

    inputs, targets = inputs_and_targets
    return pad(inputs), jax.tree.map(pad, targets) if per_frame else targets


def _mixed_labels(share: jax.Array, labels: jax.Array, others: jax.Array) -> jax.Array:
    """Mixes the soft labels (B, ...) of two examples; `share` (B,) is the first one's part."""
    share = share.reshape(-1, *[1] * (labels.ndim - 1))
    return share * labels + (1 - share) * others


def _with_noise(params: Params, key: jax.Array, deviation: jax.Array) -> Params:
    """Adds Gaussian noise to every weight (Graves 2011; Chung et al. 2014)."""
    leaves, tree = jax.tree.flatten(params)
    noisy = [
        w + deviation * jax.random.normal(k, w.shape, w.dtype)
        for w, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)
