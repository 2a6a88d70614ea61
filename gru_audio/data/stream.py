"""Training data fed from disk: Grain reads the batches of the plan ahead of the device."""

from collections.abc import Iterator
from dataclasses import dataclass

import grain
import numpy as np

from gru_audio.data.plan import Plan, crop_fractions, partner_rows, rows_to_examples
from gru_audio.data.resident import Batch, crop_start
from gru_audio.data.source import Source


@dataclass(frozen=True)
class Reader:
    """Reads batches of several members at once, or the part of them that one process needs.

    Attributes:
      source: the data set.
      target: class of every example (N,).
      plan: what forms a batch.
      tables: a member's examples by bucket, as `Plan.tables` gives them, one a member.
      seeds: the members' seeds (M,).
      rows: what to read of the whole batch, places in it, int32 (R,).
      mixup: whether to read the partners too.
    """

    source: Source
    target: np.ndarray
    plan: Plan
    tables: list[list[np.ndarray]]
    seeds: np.ndarray
    rows: np.ndarray
    mixup: bool

    def stream(self, start: int, stop: int, threads: int) -> Iterator[tuple[Batch, Batch | None]]:
        """The batches of the steps `start` to `stop`, read ahead by `threads` threads."""
        buckets, visits = self.plan.schedule(start, stop)
        steps = grain.MapDataset.range(len(buckets))
        batches = steps.map(lambda i: self.step(int(buckets[i]), int(visits[i])))
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        return iter(batches.to_iter_dataset(options))

    def step(self, bucket: int, visit: int) -> tuple[Batch, Batch | None]:
        """Batch and partners of one step: every leaf (members, rows, ...)."""
        batch = self._read(bucket, visit, self.rows)
        if not self.mixup:
            return batch, None
        partners = partner_rows(self.rows, np.int32(visit), self.plan.batch_size)
        return batch, self._read(bucket, visit, partners)

    def _read(self, bucket: int, visit: int, places: np.ndarray) -> Batch:
        size, padded = self.plan.batch_size, self.plan.padded[bucket]
        parts = []
        for table, seed in zip(self.tables, self.seeds, strict=True):
            part = table[bucket]
            ids = rows_to_examples(part, len(part), seed, bucket, visit, places, size)
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
