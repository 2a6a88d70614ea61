"""The training data of a group: one data set and one plan, with separate examples per member."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gru_audio.data import stream
from gru_audio.data.plan import Plan, make_plan, rows_to_examples
from gru_audio.data.resident import Mixing
from gru_audio.data.source import Source
from gru_audio.data.split import BACKGROUND, select, trainable


@dataclass(frozen=True)
class GroupData:
    """The data of the members of a group.

    Attributes:
      source: the data set.
      labels: the task's labels of all examples, a tree of arrays (N, ...).
      plan: the batch plan that all members share.
      ids: each member's example ids by role; see `select`.
      seeds: the members' seeds, uint32 (M,).
    """

    source: Source
    labels: Any
    plan: Plan
    ids: list[dict[str, np.ndarray]]
    seeds: np.ndarray

    @functools.cached_property
    def tables(self) -> list[list[np.ndarray]]:
        """Each member's training example ids by bucket; see `Plan.tables`."""
        lengths = self.source.columns["length"]
        return [self.plan.tables(ids["train"], lengths[ids["train"]]) for ids in self.ids]

    def schedule(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the members' buckets and visits of steps `start` to `stop`, int32 (M, steps)."""
        sizes = [tuple(map(len, tables)) for tables in self.tables]
        distinct = {size: self.plan.schedule(size, start, stop) for size in set(sizes)}
        buckets, visits = zip(*(distinct[size] for size in sizes), strict=True)
        return np.stack(buckets), np.stack(visits)

    def backgrounds(self) -> list[np.ndarray]:
        """Returns each member's background clip ids, int32; empty without background."""
        return [ids.get(BACKGROUND, np.zeros(0, np.int32)) for ids in self.ids]

    def parts(self, role: str) -> list[list[np.ndarray]]:
        """Returns each member's example ids of a role, by bucket."""
        lengths = self.source.columns["length"]
        return [self.plan.parts(ids[role], lengths[ids[role]]) for ids in self.ids]

    def take(self, members: np.ndarray) -> "GroupData":
        """Returns the data of the given members."""
        ids = [self.ids[m] for m in members]
        return replace(self, ids=ids, seeds=self.seeds[members])

    def clips(self, member: int, step: int) -> list[str]:
        """Returns the clip names of a member's batch at a 0-based step, in row order."""
        bucket, visit = (a[member, 0] for a in self.schedule(step, step + 1))
        table, size = self.tables[member][bucket], self.plan.batch_size
        rows = np.arange(size, dtype=np.int32)
        ids = rows_to_examples(table, len(table), self.seeds[member], bucket, visit, rows, size)
        return [str(clip) for clip in self.source.columns["clip"][ids]]

    def reader(
        self, members: Sequence[int] | np.ndarray, rows: np.ndarray, mixing: Mixing
    ) -> stream.Reader:
        """Returns a reader of the rows `rows` of some members' batches."""
        data = self.take(np.asarray(members))
        tables, backgrounds = data.tables, data.backgrounds()
        return stream.Reader(
            self.source, self.labels, self.plan, tables, backgrounds, data.seeds, rows, mixing
        )


def gather_data(source: Source, configs: list[ConfigDict], labels: Any) -> GroupData:
    """Selects the members' examples and makes their common plan.

    Args:
      source: the data set.
      configs: the members' configs.
      labels: the task's labels of all examples, a tree of arrays (N, ...).
    """
    data, train = configs[0].data, configs[0].train
    crop = data.crop_seconds
    plan = make_plan(
        source.columns["length"],
        trainable(source, data),
        batch_size=train.batch_size,
        buckets=data.buckets,
        seed=data.seed,
        longest=None if crop is None else int(crop * source.signal.rate),
        block=source.signal.block,
    )
    return GroupData(
        source=source,
        labels=labels,
        plan=plan,
        ids=[select(source, config.data, config.seed) for config in configs],
        seeds=np.array([config.seed for config in configs], np.uint32),
    )
