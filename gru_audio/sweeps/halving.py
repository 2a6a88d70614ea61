"""Successive halving: at given steps the worse trials of each variant are dropped.

Sources: Jamieson and Talwalkar 2016 (arXiv 1502.07943), Li et al. 2018 (arXiv 1603.06560).
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
      keep: fraction of the trials that is kept at each rung. The number is rounded down; at least
        one trial is kept.

    Raises:
      UserError: the rungs are not ascending steps, or `keep` is not between 0 and 1.
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
        """Checks that runs of `max_steps` steps can be ranked at each rung.

        Raises:
          UserError: a rung is not below `max_steps` or is not a multiple of `eval_every`.
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
                    f"{eval_every}: the validation split is evaluated only at these steps."
                )

    def survivors(self, trials: int) -> int:
        """Returns how many of `trials` trials are kept after a rung."""
        return max(1, math.floor(trials * self.keep + 1e-9))  # against rounding: 27 * (1/3) is 9


def rank_trials(values: Iterable[float | None], higher_is_better: bool) -> tuple[int, float]:
    """Returns a sort key of a trial from the values of its replicates; the best trial is largest.

    A failed replicate has the value None or NaN. A trial with a failed replicate ranks below every
    trial with more finite values, since a mean over the others would hide the failure.
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    sign = 1 if higher_is_better else -1
    return len(finite), sign * math.fsum(finite) / len(finite) if finite else -math.inf


@dataclass(frozen=True)
class SuccessiveHalving:
    """Chooses the members of a group to drop at each rung.

    Attributes:
      halving: the rungs and the fraction to keep.
      variants, trials: identify each member's variant and trial.
      higher_is_better: whether higher values of the selection metric are better.
    """

    halving: Halving
    variants: Sequence[Hashable]
    trials: Sequence[Hashable]
    higher_is_better: bool

    def pruned(self, step: int, best: Sequence[float | None], dropped: Sequence[int]) -> list[int]:
        """Returns the members to drop at a step; [] if the step is not a rung.

        Runs are ranked by their best value so far, as in the final choice among trials.

        Args:
          step: number of updates done.
          best: each member's best value of the selection metric; None if the member failed.
          dropped: for each member, the rung at which it was dropped, else 0.
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
                key=lambda replicates: rank_trials(
                    (best[m] for m in replicates), self.higher_is_better
                ),
                reverse=True,  # the sort is stable: ties stay in the order of the sweep
            )
            for replicates in ranked[self.halving.survivors(len(ranked)) :]:
                pruned += replicates
        return sorted(pruned)
