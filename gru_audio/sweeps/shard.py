"""Parts of a sweep for several jobs: which groups each trains, a pure function of sweep and count.

A group belongs to one shard. Where there are fewer groups than shards, groups are cut. What a run
gives does not depend on its group, so it does not depend on the number of shards either.
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
        """From "2/3".

        Raises:
          UserError: it is none.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f'--shard "{text}" must be I/N, with I from 1 to N, as in 2/3.')
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def lock(self) -> str:
        """The file of a workdir that whoever runs the shard holds."""
        return "lock" if self.count == 1 else f"lock-{self.index}of{self.count}"

    def excludes(self, lock: str) -> bool:
        """Whether another process may not hold this lock at the same time: of another count."""
        count = lock.partition("of")[2] or "1"
        return int(count) != self.count


WHOLE = Shard()


def divide(
    groups: Sequence[Group], count: int, unit: Callable[[Run], Hashable]
) -> list[list[Group]]:
    """The groups of each of `count` shards, which have nearly equally many steps to do.

    Args:
      groups: of the whole sweep.
      count: of shards. Some stay empty if there are not so many units.
      unit: runs of a group that have the same stay together.
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
    """`count` parts of a group; their names tell which, as they have checkpoints of their own."""
    if count == 1:
        return [group]
    units = list(dict.fromkeys(unit(run) for run in group.runs))
    pieces = []
    for i in range(count):
        own = set(units[i * len(units) // count : (i + 1) * len(units) // count])
        runs = tuple(run for run in group.runs if unit(run) in own)
        pieces.append(Group(f"{group.name}-{i + 1}of{count}", runs))
    return pieces
