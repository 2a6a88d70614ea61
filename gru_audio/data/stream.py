"""Training data fed from disk: Grain reads the batches of the plan ahead of the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grain
import numpy as np

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
    """Reads batches of several members at once, or the part of them that one process needs.

    Attributes:
      source: the data set.
      target: class of every example (N,).
      plan: what forms a batch.
      tables: a member's examples by bucket, as `Plan.tables` gives them, one a member.
      backgrounds: a member's background clips, one a member; none where there are none.
      seeds: the members' seeds (M,).
      rows: what to read of the whole batch, places in it, int32 (R,).
      mixing: what else to read.
    """

    source: Source
    target: np.ndarray
    plan: Plan
    tables: list[list[np.ndarray]]
    backgrounds: list[np.ndarray]
    seeds: np.ndarray
    rows: np.ndarray
    mixing: Mixing

    def stream(self, start: int, stop: int, threads: int) -> Iterator[tuple[Batch, Mixed]]:
        """The batches of the steps `start` to `stop`, read ahead by `threads` threads."""
        buckets, visits = self.plan.schedule(start, stop)
        steps = grain.MapDataset.range(len(buckets))
        batches = steps.map(lambda i: self.step(int(buckets[i]), int(visits[i])))
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        return iter(batches.to_iter_dataset(options))

    def step(self, bucket: int, visit: int) -> tuple[Batch, Mixed]:
        """Batch of one step, and what is mixed into it: every leaf (members, rows, ...)."""
        tables = [table[bucket] for table in self.tables]
        batch = self._read(rows_to_examples, tables, bucket, visit, self.rows)
        partner = background = None
        if self.mixing.partners:
            partners = partner_rows(self.rows, np.int32(visit), self.plan.batch_size)
            partner = self._read(rows_to_examples, tables, bucket, visit, partners)
        if self.mixing.background:
            drawn = rows_to_background, self.backgrounds
            background = self._read(*drawn, bucket, visit, self.rows)
        return batch, Mixed(partner, background)

    def _read(
        self,
        to_examples: Callable[..., np.ndarray],
        tables: list[np.ndarray],
        bucket: int,
        visit: int,
        places: np.ndarray,
    ) -> Batch:
        """What a function of the plan draws from each member's table for some places."""
        size, padded = self.plan.batch_size, self.plan.padded[bucket]
        parts = []
        for table, seed in zip(tables, self.seeds, strict=True):
            ids = to_examples(table, len(table), seed, bucket, visit, places, size)
            crop = crop_fractions(seed, bucket, visit, places, size)
            parts.append(read(self.source, self.target, ids, self.rows, padded, crop))
        return Batch(
            *(
                np.stack([getattr(p, f) for p in parts])
                for f in ("signal", "length", "target", "row")
            )
        )


def read(
    source: Source,
    target: np.ndarray,
    ids: np.ndarray,
    rows: np.ndarray,
    padded: int,
    crop: np.ndarray,
) -> Batch:
    """One batch of the examples `ids` (B,), as `Resident.batch` would give it."""
    block, shape = source.signal.block, source.signal.shape
    signal = np.zeros((len(ids), padded, *shape), source.signal.dtype)
    starts = crop_start(source.columns["length"][ids], padded, crop, block) * block
    lengths = np.zeros(len(ids), np.int32)
    for i, (steps, start) in enumerate(zip(source.signals(ids), starts, strict=True)):
        part = steps[start : start + padded]
        signal[i, : len(part)], lengths[i] = part, len(part)
    return Batch(signal, lengths, target[ids].astype(np.int32), rows)
