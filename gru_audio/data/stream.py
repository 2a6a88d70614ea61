"""Streams training data from disk: Grain reads the batches of the plan ahead of the device."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gru_audio.data.fields import take
from gru_audio.data.plan import (
    Plan,
    crop_fractions,
    partner_rows,
    rows_to_background,
    rows_to_examples,
)
from gru_audio.data.resident import Batch, Mixed, Mixing, crop_start
from gru_audio.data.source import Source


@dataclass(frozen=True)
class Reader:
    """Reads batches of several members at once, or the rows that one process needs.

    Attributes:
      source: the data set.
      labels: of every example, a tree of arrays (N, ...).
      plan: what forms a batch.
      tables: a member's examples by bucket, as `Plan.tables` gives them, one a member.
      counts: of the examples in these tables (M, buckets), or quotas (M, buckets, 2, classes).
      backgrounds: a member's background clips, one a member; none where there are none.
      seeds: the members' seeds (M,).
      rows: the rows of the global batch to read, int32 (R,).
      mixing: which signals to mix into the examples, and so to read too.
    """

    source: Source
    labels: Any
    plan: Plan
    tables: list[list[np.ndarray]]
    counts: np.ndarray
    backgrounds: list[np.ndarray]
    seeds: np.ndarray
    rows: np.ndarray
    mixing: Mixing

    def stream(
        self,
        buckets: np.ndarray,
        visits: np.ndarray,
        padded: Sequence[int] | np.ndarray,
        threads: int,
    ) -> Iterator[tuple[Batch, Mixed]]:
        """Yields the batches of consecutive steps, read ahead by `threads` threads.

        Args:
          buckets, visits: the members' buckets and visits, (M, steps) each.
          padded: the padded length of each step (steps,), at least that of each member's bucket.
          threads: the number of threads.
        """
        import grain  # resident data sets do not need it

        steps = grain.MapDataset.range(len(padded))
        batches = steps.map(lambda i: self.step(buckets[:, i], visits[:, i], int(padded[i])))
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        return iter(batches.to_iter_dataset(options))

    def step(
        self, buckets: np.ndarray | int, visits: np.ndarray | int, padded: int = 0
    ) -> tuple[Batch, Mixed]:
        """Reads the batch of one step and the signals to mix into it.

        Args:
          buckets, visits: one value per member (M,), or one for all members.
          padded: steps of the signal; 0: the padded length of the longest of these buckets.

        Returns:
          Batches whose leaves are (members, rows, ...).
        """
        members = (len(self.seeds),)
        buckets = np.broadcast_to(np.asarray(buckets, np.int32), members)
        visits = np.broadcast_to(np.asarray(visits, np.int32), members)
        padded = padded or self.plan.padded[buckets.max()]
        rows = [self.rows] * len(buckets)
        drawn_from = [
            (tables[bucket], counts[bucket])
            for tables, counts, bucket in zip(self.tables, self.counts, buckets, strict=True)
        ]
        read = functools.partial(self._read, buckets=buckets, visits=visits, padded=padded)
        partner = background = None
        if self.mixing.partners:
            partners = [partner_rows(self.rows, v, self.plan.batch_size) for v in visits]
            partner = read(rows_to_examples, drawn_from, places=partners)
        if self.mixing.background:
            backgrounds = [(clips, len(clips)) for clips in self.backgrounds]
            background = read(rows_to_background, backgrounds, places=rows)
        return read(rows_to_examples, drawn_from, places=rows), Mixed(partner, background)

    def _read(
        self,
        to_examples: Callable[..., np.ndarray],
        drawn_from: Sequence[tuple[np.ndarray, np.ndarray | int]],
        *,
        buckets: np.ndarray,
        visits: np.ndarray,
        padded: int,
        places: Sequence[np.ndarray],
    ) -> Batch:
        """What a function of the plan draws from each member's table and count for some places."""
        size, parts = self.plan.batch_size, []
        for (table, count), *order in zip(
            drawn_from, self.seeds, buckets, visits, places, strict=True
        ):
            seed, bucket, visit, rows = order
            ids = to_examples(table, count, seed, bucket, visit, rows, size)
            crop = crop_fractions(seed, bucket, visit, rows, size)
            longest = self.plan.padded[bucket]
            parts.append(read(self.source, self.labels, ids, self.rows, padded, crop, longest))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


def read(
    source: Source,
    labels: Any,
    ids: np.ndarray,
    rows: np.ndarray,
    padded: int,
    crop: np.ndarray,
    longest: int | None = None,
) -> Batch:
    """Reads one batch of the examples `ids` (B,), equal to that of `Resident.batch`."""
    block, shape = source.signal.block, source.signal.shape
    longest = padded if longest is None else longest
    signal = np.zeros((len(ids), padded, *shape), source.signal.dtype)
    starts = crop_start(source.columns["length"][ids], longest, crop, block) * block
    lengths = np.zeros(len(ids), np.int32)
    for i, (steps, start) in enumerate(zip(source.signals(ids), starts, strict=True)):
        part = steps[start : start + longest]
        signal[i, : len(part)], lengths[i] = part, len(part)
    return Batch(signal, lengths, starts.astype(np.int32), take(labels, ids), rows)
