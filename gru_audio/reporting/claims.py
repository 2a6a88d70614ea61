"""What is said of an architecture, held against what is kept of experiments.

A claim is tested by comparisons. Each expects a difference of a sign: one that is found to have
that sign speaks for the claim, one that is found to have the other against it, any else shows
nothing. Found means p < 0.05, adjusted for the number of comparisons of the claim (Holm 1979).
Losses of two that both learnt nothing show nothing either, however sure their difference is.
"""

import enum
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from etils import epath

from gru_audio.config import UserError
from gru_audio.reporting.kept import Kept, KeptRun
from gru_audio.reporting.published import Kind, kind
from gru_audio.reporting.statistics import LEVEL, Estimate, components_of_values, holm


class Finding(enum.StrEnum):
    """What the comparisons of a claim say together."""

    HOLDS = "holds"
    HOLDS_IN_PART = "holds in part"
    MIXED = "mixed"
    DOES_NOT_HOLD = "does not hold"
    NOT_SHOWN = "not shown"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Evidence:
    """One comparison that a claim is tested by.

    Attributes:
        setting: where: "100 clips".
        first, second: what is compared, and its mean: ("GRU", 0.93).
        difference: of the first from the second, or their ratio, with its 95 % interval.
        expected: 1 if the claim says that it is above `neutral`, -1 if below.
        neutral: where neither is ahead: 0 of a difference, 1 of a ratio.
        p: of no difference; None where `difference` has no such interval: quartiles of rounds, or
            the range of too few replicates, which shows nothing.
        floor: of losses, what a model reaches that learns nothing: two that are there show nothing.
    """

    setting: str
    first: tuple[str, float]
    second: tuple[str, float]
    difference: Estimate
    expected: int
    neutral: float = 0.0
    p: float | None = None
    floor: float | None = None

    @property
    def speaks(self) -> int:
        """1 for the claim, -1 against it, 0 if it shows nothing."""
        low, value, high = self.difference.low, self.difference.value, self.difference.high
        shown = not low <= self.neutral <= high if self.p is None else self.p < 1 - LEVEL
        if not shown or not self.difference.is_interval or self._learnt_nothing:
            return 0
        return self.expected if value > self.neutral else -self.expected

    @property
    def _learnt_nothing(self) -> bool:
        if self.floor is None:
            return False
        return {kind(loss, self.floor) for _, loss in (self.first, self.second)} == {
            Kind.AT_THE_FLOOR
        }


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Attributes:
        statement: what is said, in plain words.
        how: it was tested.
        tests: from the folder of kept results to the comparisons; those not run are missing.
    """

    statement: str
    how: str
    tests: Callable[[epath.Path], Sequence[Evidence]]

    def evidence(self, results: epath.Path) -> list[Evidence]:
        """The comparisons, their p-values adjusted for their number."""
        tests = self.tests(results)
        adjusted = iter(holm([test.p for test in tests if test.p is not None]))
        return [test if test.p is None else replace(test, p=next(adjusted)) for test in tests]


def judge(tests: Iterable[Evidence]) -> Finding:
    """Holds if all speak for it, in part if some do and none against it, and so on."""
    votes = {test.speaks for test in tests}
    if not votes:
        return Finding.NOT_RUN
    if {1, -1} <= votes:
        return Finding.MIXED
    if 1 in votes:
        return Finding.HOLDS_IN_PART if 0 in votes else Finding.HOLDS
    return Finding.DOES_NOT_HOLD if -1 in votes else Finding.NOT_SHOWN


def compared(
    kept: Kept | None,
    first: str,
    second: str,
    *,
    setting: str,
    expected: int,
    floor: float | None = None,
) -> list[Evidence]:
    """Two arms by the test metric of their sweep; [] if they were not run.

    Args:
        kept: of a sweep.
        first, second: its arms.
        setting, expected, floor: of the `Evidence`.
    """
    if not kept:
        return []
    return [
        Evidence(
            setting,
            (first, kept.score(first)),
            (second, kept.score(second)),
            pair.difference if pair.first == first else pair.difference.negated(),
            expected,
            p=pair.p_alone,
            floor=floor,
        )
        for pair in kept.conclude()
        if {pair.first, pair.second} == {first, second}
    ]


def paired(
    kept: Kept | None,
    first: str,
    second: str,
    score: Callable[[KeptRun], float],
    *,
    setting: str,
    expected: int,
) -> list[Evidence]:
    """A score of two arms, paired by replicate, by Student's t; [] if they were not run.

    Args:
        kept: of a sweep.
        first, second: its arms.
        score: of a run.
        setting, expected: of the `Evidence`.
    """
    pairs = _pairs(kept, first, second) if kept else []
    if not pairs:
        return []
    ours, theirs = ([score(run) for run in runs] for runs in zip(*pairs, strict=True))
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    means = sum(ours) / len(ours), sum(theirs) / len(theirs)
    components = components_of_values(differences)
    return [
        Evidence(
            setting,
            (first, means[0]),
            (second, means[1]),
            components.estimate(),
            expected,
            p=components.p(),
        )
    ]


def updates_to_equal_score(
    kept: Kept | None, first: str, second: str, *, setting: str, expected: int
) -> list[Evidence]:
    """The ratio of updates that two arms need to a score both reach, paired by replicate.

    That is the worse of the two arms' best validation losses, in each replicate; the ratio is a
    geometric mean.
    """
    pairs = _pairs(kept, first, second) if kept else []
    curves = {run.run: _losses(kept, run) for pair in pairs for run in pair} if kept else {}
    needed = []
    for one, other in pairs:
        target = max(min(curves[one.run].values()), min(curves[other.run].values()))
        needed.append([_first_at(curves[run.run], target) for run in (one, other)])
    if not needed:
        return []
    ratios = [math.log(ours / theirs) for ours, theirs in needed]
    components = components_of_values(ratios)
    ratio = components.estimate()
    means = [sum(steps) / len(needed) for steps in zip(*needed, strict=True)]
    return [
        Evidence(
            setting,
            (first, means[0]),
            (second, means[1]),
            Estimate(
                math.exp(ratio.value), math.exp(ratio.low), math.exp(ratio.high), ratio.is_interval
            ),
            expected,
            neutral=1.0,
            p=components.p(),
        )
    ]


def read_benchmark(path: epath.Path) -> list[Mapping[str, Any]]:
    """The rows of a benchmark's JSON; [] if there is none.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text())["rows"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no benchmark's JSON, or damaged: {error}") from error


def _pairs(kept: Kept, first: str, second: str) -> list[tuple[KeptRun, KeptRun]]:
    """The compared runs of two arms, replicate by replicate."""
    by_arm: dict[str, dict[str, KeptRun]] = {first: {}, second: {}}
    for run in kept.runs:
        if run.selected and run.arm in by_arm:
            by_arm[run.arm][json.dumps(run.replicate, sort_keys=True)] = run
    ours, theirs = by_arm[first], by_arm[second]
    return [(run, theirs[key]) for key, run in ours.items() if key in theirs]


def _losses(kept: Kept, run: KeptRun) -> dict[int, float]:
    """Step -> validation loss."""
    points = [point for point in kept.curves if point.run == run.run]
    return {p.step: p.metrics["validation/loss"] for p in points if "validation/loss" in p.metrics}


def _first_at(curve: Mapping[int, float], target: float) -> int:
    return min(step for step, loss in curve.items() if loss <= target)
