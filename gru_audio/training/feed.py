"""How a group's examples reach its step, resident or streamed, behind one interface.

A feed trains all members over a range of steps and scores them on a split. It compiles what it
needs on first use. Both feeds follow the same plan and give the same numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.normalise import Normalisation, feature_sums
from gru_audio.data import resident, stream
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
from gru_audio.training import processes
from gru_audio.training.elapsed import NONE, Elapsed
from gru_audio.training.parallel import Compiled, Kind, Layout
from gru_audio.training.side_by_side import any_member, keep_stopped, longest_of
from gru_audio.training.state import TrainState, Weights
from gru_audio.training.step import DATA, METRICS, Program

_CALL_STEPS = 1000  # at most this many steps in one call: the size of its buffer of metrics
_SCORE_BATCH = 32  # examples scored at a time on a device: fixed, so that scores never change

Scores = dict[str, np.ndarray]


@dataclass
class Feed(ABC):
    """Trains and scores the members of a group on their data.

    Attributes:
      program: what is computed.
      layout: where.
      data: on what.
      mixing: what the step mixes in.
      horizon: the most steps of any member.
      threads: for reading, where the feed streams.
      compile_time: spent on compilation so far.
      memory_bytes: most that one call takes on a device, by the compiler's count.
    """

    program: Program
    layout: Layout
    data: GroupData
    mixing: Mixing
    horizon: int
    threads: int
    compile_time: Elapsed = NONE
    memory_bytes: int = 0
    _calls: dict[object, Compiled] = field(default_factory=dict)
    _resident: Resident | None = None  # in device memory, where a feed holds the data there

    def __post_init__(self) -> None:
        self._set_up()

    def take(self, members: np.ndarray, layout: Layout) -> "Feed":
        """A feed of some of the members, on the same devices."""
        return replace(
            self,
            layout=layout,
            data=self.data.take(members),
            compile_time=NONE,
            memory_bytes=0,
            _calls={},
        )

    @abstractmethod
    def _set_up(self) -> None:
        """Makes ready what feeds the steps."""

    @abstractmethod
    def train(
        self, state: TrainState, alive: np.ndarray, start: int, stop: int
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Steps `start` to `stop` for the members that are alive (M,).

        `state` is given away. Metrics are (M, stop - start), zero for members not alive and past
        the step at which one is frozen (see `Program.update`). A call of more than `most_steps` is
        an error.
        """

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """The most steps of one call."""

    @abstractmethod
    def _score_chunk(
        self, weights: Weights, normalisation: Normalisation, bucket: int, ids: np.ndarray
    ) -> Scores:
        """Scores of the examples `ids` (padded members, rows), on the host."""

    def score(self, weights: Weights, normalisation: Normalisation, role: str) -> list[Scores]:
        """Scores of each member's examples of a role, in the order of `data.ids[member][role]`."""
        parts = self.data.parts(role)
        stacked, counts = pad_tables(parts)
        per_member: list[list[Scores]] = [[] for _ in parts]
        chunk = _SCORE_BATCH * self.layout.data_devices
        for bucket, table in enumerate(stacked):
            for begin in range(0, int(counts[:, bucket].max()), chunk):
                ids = np.zeros((len(table), chunk), np.int32)
                part = table[:, begin : begin + chunk]
                ids[:, : part.shape[1]] = part
                scores = self._score_chunk(weights, normalisation, bucket, self.layout.pad(ids))
                for m, taken in enumerate(np.clip(counts[:, bucket] - begin, 0, chunk)):
                    per_member[m].append({k: v[m, :taken] for k, v in scores.items()})
        return [_in_order(chunks, part) for chunks, part in zip(per_member, parts, strict=True)]

    def initial_state(self, hyper: dict[str, np.ndarray]) -> TrainState:
        """Fresh members with their normalisation."""
        layout = self.layout
        like = jnp.zeros((layout.members, self.program.frontend.features))
        normalisations = processes.arrays_from_first(
            self._normalisations, Normalisation(like, like)
        )
        arguments = layout.put(
            jax.tree.map(layout.pad, (self.data.seeds, hyper, normalisations)), Kind.MEMBER
        )
        call = layout.compile(self.program.init, arguments, (Kind.MEMBER,) * 3, Kind.MEMBER)
        self.compile_time += call.compile_time
        return call(*arguments)

    def _normalisations(self) -> Normalisation:
        """Statistics of each member's training examples, every leaf (M, F).

        Sums are made once a clip, of all clips that some fold trains on, and added up in float64,
        so that a member's statistics do not depend on its group.
        """
        if not self.program.normalise:
            shape = len(self.data.ids), self.program.frontend.features
            return Normalisation(jnp.zeros(shape), jnp.ones(shape))
        wanted = np.unique(np.concatenate([ids["train"] for ids in self.data.ids]))
        lengths = self.data.source.columns["length"]
        sums = jax.jit(
            lambda batch: feature_sums(*self.program.features(batch)),
            compiler_options=self.layout.compiler_options,
        )
        per_clip: list[tuple[np.ndarray, ...]] = []
        parts = self.data.plan.parts(wanted, lengths[wanted])
        for padded, part in zip(self.data.plan.padded, parts, strict=True):
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
        """The examples `ids` read on the host, cropped in the middle where they are too long."""
        rows = np.arange(len(ids), dtype=np.int32)
        crop = np.full(len(ids), CENTRE, np.float32)
        return stream.read(self.data.source, self.data.labels, ids, rows, padded, crop)

    def _compiled(
        self, key: object, function, arguments, kinds, result: Kind, donate: tuple[int, ...] = ()
    ) -> Compiled:
        if key not in self._calls:
            call = self.layout.compile(function, arguments, kinds, result, donate)
            self._calls[key] = call
            self.compile_time += call.compile_time
            self.memory_bytes = max(self.memory_bytes, call.memory_bytes or 0)
        return self._calls[key]

    def _rows_of_devices(self) -> np.ndarray:
        """Which rows of a batch each device takes: int32 (devices, rows)."""
        devices, parts = self.layout.data_devices, self.program.accumulate
        return rows_by_device(self.data.plan.batch_size, devices, parts).reshape(devices, -1)

    def _mask(self, alive: np.ndarray) -> jax.Array:
        """`alive` (M,) on the devices; what pads the members is not."""
        padded = np.zeros(self.layout.padded_members, bool)
        padded[: len(alive)] = alive
        return self.layout.put(padded, Kind.MEMBER)


class ResidentFeed(Feed):
    """The data set lies in device memory, and a call runs many steps."""

    most_steps = _CALL_STEPS

    def _set_up(self) -> None:
        data, layout = self.data, self.layout
        if self._resident is None:
            loaded = resident.load(data.source, data.labels, max(data.plan.padded))
            self._resident = layout.put(loaded, Kind.SHARED)

        def stacked(examples):
            (table,), counts = pad_tables([[of_member] for of_member in examples])
            return layout.pad(table), layout.pad(counts[:, 0])

        examples, _ = stacked([np.concatenate(tables) for tables in data.tables])
        sizes = np.array([[len(part) for part in tables] for tables in data.tables], np.int32)
        drawn_from = examples, layout.pad(sizes), None
        if self.mixing.background:
            drawn_from = *drawn_from[:2], stacked(data.backgrounds())
        self._drawn_from = layout.put(drawn_from, Kind.MEMBER)

    def train(self, state, alive, start, stop):
        padding = ((0, 0), (0, _CALL_STEPS - (stop - start)))
        schedule = [self.layout.pad(np.pad(a, padding)) for a in self.data.schedule(start, stop)]
        arguments = (
            state,
            self._mask(alive),
            self._drawn_from,
            *self.layout.put(schedule, Kind.MEMBER),
            self._resident,
            self.layout.put(np.int32(stop - start), Kind.SHARED),
        )
        kinds = (*[Kind.MEMBER] * 5, *[Kind.SHARED] * 2)
        call = self._compiled("train", self._many_steps, arguments, kinds, Kind.MEMBER, donate=(0,))
        state, metrics = call(*arguments)
        return state, {k: v[:, : stop - start] for k, v in self.layout.fetch(metrics).items()}

    def _many_steps(self, state, alive, drawn_from, buckets, visits, data, count):
        """One member on one device: `count` steps, or none if it is not alive."""
        plan, (examples, sizes, backgrounds) = self.data.plan, drawn_from
        size, padded = plan.batch_size, jnp.array(plan.padded)
        begins = jnp.cumsum(sizes) - sizes  # of the buckets among the examples
        rows = jnp.asarray(self._rows_of_devices())
        rows = rows[0] if len(rows) == 1 else rows[jax.lax.axis_index(DATA)]

        def drawn(state, bucket, visit, places):
            """Examples, and crops."""
            order = (state.seed, bucket, visit, places, size)
            places = begins[bucket] + rows_to_places(sizes[bucket], *order)
            return examples[places], crop_fractions(*order)

        def drawn_background(state, bucket, visit):
            """Background clips, and crops."""
            order = (state.seed, bucket, visit, rows, size)
            table, clips = backgrounds
            return rows_to_background(table, clips, *order), crop_fractions(*order)

        def share_in(bucket):
            def share(state, keys, longest, *drawn):
                def load(rows, *drawn):
                    own, partner, background = (
                        d and data.batch(d[0], rows, plan.padded[bucket], d[1], longest)
                        for d in drawn
                    )
                    return own, Mixed(partner, background)

                return self.program.share_of(state, keys, (rows, *drawn), load)

            return share

        in_buckets = [share_in(bucket) for bucket in range(len(plan.padded))]

        def step(carry):
            # Only what depends on the length is in the branches: compiling one takes a second.
            i, state, series = carry
            bucket, visit = buckets[i], visits[i]
            own, others, noise = drawn(state, bucket, visit, rows), None, None
            if self.mixing.partners:
                others = drawn(state, bucket, visit, partner_rows(rows, visit, size))
            if self.mixing.background:
                noise = drawn_background(state, bucket, visit)
            keys = self.program.keys(state, rows)
            # Side by side, members are padded alike, and the longest bucket is long enough for all.
            common = longest_of(jnp.where(goes_on(state), bucket, 0))
            operands = (state, keys, padded[bucket], own, others, noise)
            share = jax.lax.switch(common, in_buckets, *operands)
            new = self.program.update(state, share)
            old = state, {name: jnp.zeros(()) for name in METRICS}
            state, metrics = keep_stopped(goes_on(state), new, old)
            return i + 1, state, {k: series[k].at[i].set(v) for k, v in metrics.items()}

        def goes_on(state):
            return alive & ~self.program.frozen(state)

        def any_goes_on(carry):
            i, state, _ = carry
            return (i < count) & any_member(goes_on(state))

        series = {name: jnp.zeros(_CALL_STEPS) for name in METRICS}
        return jax.lax.while_loop(any_goes_on, step, (jnp.int32(0), state, series))[1:]

    def _score_chunk(self, weights, normalisation, bucket, ids):
        padded = self.data.plan.padded[bucket]

        def score(weights, normalisation, ids, data):
            crop = jnp.full(ids.shape, CENTRE)
            batch = data.batch(ids, jnp.arange(len(ids)), padded, crop)
            return self.program.score(weights, normalisation, batch)

        ids = self.layout.put(ids, Kind.ROWS)
        arguments = (weights, normalisation, ids, self._resident)
        kinds = (Kind.MEMBER, Kind.MEMBER, Kind.ROWS, Kind.SHARED)
        call = self._compiled(("score", bucket), score, arguments, kinds, Kind.ROWS)
        return self.layout.fetch(call(*arguments))


class StreamedFeed(Feed):
    """The data set stays on disk, and every step is given its batch."""

    most_steps = 1

    def _set_up(self) -> None:
        data, layout = self.data, self.layout
        members, rows = layout.local(data.plan.batch_size)
        # What pads the members is read once.
        self._read, self._held = np.unique(
            layout.pad(np.arange(layout.members))[members], return_inverse=True
        )
        places = self._rows_of_devices().reshape(-1)[rows]
        self._reader = data.reader(self._read, places, self.mixing)
        self._next: tuple[int, Iterator] = (-1, iter(()))

    def train(self, state, alive, start, stop):
        if self._next[0] != start:
            self._next = (start, self._steps(start))
        steps = self._next[1]
        buckets, given = next(steps)
        self._next = (stop, steps)
        held = jax.tree.map(lambda a: a[self._held], given)
        batch, mixed = self.layout.put_local(held, self.data.plan.batch_size)
        alike = bool((buckets == buckets[0]).all())
        own = None if alike else self.layout.put(self.layout.pad(buckets), Kind.MEMBER)
        arguments = (state, self._mask(alive), batch, mixed, own)
        kinds = (Kind.MEMBER, Kind.MEMBER, Kind.ROWS, Kind.ROWS, Kind.MEMBER)
        key = ("train", batch.signal.shape, alike)
        call = self._compiled(key, self._one_step, arguments, kinds, Kind.MEMBER, donate=(0,))
        state, metrics = call(*arguments)
        return state, {k: v[:, None] for k, v in self.layout.fetch(metrics).items()}

    def _steps(self, start: int) -> Iterator[tuple[np.ndarray, tuple[Batch, Mixed]]]:
        """For each step, all members' buckets, and batches padded to the longest of these."""
        buckets, visits = self.data.schedule(start, self.horizon)
        padded = np.array(self.data.plan.padded)[buckets.max(axis=0)]
        own = buckets[self._read], visits[self._read]
        return zip(buckets.T, self._reader.stream(*own, padded, self.threads), strict=False)

    def _one_step(self, state, alive, batch, mixed, bucket):
        """A step of one member. Its batch is padded further than its `bucket`, if it has that."""

        def in_bucket(padded):
            def share(state, keys):
                own, others = jax.tree.map(
                    lambda whole: replace(whole, signal=whole.signal[:, :padded]),
                    (batch, mixed),
                    is_leaf=lambda tree: isinstance(tree, Batch),
                )
                return self.program.share(state, keys, own, others)

            return share

        def run(state):
            if bucket is None:
                return self.program.train_step(state, batch, mixed)
            lengths = [n for n in self.data.plan.padded if n <= batch.signal.shape[1]]
            keys = self.program.keys(state, batch.row)
            in_buckets = [in_bucket(padded) for padded in lengths]
            share = jax.lax.switch(longest_of(bucket), in_buckets, state, keys)
            return self.program.update(state, share)

        def skip(state):
            return state, {name: jnp.zeros(()) for name in METRICS}

        return jax.lax.cond(alive & ~self.program.frozen(state), run, skip, state)

    def _score_chunk(self, weights, normalisation, bucket, ids):
        rows = ids.shape[1]
        own = ids[self.layout.local(rows)]
        # Members share clips, and what pads them: each is read once, where it is needed.
        read, places = np.unique(own, return_inverse=True)
        clips = self._centred(read, self.data.plan.padded[bucket])
        held = jax.tree.map(lambda a: a[places.reshape(own.shape)], clips)
        batch = self.layout.put_local(held, rows)
        arguments = (weights, normalisation, batch)
        kinds = (Kind.MEMBER, Kind.MEMBER, Kind.ROWS)
        key = ("score", bucket)
        call = self._compiled(key, self.program.score, arguments, kinds, Kind.ROWS)
        return self.layout.fetch(call(*arguments))


FEEDS: dict[str, type[Feed]] = {"resident": ResidentFeed, "streamed": StreamedFeed}


def _in_order(chunks: list[Scores], parts: list[np.ndarray]) -> Scores:
    """Joins scores made bucket by bucket, in ascending order of examples; {} for none."""
    if not any(map(len, parts)):
        return {}
    order = np.argsort(np.concatenate(parts))
    return {k: np.concatenate([c[k] for c in chunks])[order] for k in chunks[0]}
