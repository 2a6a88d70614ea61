"""Successive halving: at some steps the worse trials of a variant are dropped, the better go on.

After Jamieson and Talwalkar 2016 (arXiv 1502.07943) and Li et al. 2018 (arXiv 1603.06560).
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from gru_audio.settings import UserError


@dataclass(frozen=True)
class Halving:
    """When trials are dropped, and how many.

    Attributes:
      rungs: steps, ascending, at which the trials of each variant are ranked.
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

    def check(self, max_steps: int, eval_every: int) -> None:
        """Whether a run of `horizon` steps, looked at every so many, can be ranked at each rung.

        Raises:
          UserError: it cannot.
        """
        if self.rungs[-1] >= max_steps:
            raise UserError(
                f"Halving: the last rung, {self.rungs[-1]}, must be below "
                f"config.train.steps={max_steps}."
            )
        for rung in self.rungs:
            if rung % eval_every:
                raise UserError(
                    f"Halving: rung {rung} must be a multiple of config.train.eval_every="
                    f"{eval_every}: between these steps nobody looks at the validation split."
                )

    def survivors(self, trials: int) -> int:
        """How many of so many trials go on after a rung."""
        return max(1, math.floor(trials * self.keep + 1e-9))  # a third of 27 is 9


def rank_trials(values: Iterable[float | None], higher_is_better: bool) -> tuple[int, float]:
    """Ranks a trial by the values its replicates reached; `None` or NaN where one has failed.

    A draw that has lost a replicate ranks below all that have more: the mean of the others would
    leave out what went wrong.
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    sign = 1 if higher_is_better else -1
    return len(finite), sign * math.fsum(finite) / len(finite) if finite else -math.inf


@dataclass(frozen=True)
class SuccessiveHalving:
    """The members of a group as they compete.

    Attributes:
      halving: the rule.
      variants, trials: of each member, to be told apart.
      higher_is_better: of the selection metric.
    """

    halving: Halving
    variants: Sequence[Hashable]
    trials: Sequence[Hashable]
    higher_is_better: bool

    def pruned(self, step: int, best: Sequence[float | None], dropped: Sequence[int]) -> list[int]:
        """The members to drop at a step: none, but at a rung.

        A run stands for the best it has reached so far, as it does when trials are chosen among in
        the end: so no draw is dropped before one that would lose to it.

        Args:
          step: updates done.
          best: value of the selection metric of each member; None if it has failed.
          dropped: the rung at which a member has been dropped before, else 0.
        """
        if step not in self.halving.rungs:
            return []
        pruned = []
        for variant in dict.fromkeys(self.variants):
            members: dict[Hashable, list[int]] = {}
            for m, trial in enumerate(self.trials):
                if self.variants[m] == variant and not dropped[m]:
                    members.setdefault(trial, []).append(m)
            ranked = sorted(
                members.values(),
                key=lambda of_trial: rank_trials(
                    (best[m] for m in of_trial), self.higher_is_better
                ),
                reverse=True,  # which keeps equals in the order of the sweep
            )
            for of_trial in ranked[self.halving.survivors(len(ranked)) :]:
                pruned += of_trial
        return sorted(pruned)
