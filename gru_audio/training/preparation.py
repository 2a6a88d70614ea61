"""From the rows of a batch to the inputs and targets of a model, with and without augmentation."""

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from gru_audio.audio import augment
from gru_audio.audio.frontends import Frontend
from gru_audio.audio.normalise import Normalisation
from gru_audio.data.resident import Batch, Mixed
from gru_audio.data.signal import Signal
from gru_audio.tasks.task import InputsAndTargets, Task
from gru_audio.training import keys as uses


class Member(Protocol):
    """What of a member's train state the preparation needs; see `step.TrainState`."""

    hyper: dict[str, jax.Array]
    normalisation: Normalisation
    class_weights: Any


@dataclass(frozen=True)
class Preparation:
    """The static part of a run before the model.

    Attributes:
      signal: what the examples are sequences of.
      frontend: maps the signal to features.
      normalise: whether features are normalised by the statistics of the training split.
      task: computes inputs, targets and losses.
      time_masks, frequency_masks: numbers of SpecAugment masks.
      blocks: number of blocks of the same bands in the features (deltas add blocks).
    """

    signal: Signal
    frontend: Frontend
    normalise: bool
    task: Task
    time_masks: int
    frequency_masks: int
    blocks: int

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

    def _training_labels(self, member: Member, batch: Batch) -> Any:
        """Returns the labels of a batch with the member's smoothing and class weights."""
        soft = self.task.soft_labels(batch.labels, member.hyper.get("task.label_smoothing", 0.0))
        if member.class_weights is not None:
            soft = self.task.weighted(soft, batch.labels, member.class_weights)
        return self._labels_of_crop(soft, batch)

    def augmented(
        self, member: Member, keys: jax.Array, batch: Batch, mixed: Mixed
    ) -> InputsAndTargets:
        """Returns inputs and targets of a batch in training, with keys of its rows (B, uses)."""
        hyper, rate = member.hyper, self.signal.rate / 1000
        waveform, length = self.signal.floats(batch.signal), batch.length
        labels = self._training_labels(member, batch)
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
            others = self._training_labels(member, partner)
            labels = jax.tree.map(functools.partial(_mixed_labels, share), labels, others)
        features, frames = self.frontend(waveform, length)
        if "augment.frequency_warp" in hyper:
            frequencies, most = self.frontend.band_frequencies, hyper["augment.frequency_warp"]
            assert frequencies is not None  # checked by `make_program`
            features = augment.frequency_warp(keys[:, uses.WARP], features, frequencies, most)
        if "augment.tempo" in hyper:
            most = hyper["augment.tempo"]
            features, frames, factor = augment.tempo(keys[:, uses.TEMPO], features, frames, most)
            still = self.frontend.centre / self.signal.rate  # the centre of the first frame
            labels = self.task.moved(labels, factor, still - still / factor)
        prepared = self.task.inputs_and_targets(member.normalisation(features), frames, labels)
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


def _mixed_labels(share: jax.Array, labels: jax.Array, others: jax.Array) -> jax.Array:
    """Mixes the soft labels (B, ...) of two examples; `share` (B,) is the first one's part."""
    share = share.reshape(-1, *[1] * (labels.ndim - 1))
    return share * labels + (1 - share) * others
