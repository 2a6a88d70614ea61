"""Loaders pass the examples of a group to its training steps, from device memory or from disk.

A loader trains the members of a group over a range of steps and scores them on a split. Both
loaders follow the same plan and give the same results.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.normalise import Normalisation, feature_sums
from gru_audio.data import resident, stream
from gru_audio.data.fields import take
from gru_audio.data.group import GroupData
from gru_audio.data.plan import (
    crop_fractions,
    pad_tables,
    partner_rows,
    rows_by_device,
    rows_to_background,
    rows_to_places,
)
from gru_audio.data.resident import CENTRE, Batch, Mixed, Mixing, Resident
from gru_audio.tasks.task import joined
from gru_audio.training import distributed
from gru_audio.training.init import Start
from gru_audio.training.placement import Kind, Placement
from gru_audio.training.step import DATA, METRICS, Program, TrainState, Weights
from gru_audio.training.vmapped import any_member, max_over_members, where_active

_CALL_STEPS = 1000  # steps in one call; also the size of its buffer of metrics
_SCORE_BATCH = 32  # examples per device; constant, so that scores do not change

Scores = dict[str, np.ndarray]
Series = dict[str, np.ndarray]  # metrics (members, steps)


@dataclass
class Loader(ABC):
    """Trains and scores the members of a group on their data.

    Attributes:
      program: the program of the runs.
      placement: the devices.
      data: the examples of each member.
      mixing: what the step mixes into examples.
      max_steps: largest number of steps of a member.
      threads: number of threads that read from disk.
    """

    program: Program
    placement: Placement
    data: GroupData
    mixing: Mixing
    max_steps: int
    threads: int
    _resident: Resident | None = None  # the data set in device memory, shared by `take`

    def __post_init__(self) -> None:
        self._set_up()

    def take(self, members: np.ndarray, placement: Placement) -> "Loader":
        """Returns a loader of some of the members."""
        return replace(self, placement=placement, data=self.data.take(members))

    @abstractmethod
    def _set_up(self) -> None:
        """Prepares the data of the steps."""

    @abstractmethod
    def train(
        self, state: TrainState, alive: np.ndarray, start: int, stop: int
    ) -> tuple[TrainState, Series]:
        """Trains the members that are `alive` (M,) from step `start` to `stop`.

        There are at most `call_steps` steps. `state` is donated. Metrics are zero for members that
        are not alive, and after the step at which a member is frozen.
        """

    @property
    @abstractmethod
    def call_steps(self) -> int:
        """Largest number of steps in one call."""

    @abstractmethod
    def _score_chunk(
        self, weights: Weights, normalisation: Normalisation, bucket: int, ids: np.ndarray
    ) -> Scores:
        """Returns host scores of the examples `ids` (padded members, rows)."""

    def score(self, weights: Weights, normalisation: Normalisation, role: str) -> list[Scores]:
        """Returns each member's scores on a role, in the order of `data.ids[member][role]`."""
        parts = self.data.parts(role)
        stacked, counts = pad_tables(parts)
        per_member: list[list[Scores]] = [[] for _ in parts]
        chunk = _SCORE_BATCH * self.placement.data_devices
        for bucket, table in enumerate(stacked):
            for begin in range(0, int(counts[:, bucket].max()), chunk):
                ids = np.zeros((len(table), chunk), np.int32)
                part = table[:, begin : begin + chunk]
                ids[:, : part.shape[1]] = part
                scores = self._score_chunk(weights, normalisation, bucket, self.placement.pad(ids))
                for m, taken in enumerate(np.clip(counts[:, bucket] - begin, 0, chunk)):
                    per_member[m].append({k: v[m, :taken] for k, v in scores.items()})
        return [_in_order(chunks, part) for chunks, part in zip(per_member, parts, strict=True)]

    def initial_state(self, hyper: dict[str, np.ndarray], start: Start | None = None) -> TrainState:
        """Returns new members with their normalisation.

        Args:
          hyper: of the members.
          start: what they begin with, with leaves (M, ...); None: random weights.
        """
        placement = self.placement
        like = jnp.zeros((placement.members, self.program.frontend.features))
        normalisations = start.normalisation if start else None
        if normalisations is None:
            normalisations = distributed.broadcast_arrays(
                self._normalisations, Normalisation(like, like)
            )
        of_members = (self.data.seeds, hyper, normalisations, self.class_weights(), start)
        arguments = placement.put(jax.tree.map(placement.pad, of_members), Kind.MEMBER)
        kinds = (Kind.MEMBER,) * len(arguments)
        call = placement.compile(self.program.init, arguments, kinds, Kind.MEMBER)
        placement.compile_time += call.compile_time  # its memory is not that of training
        return call(*arguments)

    def class_weights(self) -> Any:
        """Returns each member's class weights, with leaves (M, ...); None without class weights."""
        frames = self.program.output_frames(self.data.source.columns["length"])
        train = [ids["train"] for ids in self.data.ids]
        weights = [
            self.program.task.class_weights(take(self.data.labels, ids), frames[ids])
            for ids in train
        ]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *weights)

    def _normalisations(self) -> Normalisation:
        """Returns statistics of each member's training examples, with leaves (M, F).

        Each example that any member trains on is summed once. The sums are added in float64, so
        that the statistics of a member do not depend on its group.
        """
        if not self.program.normalise:
            shape = len(self.data.ids), self.program.frontend.features
            return Normalisation(jnp.zeros(shape), jnp.ones(shape))
        wanted = np.unique(np.concatenate([ids["train"] for ids in self.data.ids]))
        lengths = self.data.source.columns["length"]
        sums = jax.jit(
            lambda batch: feature_sums(*self.program.features(batch)),
            compiler_options=self.placement.compiler_options,
        )
        per_clip: list[tuple[np.ndarray, ...]] = []
        parts = self.data.plan.parts(wanted, lengths[wanted])
        for padded, part in zip(self.data.plan.evaluated, parts, strict=True):
            for begin in range(0, len(part), _SCORE_BATCH):
                ids = np.resize(part[begin : begin + _SCORE_BATCH], _SCORE_BATCH)
                batch = self._centred(ids, padded)
                kept = min(_SCORE_BATCH, len(part) - begin)
                per_clip.append(tuple(np.asarray(a)[:kept] for a in sums(batch)))
        order = np.argsort(np.concatenate(parts))
        count, total, squares = (np.concatenate(a)[order] for a in zip(*per_clip, strict=True))
        members = []
        for roles in self.data.ids:
            at = np.searchsorted(wanted, roles["train"])
            members.append(Normalisation.from_sums(count[at], total[at], squares[at]))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *members)

    def _centred(self, ids: np.ndarray, padded: int) -> Batch:
        """Reads the examples `ids` on the host. Long ones are cropped in the middle."""
        rows = np.arange(len(ids), dtype=np.int32)
        crop = np.full(len(ids), CENTRE, np.float32)
        return stream.read(self.data.source, self.data.labels, ids, rows, padded, crop)

    def _rows_of_devices(self) -> np.ndarray:
        """Returns the rows of a batch on each device, int32 (devices, rows)."""
        devices, parts = self.placement.data_devices, self.program.grad_accumulation
        return rows_by_device(self.data.plan.batch_size, devices, parts).reshape(devices, -1)

    def _mask(self, alive: np.ndarray) -> jax.Array:
        """Puts `alive` (M,) on the devices, with False for padding."""
        padded = np.zeros(self.placement.padded_members, bool)
        padded[: len(alive)] = alive
        return self.placement.put(padded, Kind.MEMBER)


class ResidentLoader(Loader):
    """Keeps the data set in device memory. One call runs many steps."""

    call_steps = _CALL_STEPS

    def _set_up(self) -> None:
        data, placement = self.data, self.placement
        if self._resident is None:
            loaded = resident.load(data.source, data.labels, max(data.plan.evaluated))
            self._resident = placement.put(loaded, Kind.SHARED)

        def stacked(examples):
            (table,), counts = pad_tables([[of_member] for of_member in examples])
            return placement.pad(table), placement.pad(counts[:, 0])

        examples, _ = stacked([np.concatenate(tables) for tables in data.tables])
        tables = examples, placement.pad(data.counts), None
        if self.mixing.background:
            tables = *tables[:2], stacked(data.backgrounds())
        self._tables = placement.put(tables, Kind.MEMBER)

    def train(self, state, alive, start, stop):
        padding = ((0, 0), (0, _CALL_STEPS - (stop - start)))
        schedule = [self.placement.pad(np.pad(a, padding)) for a in self.data.schedule(start, stop)]
        arguments = (
            state,
            self._mask(alive),
            self._tables,
            *self.placement.put(schedule, Kind.MEMBER),
            self._resident,
            self.placement.put(np.int32(stop - start), Kind.SHARED),
        )
        kinds = (*[Kind.MEMBER] * 5, *[Kind.SHARED] * 2)
        state, series = self.placement.run(
            "train", self._many_steps, arguments, kinds, Kind.MEMBER, donate=(0,), tuned=True
        )
        return state, {k: v[:, : stop - start] for k, v in self.placement.fetch(series).items()}

    def _many_steps(self, state, alive, tables, buckets, visits, data, count):
        """Trains one member on one device for `count` steps, or for none if it is not alive."""
        plan, (examples, counts, backgrounds) = self.data.plan, tables
        size, padded = plan.batch_size, jnp.array(plan.padded)
        sizes = counts if counts.ndim == 1 else counts[:, 1].sum(-1)
        begins = jnp.cumsum(sizes) - sizes  # first example of each bucket
        rows = jnp.asarray(self._rows_of_devices())
        rows = rows[0] if len(rows) == 1 else rows[jax.lax.axis_index(DATA)]

        def chosen(state, bucket, visit, places):
            """Returns examples and crops of places in the batch."""
            order = (state.seed, bucket, visit, places, size)
            places = begins[bucket] + rows_to_places(counts[bucket], *order)
            return examples[places], crop_fractions(*order)

        def chosen_background(state, bucket, visit):
            """Returns background clips and crops."""
            order = (state.seed, bucket, visit, rows, size)
            table, clips = backgrounds
            return rows_to_background(table, clips, *order), crop_fractions(*order)

        def gradients_at(length):
            """Returns the part of a step that depends on the padded length."""

            def gradients(state, keys, longest, *chosen):
                def load(rows, *chosen):
                    own, partner, background = (
                        c and data.batch(c[0], rows, length, c[1], longest) for c in chosen
                    )
                    return own, Mixed(partner, background)

                return self.program.gradients(state, keys, rows, *chosen, load=load)

            return gradients

        at_lengths = [gradients_at(length) for length in plan.padded]

        def step(carry):
            i, state, series = carry
            bucket, visit = buckets[i], visits[i]
            own, partners, background = chosen(state, bucket, visit, rows), None, None
            if self.mixing.partners:
                partners = chosen(state, bucket, visit, partner_rows(rows, visit, size))
            if self.mixing.background:
                background = chosen_background(state, bucket, visit)
            keys = self.program.keys(state, rows)
            # Members in one `vmap` are padded to the longest bucket of any of them.
            common = max_over_members(jnp.where(active(state), bucket, 0))
            operands = (state, keys, padded[bucket], own, partners, background)
            gradients = jax.lax.switch(common, at_lengths, *operands)
            new = self.program.update(state, gradients)
            old = state, {name: jnp.zeros(()) for name in METRICS}
            state, metrics = where_active(active(state), new, old)
            return i + 1, state, {k: series[k].at[i].set(v) for k, v in metrics.items()}

        def active(state):
            return alive & ~self.program.frozen(state)

        def any_active(carry):
            i, state, _ = carry
            return (i < count) & any_member(active(state))

        series = {name: jnp.zeros(_CALL_STEPS) for name in METRICS}
        return jax.lax.while_loop(any_active, step, (jnp.int32(0), state, series))[1:]

    def _score_chunk(self, weights, normalisation, bucket, ids):
        padded = self.data.plan.evaluated[bucket]

        def score(weights, normalisation, ids, data):
            crop = jnp.full(ids.shape, CENTRE)
            batch = data.batch(ids, jnp.arange(len(ids)), padded, crop)
            return self.program.score(weights, normalisation, batch)

        ids = self.placement.put(ids, Kind.ROWS)
        arguments = (weights, normalisation, ids, self._resident)
        kinds = (Kind.MEMBER, Kind.MEMBER, Kind.ROWS, Kind.SHARED)
        scores = self.placement.run(("score", bucket), score, arguments, kinds, Kind.ROWS)
        return self.placement.fetch(scores)


class StreamedLoader(Loader):
    """Leaves the data set on disk and passes a batch to every step."""

    call_steps = 1

    def _set_up(self) -> None:
        data, placement = self.data, self.placement
        members, rows = placement.local(data.plan.batch_size)
        # Padding repeats members, but each is read once.
        self._read, self._held = np.unique(
            placement.pad(np.arange(placement.members))[members], return_inverse=True
        )
        places = self._rows_of_devices().reshape(-1)[rows]
        self._reader = data.reader(self._read, places, self.mixing)
        self._batches: Iterator = iter(())
        self._step, self._batch = -1, cast(Any, None)  # the next step, whose batch is ready

    def train(self, state, alive, start, stop):
        if self._step != start:
            self._batches = self._batches_from(start)
            self._batch = next(self._batches)
        batch, mixed, bucket = self._batch
        arguments = (state, self._mask(alive), batch, mixed, bucket)
        kinds = (Kind.MEMBER, Kind.MEMBER, Kind.ROWS, Kind.ROWS, Kind.MEMBER)
        key = ("train", batch.signal.shape, bucket is None)
        state, metrics = self.placement.run(
            key, self._one_step, arguments, kinds, Kind.MEMBER, donate=(0,), tuned=True
        )
        # The host reads and puts the next batch while the devices compute.
        self._step, self._batch = stop, next(self._batches, None)
        return state, {k: v[:, None] for k, v in self.placement.fetch(metrics).items()}

    def _batches_from(self, start: int) -> Iterator[tuple[Batch, Mixed, jax.Array | None]]:
        """Yields for each step a batch, what is mixed in, and the buckets if members differ."""
        buckets, visits = self.data.schedule(start, self.max_steps)
        padded = np.array(self.data.plan.padded)[buckets.max(axis=0)]
        own = buckets[self._read], visits[self._read]
        batches = self._reader.stream(*own, padded, self.threads)
        for of_members, read in zip(buckets.T, batches, strict=False):
            held = jax.tree.map(lambda a: a[self._held], read)
            batch, mixed = self.placement.put_local(held, self.data.plan.batch_size)
            alike = bool((of_members == of_members[0]).all())
            of_members = self.placement.pad(of_members)
            yield batch, mixed, None if alike else self.placement.put(of_members, Kind.MEMBER)

    def _one_step(self, state, alive, batch, mixed, bucket):
        """Trains one member for one step. `bucket` is None if the batch has its padded length."""

        def gradients_at(length):
            def gradients(state, keys):
                own, *others = (b and b.padded_to(length) for b in (batch, *mixed))
                return self.program.gradients(state, keys, own, Mixed(*others))

            return gradients

        def run(state):
            if bucket is None:
                return self.program.train_step(state, batch, mixed)
            lengths = [n for n in self.data.plan.padded if n <= batch.signal.shape[1]]
            keys = self.program.keys(state, batch.row)
            at_lengths = [gradients_at(length) for length in lengths]
            gradients = jax.lax.switch(max_over_members(bucket), at_lengths, state, keys)
            return self.program.update(state, gradients)

        skipped = {name: jnp.zeros(()) for name in METRICS}
        active = alive & ~self.program.frozen(state)
        return jax.lax.cond(active, run, lambda state: (state, skipped), state)

    def _score_chunk(self, weights, normalisation, bucket, ids):
        rows = ids.shape[1]
        own = ids[self.placement.local(rows)]
        # Members share clips, but each is read once.
        read, places = np.unique(own, return_inverse=True)
        clips = self._centred(read, self.data.plan.evaluated[bucket])
        held = jax.tree.map(lambda a: a[places.reshape(own.shape)], clips)
        arguments = (weights, normalisation, self.placement.put_local(held, rows))
        kinds = (Kind.MEMBER, Kind.MEMBER, Kind.ROWS)
        key = ("score", bucket)
        scores = self.placement.run(key, self.program.score, arguments, kinds, Kind.ROWS)
        return self.placement.fetch(scores)


LOADERS: dict[str, type[Loader]] = {"resident": ResidentLoader, "streamed": StreamedLoader}


def _in_order(chunks: list[Scores], parts: list[np.ndarray]) -> Scores:
    """Joins the scores of all buckets, in ascending order of examples; {} for no examples."""
    if not any(map(len, parts)):
        return {}
    order = np.argsort(np.concatenate(parts))
    return take(joined(chunks), order)
