"""Divides a sweep into shards for several jobs, as a pure function of the sweep and their number.

A group belongs to one shard. If there are fewer groups than shards, groups are split. A run's
results do not depend on its group, so they do not depend on the number of shards.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from gru_audio.settings import UserError
from gru_audio.sweeps.sweep import Group, Run


@dataclass(frozen=True)
class Shard:
    """The `index`-th, from 1, of `count` parts of a sweep."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parses a shard such as "2/3".

        Raises:
          UserError: the text is not I/N with 1 <= I <= N.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f'--shard "{text}" must be I/N, with I from 1 to N, as in 2/3.')
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def lock(self) -> str:
        """Name of the file in the workdir that the shard's process locks."""
        return "lock" if self.count == 1 else f"lock-{self.index}of{self.count}"

    def excludes(self, lock: str) -> bool:
        """Whether another lock belongs to a division into another number of shards."""
        count = lock.partition("of")[2] or "1"
        return int(count) != self.count


WHOLE = Shard()


def divide(
    groups: Sequence[Group], count: int, unit: Callable[[Run], Hashable]
) -> list[list[Group]]:
    """Divides groups into `count` shards with nearly equal numbers of steps.

    Args:
      groups: the groups of the whole sweep.
      count: number of shards. Some stay empty if there are fewer units.
      unit: maps a run to its unit. The runs of a unit stay in one group.

    Returns:
      The groups of each shard.
    """
    parts, units = [1] * len(groups), [len({unit(run) for run in group.runs}) for group in groups]
    while sum(parts) < count:
        divisible = [g for g in range(len(groups)) if parts[g] < units[g]]
        if not divisible:
            break
        parts[max(divisible, key=lambda g: _steps([groups[g]]) / parts[g])] += 1
    pieces = [piece for g, n in zip(groups, parts, strict=True) for piece in _cut(g, n, unit)]

    order = {piece.name: i for i, piece in enumerate(pieces)}
    shards: list[list[Group]] = [[] for _ in range(count)]
    for piece in sorted(pieces, key=lambda piece: -_steps([piece])):  # Graham 1969: longest first
        min(shards, key=_steps).append(piece)
    return [sorted(shard, key=lambda piece: order[piece.name]) for shard in shards]


def _steps(groups: Sequence[Group]) -> int:
    return sum(run.config.train.steps for group in groups for run in group.runs)


def _cut(group: Group, count: int, unit: Callable[[Run], Hashable]) -> list[Group]:
    """Splits a group into `count` parts with names of their own, since each has checkpoints."""
    if count == 1:
        return [group]
    units = list(dict.fromkeys(unit(run) for run in group.runs))
    pieces = []
    for i in range(count):
        part = set(units[i * len(units) // count : (i + 1) * len(units) // count])
        runs = tuple(run for run in group.runs if unit(run) in part)
        pieces.append(Group(f"{group.name}-{i + 1}of{count}", runs))
    return pieces
