"""The state of the training loop besides weights: what checkpoints contain of each member."""

from dataclasses import dataclass, field
from typing import Any

import jax

from gru_audio.training.cost import Cost
from gru_audio.training.logging import Elapsed
from gru_audio.training.peaks import Peaks
from gru_audio.training.utilisation import Utilisation


@dataclass
class LoopState:
    """The state of the loop, which checkpoints contain. Lists have one item per member.

    Attributes:
      step: updates done by the members that are alive.
      alive: false once a member has reached its last step, run out of patience, been pruned or
        failed.
      last_step: updates done by each member.
      best: best value of the selection metric; None before the first evaluation.
      best_step: step of that value.
      evaluations: number of evaluations since that step.
      pruned: step at which successive halving ended the member, else 0.
      skipped: updates skipped because they were not finite.
      failure: why the member failed: "error", "step", "clips" of the batch; None: no failure.
      means: unfinished means of the training metrics.
      seconds: wall time of training and evaluation, without compilation.
      cpu_seconds: processor time of the same; None if unknown (`_has_cpu_clock`).
      memory_bytes: largest memory of one call on a device, over all processes so far.
      recurrences: what was measured and chosen; see `Tuning.records`.
      steady_seconds: wall time of training, without evaluation, compilation and the first call of
        each process.
      flops, bytes: operations in that time, on all devices; see `Cost`.
    """

    step: int
    alive: list[bool]
    last_step: list[int]
    best: list[float | None]
    best_step: list[int]
    evaluations: list[int]
    pruned: list[int]
    skipped: list[int]
    failure: list[dict[str, Any] | None]
    means: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float | None = None
    memory_bytes: int = 0
    recurrences: list[dict[str, Any]] = field(default_factory=list)
    steady_seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    @classmethod
    def initial(cls, alive: list[bool]) -> "LoopState":
        """Returns the state before the first step."""
        zeros = [0] * len(alive)
        return cls(
            step=0,
            alive=alive,
            last_step=[*zeros],
            best=[None] * len(alive),
            best_step=[*zeros],
            evaluations=[*zeros],
            pruned=[*zeros],
            skipped=[*zeros],
            failure=[None] * len(alive),
            cpu_seconds=0.0 if _has_cpu_clock() else None,
        )

    def scores(self) -> list[float | None]:
        """Returns the best value of each member; None if it has failed."""
        pairs = zip(self.best, self.failure, strict=True)
        return [None if failed else best for best, failed in pairs]

    def add_time(self, elapsed: Elapsed) -> None:
        """Adds time of training or evaluation."""
        self.seconds += elapsed.wall
        if self.cpu_seconds is not None:
            self.cpu_seconds += elapsed.cpu

    def add_steps(self, count: int, cost: Cost, seconds: float) -> None:
        """Adds steps, each with a cost on all devices, to the steady time."""
        self.steady_seconds += seconds
        self.flops += count * cost.flops
        self.bytes += count * cost.bytes

    def utilisation(self, peaks: Peaks | None) -> Utilisation:
        """Returns the mean rates of the steady time."""
        return Utilisation.of(Cost(self.flops, bytes=self.bytes), self.steady_seconds, peaks)


def _has_cpu_clock() -> bool:
    """Returns whether this process does all work on the CPU, so that its clock measures it."""
    return jax.default_backend() == "cpu" and jax.process_count() == 1
