"""Successive halving: at some steps the worse draws of an arm are dropped, the better go on.

After Jamieson and Talwalkar 2016 (arXiv 1502.07943) and Li et al. 2018 (arXiv 1603.06560).
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from gru_audio.settings import UserError


@dataclass(frozen=True)
class Halving:
    """When draws are dropped, and how many.

    Attributes:
      rungs: steps, ascending, at which the draws of each arm are ranked.
      keep: the share of them that goes on, rounded down, but one at least.
    """

    rungs: tuple[int, ...]
    keep: float

    def __post_init__(self) -> None:
        rungs = self.rungs
        if not rungs or min(rungs) < 1 or list(rungs) != sorted(set(rungs)):
            raise UserError(f"Halving: rungs={rungs} must be steps in ascending order.")
        if not 0 < self.keep < 1:
            raise UserError(f"Halving: keep={self.keep} must be above 0 and below 1.")

    def check(self, horizon: int, eval_every: int) -> None:
        """Whether a run of `horizon` steps, looked at every so many, can be ranked at each rung.

        Raises:
          UserError: it cannot.
        """
        if self.rungs[-1] >= horizon:
            raise UserError(
                f"Halving: the last rung, {self.rungs[-1]}, must be below "
                f"config.train.steps={horizon}."
            )
        for rung in self.rungs:
            if rung % eval_every:
                raise UserError(
                    f"Halving: rung {rung} must be a multiple of config.train.eval_every="
                    f"{eval_every}: between these steps nobody looks at the validation split."
                )

    def survivors(self, draws: int) -> int:
        """How many of so many draws go on after a rung."""
        return max(1, math.floor(draws * self.keep + 1e-9))  # a third of 27 is 9


def merit(values: Iterable[float | None], higher_is_better: bool) -> tuple[int, float]:
    """Ranks a draw by the values its replicates reached; `None` or NaN where one has failed.

    A draw that has lost a replicate ranks below all that have more: the mean of the others would
    leave out what went wrong.
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    sign = 1 if higher_is_better else -1
    return len(finite), sign * math.fsum(finite) / len(finite) if finite else -math.inf


@dataclass(frozen=True)
class Race:
    """The members of a group as they compete.

    Attributes:
      halving: the rule.
      arms, draws: of each member, to be told apart.
      higher_is_better: of the selection metric.
    """

    halving: Halving
    arms: Sequence[Hashable]
    draws: Sequence[Hashable]
    higher_is_better: bool

    def losers(self, step: int, best: Sequence[float | None], dropped: Sequence[int]) -> list[int]:
        """The members to drop at a step: none, but at a rung.

        A run stands for the best it has reached so far, as it does when draws are chosen among in
        the end: so no draw is dropped before one that would lose to it.

        Args:
          step: updates done.
          best: value of the selection metric of each member; None if it has failed.
          dropped: the rung at which a member has been dropped before, else 0.
        """
        if step not in self.halving.rungs:
            return []
        losing = []
        for arm in dict.fromkeys(self.arms):
            members: dict[Hashable, list[int]] = {}
            for m, draw in enumerate(self.draws):
                if self.arms[m] == arm and not dropped[m]:
                    members.setdefault(draw, []).append(m)
            ranked = sorted(
                members.values(),
                key=lambda of_draw: merit((best[m] for m in of_draw), self.higher_is_better),
                reverse=True,  # which keeps equals in the order of the sweep
            )
            for of_draw in ranked[self.halving.survivors(len(ranked)) :]:
                losing += of_draw
        return sorted(losing)
