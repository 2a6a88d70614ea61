"""The batch plan: a pure function from the step to the examples of its batch.

A step of a run belongs to a *bucket*: a padded length, with the run's examples that fit it. All
runs of a data set have the same buckets. How often a run visits each of them follows from the
lengths of its own training examples, so that it sees each of them equally often, whatever is held
out. The order of the visits follows from the data seed: runs with the same shares have the same
order, and runs with almost the same shares have almost the same. Which examples of the bucket form
a batch follows from (member seed, bucket, visit): each bucket is shuffled again, without
replacement, every time it has been gone through. Balanced sampling does the same to each class of
a bucket's examples, and interleaves the classes (see `quotas`). Nothing here has state, so a
resumed run, a run fed from disk and a run fed from device memory see the same batches; nothing
depends on the other runs of a group.

The functions on examples take NumPy and JAX arrays: the streaming loader calls them on the host,
the compiled step calls them on the device, and both results are bit-identical.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.data.signal import BLOCK

Array = Any  # np.ndarray or jax.Array: the functions below use their common array API

_ROUNDS = 24  # of swap-or-not; 6 log2(n) mixes fully, and n <= 16 in the smallest buckets needs 24
_GOLDEN = 0.6180339887498949  # multiples modulo 1 have low discrepancy (Weyl 1916)


@dataclass(frozen=True)
class Plan:
    """The buckets of clip lengths and the order of their visits, which all runs share.

    Attributes:
      padded: length of each bucket in steps of the signal, ascending multiples of its block.
      evaluated: the same for evaluation, which may take whole examples where training crops them.
      examples: number of examples that any run trains on; it sets the length of an epoch.
      batch_size: examples per step, over all devices.
      seed: the data seed.
    """

    padded: tuple[int, ...]
    evaluated: tuple[int, ...]
    examples: int
    batch_size: int
    seed: int

    @property
    def epoch_steps(self) -> int:
        """Steps per epoch: one pass through the examples of a run that holds nothing out."""
        return max(1, round(self.examples / self.batch_size))

    def bucket_of(self, lengths: np.ndarray) -> np.ndarray:
        """Returns the smallest bucket that fits each length (N,); the last one for longer clips."""
        return _bucket_of(self.padded, lengths)

    def schedule(
        self, sizes: Sequence[int] | np.ndarray, start: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the buckets and visits of steps `start` to `stop`, both int32 (stop - start,).

        Within an epoch each bucket is visited in proportion to its examples, by systematic sampling
        with an offset that moves from epoch to epoch, in shuffled order. The visit is the
        number of earlier steps with the same bucket.

        Args:
          sizes: the run's number of examples in each bucket (see `tables`); not all 0.
          start, stop: 0-based steps.
        """
        steps = self.epoch_steps
        shares = np.asarray(sizes) / np.sum(sizes)
        # Without the last end, rounding cannot select a bucket without examples.
        ends = np.cumsum(shares)[: np.flatnonzero(shares)[-1]]
        epochs = np.arange(stop // steps + 1)
        offsets = (self.seed + epochs + 1) * _GOLDEN % 1.0
        points = (np.arange(steps) + offsets[:, None]) / steps
        buckets = np.searchsorted(ends, points, side="right").astype(np.int32)
        first = start // steps  # earlier epochs only count visits: their order does not matter
        for epoch in epochs[first:]:
            np.random.default_rng((self.seed, epoch)).shuffle(buckets[epoch])
        flat = buckets.reshape(-1)
        visits = np.zeros_like(flat)
        for bucket in range(len(self.padded)):
            chosen = flat == bucket
            visits[chosen] = np.arange(chosen.sum())
        return flat[start:stop], visits[start:stop]

    def parts(self, ids: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """Groups examples `ids` (N,) of `lengths` (N,) by bucket of evaluation; int32 arrays."""
        bucket = _bucket_of(self.evaluated, lengths)
        return [ids[bucket == b].astype(np.int32) for b in range(len(self.evaluated))]

    def tables(self, ids: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """Assigns the training examples `ids` (N,) with `lengths` (N,) to buckets; int32 arrays.

        Each bucket is empty or has at least a batch of examples; with fewer, one visit would show
        an example several times. A bucket that is too small takes the longest examples of shorter
        buckets. If less than a batch is left in the shortest bucket, it moves to the next longer
        one.
        """
        sizes = np.bincount(self.bucket_of(lengths), minlength=len(self.padded))
        for bucket in range(len(sizes))[::-1]:
            for shorter in range(bucket)[::-1]:
                if 0 < sizes[bucket] < self.batch_size:
                    moved = min(sizes[shorter], self.batch_size - sizes[bucket])
                    sizes[shorter] -= moved
                    sizes[bucket] += moved
        filled = np.flatnonzero(sizes)
        if len(filled) > 1 and sizes[filled[0]] < self.batch_size:
            sizes[filled[1]] += sizes[filled[0]]
            sizes[filled[0]] = 0
        by_length = ids[np.argsort(lengths, kind="stable")].astype(np.int32)
        return [np.sort(part) for part in np.split(by_length, np.cumsum(sizes)[:-1])]


def make_plan(
    lengths: np.ndarray,
    trainable: np.ndarray,
    *,
    batch_size: int,
    buckets: int,
    seed: int,
    longest: int | None = None,
    whole: bool = False,
    block: int = BLOCK,
) -> Plan:
    """Chooses the buckets with the least total padding.

    Args:
      lengths: steps of every clip of the data set (N,), of all splits.
      trainable: whether some member of the group may train on each clip, bool (N,). Held-out folds
        count as trainable, so a run has the same epoch length alone and beside other folds.
      batch_size: examples per step.
      buckets: the largest number of buckets.
      seed: the data seed.
      longest: clips of more steps than this are cropped.
      whole: whether they are cropped only in training.
      block: padded lengths are multiples of it.
    """
    blocks = -(-np.maximum(lengths, 1) // block)
    cropped = blocks if longest is None else np.minimum(blocks, max(1, longest // block))
    padded, evaluated = (
        tuple((_least_waste(each, buckets) * block).tolist())
        for each in (cropped, blocks if whole else cropped)
    )
    return Plan(
        padded=padded,
        evaluated=evaluated,
        examples=int(trainable.sum()),
        batch_size=batch_size,
        seed=seed,
    )


def _bucket_of(padded: Sequence[int], lengths: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(padded, lengths), len(padded) - 1)


def _least_waste(blocks: np.ndarray, buckets: int, grid: int = 128) -> np.ndarray:
    """Returns the bucket lengths, in blocks, with the least total padding.

    Dynamic programming over a grid of quantiles of the lengths.
    """
    edges = np.unique(np.quantile(blocks, np.linspace(0, 1, grid), method="higher"))
    below = np.searchsorted(np.sort(blocks), edges, side="right")  # clips that fit under each edge
    cost = edges * below.astype(float)  # one bucket for everything up to an edge
    choices = []
    for _ in range(min(buckets, len(edges)) - 1):
        # total[i, j]: the best up to edge i, then one bucket from there to edge j
        total = cost[:, None] + edges * (below - below[:, None]).astype(float)
        total[np.tril_indices(len(edges))] = np.inf
        best = np.minimum(total.min(axis=0), cost)
        choices.append(np.where(total.min(axis=0) < cost, total.argmin(axis=0), -1))
        cost = best
    last, chosen = len(edges) - 1, [len(edges) - 1]
    for choice in reversed(choices):
        if choice[last] >= 0:
            last = choice[last]
            chosen.append(last)
    return edges[sorted(chosen)].astype(np.int64)


def quotas(classes: Sequence[np.ndarray]) -> np.ndarray:
    """How often each bucket draws from each class so that all classes are drawn equally often.

    Each class has as many draws as the largest class has examples. They are divided over the
    buckets in proportion to the class's examples there, by largest remainders.

    Args:
      classes: of the examples in each bucket's table, int (P,) of values from 0.

    Returns:
      int32 (buckets, 2, C): draws, then examples, of each class in each bucket. Shares of buckets
      in `Plan.schedule` are their draws.
    """
    number = 1 + max(int(part.max(initial=-1)) for part in classes)
    examples = np.stack([np.bincount(part, minlength=number) for part in classes]).astype(np.int64)
    totals = examples.sum(axis=0)
    wanted = examples * totals.max(), np.maximum(totals, 1)
    draws, remainders = wanted[0] // wanted[1], wanted[0] % wanted[1]
    missing = np.where(totals > 0, totals.max(), 0) - draws.sum(axis=0)
    ranks = np.argsort(np.argsort(-remainders, axis=0, kind="stable"), axis=0)
    draws += ranks < missing
    return np.stack([draws, examples], axis=1).astype(np.int32)


def rows_to_examples(
    table: Array,
    count: Array,
    seed: Array,
    bucket: Array,
    visit: Array,
    rows: Array,
    batch_size: int,
) -> Array:
    """Returns the example ids in some rows of a batch.

    Args:
      table: examples of the bucket, int32 (P,), of which the first `count` are real.
      count: number of real examples, a scalar; or, for balanced sampling, the bucket's draws and
        examples of each class (2, C), as `quotas` gives them: the table is sorted by class.
      seed: member seed, a uint32 scalar.
      bucket: index of the bucket, a scalar.
      visit: number of earlier visits to the bucket, a scalar.
      rows: row indices in the global batch (R,).
      batch_size: rows of the global batch.

    Returns:
      Example ids, int32 (R,).
    """
    return table[rows_to_places(count, seed, bucket, visit, rows, batch_size)]


def rows_to_places(
    count: Array, seed: Array, bucket: Array, visit: Array, rows: Array, batch_size: int
) -> Array:
    """Returns the index in the bucket's table of each row's example, int32 (R,).

    Arguments as for `rows_to_examples`.
    """
    place, key = _place(seed, bucket, visit, rows, batch_size)
    xp = rows.__array_namespace__()
    count = xp.asarray(count)
    if count.ndim == 2:
        return _balanced_places(count, place, key)
    count = xp.reshape(count.astype(xp.uint32), (1,))
    return _without_replacement(place, count, key).astype(xp.int32)


def _balanced_places(quota: Array, place: Array, key: Array) -> Array:
    """Where in a table that is sorted by class the draws `place` of a bucket stand, int32 (R,).

    A pass of the bucket takes as many examples of each class as the quota says, in shuffled order.
    Each class goes through its examples at its own pace, shuffled again for each time.
    """
    xp = place.__array_namespace__()
    draws, examples = quota[0], quota[1]
    ends = xp.cumsum(draws, dtype=np.int32)
    total = xp.reshape(ends[-1].astype(xp.uint32), (1,))
    slot = _without_replacement(place, total, key).astype(xp.int32)
    chosen = xp.searchsorted(ends, slot, side="right").astype(xp.int32)
    in_pass = (slot - (ends - draws)[chosen]).astype(xp.uint32)
    drawn = place // total * draws[chosen].astype(xp.uint32) + in_pass  # of the class before
    count = examples[chosen].astype(xp.uint32)
    key = mix(key + np.uint32(0x165667B1) * (chosen.astype(xp.uint32) + np.uint32(1)))
    begins = xp.cumsum(examples, dtype=np.int32) - examples
    return begins[chosen] + _without_replacement(drawn, count, key).astype(xp.int32)


def _without_replacement(place: Array, count: Array, key: Array) -> Array:
    """What the draws `place` take of range(count), all of it before any again: uint32 (R,)."""
    return _shuffled(place % count, count, mix(key + place // count))


def crop_fractions(seed: Array, bucket: Array, visit: Array, rows: Array, batch_size: int) -> Array:
    """Returns each row's random crop position as a fraction, float32 (R,) in [0, 1)."""
    place, key = _place(seed, bucket, visit, rows, batch_size)
    xp = rows.__array_namespace__()
    bits = mix(mix(key + np.uint32(0x5BD1E995)) + place) >> np.uint32(8)
    return bits.astype(xp.float32) / np.float32(2**24)


def partner_rows(rows: Array, visit: Array, batch_size: int) -> Array:
    """Returns the row of the same batch that mixup adds to each row (R,); it varies by visit."""
    return (rows + 1 + visit % max(1, batch_size - 1)) % batch_size


def rows_to_background(
    table: Array,
    count: Array,
    seed: Array,
    bucket: Array,
    visit: Array,
    rows: Array,
    batch_size: int,
) -> Array:
    """Returns the background clip of each row, drawn with replacement, int32 (R,).

    Arguments as for `rows_to_examples`, but `table` holds all of a member's background clips.
    """
    place, key = _place(seed, bucket, visit, rows, batch_size)
    xp = rows.__array_namespace__()
    count = xp.reshape(xp.asarray(count).astype(xp.uint32), (1,))
    drawn = mix(mix(key + np.uint32(0x27D4EB2F)) + place) % count
    return table[drawn.astype(xp.int32)]


def rows_by_device(batch_size: int, devices: int = 1, parts: int = 1) -> np.ndarray:
    """Returns the batch rows of each device in order, int32 (devices, parts, rows).

    The batch is cut into consecutive parts for gradient accumulation, and the devices share each
    part. A part holds the same rows for any number of devices.
    """
    rows = np.arange(batch_size, dtype=np.int32)
    return rows.reshape(parts, devices, -1).swapaxes(0, 1)


def _place(seed, bucket, visit, rows, batch_size):
    """Returns each row's count of earlier examples of the bucket, and its key, both uint32."""
    xp = rows.__array_namespace__()
    # One-element arrays, not scalars: NumPy warns when a scalar wraps around.
    seed, bucket, visit = (
        xp.reshape(xp.asarray(x).astype(xp.uint32), (1,)) for x in (seed, bucket, visit)
    )
    place = visit * np.uint32(batch_size) + rows.astype(xp.uint32)
    return place, mix(seed + np.uint32(0x9E3779B9) * (bucket + np.uint32(1)))


def mix(x: Array) -> Array:
    """A 32-bit integer hash with full avalanche (the finaliser of MurmurHash3, A. Appleby)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _shuffled(index: Array, count: Array, key: Array) -> Array:
    """Applies a keyed pseudorandom permutation of range(count) to `index`, in constant time.

    Swap-or-not (Hoang, Morris and Rogaway 2012, "An enciphering scheme based on a card shuffle"):
    each round pairs an index with its mirror image around a keyed pivot and swaps the two or not.
    """
    xp = index.__array_namespace__()
    for round_ in range(_ROUNDS):
        round_key = mix(key + np.uint32(0x9E3779B9 * (round_ + 1) % 2**32))
        partner = (round_key % count + count - index) % count
        swap = mix(round_key ^ xp.maximum(index, partner)) & np.uint32(1)
        index = xp.where(swap == 1, partner, index)
    return index


def pad_tables(tables: Sequence[Sequence[np.ndarray]]) -> tuple[list[np.ndarray], np.ndarray]:
    """Pads and stacks the members' tables.

    Returns:
      An int32 array (members, longest table) per bucket, and counts int32 (members, buckets).
    """
    counts = np.array([[len(part) for part in member] for member in tables], dtype=np.int32)
    stacked = []
    for bucket in range(counts.shape[1]):
        rows = np.zeros((len(tables), max(1, counts[:, bucket].max())), dtype=np.int32)
        for row, member in zip(rows, tables, strict=True):
            row[: len(member[bucket])] = member[bucket]
        stacked.append(rows)
    return stacked, counts
