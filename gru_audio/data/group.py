"""The training data of a group: one data set and one plan, with separate examples per member."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gru_audio.data import stream
from gru_audio.data.plan import Plan, make_plan, quotas, rows_to_examples
from gru_audio.data.resident import Mixing
from gru_audio.data.source import Source
from gru_audio.data.split import BACKGROUND, select, trainable


@dataclass(frozen=True)
class GroupData:
    """The data of the members of a group.

    Attributes:
      source: the data set.
      labels: the task's labels of every example, a tree of arrays (N, ...).
      plan: what the batches of all members have in common.
      ids: for every member, examples by role: see `select`.
      seeds: members' seeds, uint32 (M,).
      classes: of every example (N,), from which batches draw equally often; None: no matter which.
    """

    source: Source
    labels: Any
    plan: Plan
    ids: list[dict[str, np.ndarray]]
    seeds: np.ndarray
    classes: np.ndarray | None = None

    @functools.cached_property
    def tables(self) -> list[list[np.ndarray]]:
        """What each member draws its batches from, by bucket."""
        lengths, classes = self.source.columns["length"], self.classes
        tables = [self.plan.tables(ids["train"], lengths[ids["train"]]) for ids in self.ids]
        if classes is None:
            return tables
        return [[t[np.argsort(classes[t], kind="stable")] for t in member] for member in tables]

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """The number of examples in each member's tables, int32 (M, buckets).

        With `classes`, the members' quotas, int32 (M, buckets, 2, classes): see `plan.quotas`.
        """
        if self.classes is None:
            return np.array([[len(table) for table in tables] for tables in self.tables], np.int32)
        found = [quotas([self.classes[table] for table in tables]) for tables in self.tables]
        most = max(quota.shape[-1] for quota in found)
        return np.stack([np.pad(q, ((0, 0), (0, 0), (0, most - q.shape[-1]))) for q in found])

    def schedule(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Each member's buckets and visits of the steps `start` to `stop`, int32 (M, steps)."""
        draws = self.counts if self.classes is None else self.counts[:, :, 0].sum(-1)
        sizes = [tuple(of_member) for of_member in draws.tolist()]
        distinct = {size: self.plan.schedule(size, start, stop) for size in set(sizes)}
        buckets, visits = zip(*(distinct[size] for size in sizes), strict=True)
        return np.stack(buckets), np.stack(visits)

    def backgrounds(self) -> list[np.ndarray]:
        """Returns each member's background clip ids, int32; empty without background."""
        return [ids.get(BACKGROUND, np.zeros(0, np.int32)) for ids in self.ids]

    def parts(self, role: str) -> list[list[np.ndarray]]:
        """Returns each member's example ids of a role, by bucket of evaluation."""
        lengths = self.source.columns["length"]
        return [self.plan.parts(ids[role], lengths[ids[role]]) for ids in self.ids]

    def take(self, members: np.ndarray) -> "GroupData":
        """Returns the data of the given members."""
        ids = [self.ids[m] for m in members]
        return replace(self, ids=ids, seeds=self.seeds[members])

    def clips(self, member: int, step: int) -> list[str]:
        """Returns the clip names of a member's batch at a 0-based step, in row order."""
        bucket, visit = (a[member, 0] for a in self.schedule(step, step + 1))
        table, count = self.tables[member][bucket], self.counts[member][bucket]
        rows, size = np.arange(self.plan.batch_size, dtype=np.int32), self.plan.batch_size
        ids = rows_to_examples(table, count, self.seeds[member], bucket, visit, rows, size)
        return [str(clip) for clip in self.source.columns["clip"][ids]]

    def reader(
        self, members: Sequence[int] | np.ndarray, rows: np.ndarray, mixing: Mixing
    ) -> stream.Reader:
        """Reads the batches of some members, of each the rows at these places of the batch."""
        own = self.take(np.asarray(members))
        drawn_from = own.tables, own.counts, own.backgrounds(), own.seeds
        return stream.Reader(self.source, self.labels, self.plan, *drawn_from, rows, mixing)


def gather_data(
    source: Source, configs: list[ConfigDict], labels: Any, whole: bool = False
) -> GroupData:
    """Selects the members' examples and makes their common plan.

    Args:
      source: the data set.
      configs: of the members.
      labels: what their task makes of the values of its field, a tree of arrays (N, ...).
      whole: whether their task is evaluated on whole examples; see `Task.whole`.

    Raises:
      UserError: the config asks for examples or classes that the data set lacks.
    """
    data, train = configs[0].data, configs[0].train
    classes = None
    if data.sampling == "balanced":
        classes, _ = source.classes(data.target, "config.data.sampling=balanced")
    crop = data.crop_seconds
    plan = make_plan(
        source.columns["length"],
        trainable(source, data),
        batch_size=train.batch_size,
        buckets=data.buckets,
        seed=data.seed,
        longest=None if crop is None else int(crop * source.signal.rate),
        whole=whole,
        block=source.signal.block,
    )
    return GroupData(
        source=source,
        labels=labels,
        plan=plan,
        ids=[select(source, config.data, config.seed) for config in configs],
        seeds=np.array([config.seed for config in configs], np.uint32),
        classes=classes,
    )
