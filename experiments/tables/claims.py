"""Claims about an architecture, tested on kept results of experiments.

A claim is tested by comparisons. Each expects a difference of one sign. A difference that is shown
speaks for the claim if it has that sign, and against it if it has the other. Shown means p < 0.05,
adjusted for the number of comparisons of the claim (Holm 1979); of benchmarks, that both quartiles
lie on one side; of what is counted, that the numbers differ. Losses of two variants that both
learnt nothing show nothing.
"""

import enum
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from etils import epath

from experiments.tables.kept import Kept
from experiments.tables.published import Kind, kind
from gru_audio.reports.results_csv import RunRecord
from gru_audio.reports.statistics import LEVEL, Estimate, components_of_values, holm
from gru_audio.settings import UserError


class Finding(enum.StrEnum):
    """What the comparisons of a claim say together."""

    HOLDS = "holds"
    HOLDS_IN_PART = "holds in part"
    MIXED = "mixed"
    OPPOSITE_IN_PART = "the opposite holds in part"
    OPPOSITE = "the opposite holds"
    NOT_SHOWN = "not shown"
    NOT_RUN = "not run"


class Basis(enum.Enum):
    """What shows that a difference is there, and what its interval is."""

    TEST = "p-value, and the 95 % interval"
    ROUNDS = "quartiles over the rounds of a benchmark"
    COUNT = "none: what is counted is exact"


@dataclass(frozen=True)
class Evidence:
    """One comparison that a claim is tested by.

    Attributes:
        setting: where: "100 clips".
        first, second: what is compared, and its mean: ("GRU", 0.93).
        difference: of the first from the second, or their ratio, with the interval of its basis.
        expected: 1 if the claim says that it is above `neutral`, -1 if below.
        neutral: where neither is ahead: 0 of a difference, 1 of a ratio.
        basis: what shows the difference.
        p: of no difference, where the basis is a test; None with too few replicates for one.
        floor: of losses, what a model reaches that learns nothing: two that are there show nothing.
    """

    setting: str
    first: tuple[str, float]
    second: tuple[str, float]
    difference: Estimate
    expected: int
    neutral: float = 0.0
    basis: Basis = Basis.TEST
    p: float | None = None
    floor: float | None = None

    @property
    def speaks(self) -> int:
        """1 for the claim, -1 against it, 0 if it shows nothing."""
        if not self._shown or self._learnt_nothing:
            return 0
        return self.expected if self.difference.value > self.neutral else -self.expected

    @property
    def _shown(self) -> bool:
        if self.basis is Basis.TEST:
            return self.p is not None and self.p < 1 - LEVEL
        return not self.difference.low <= self.neutral <= self.difference.high

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
    """Says what comparisons show together, by the same rule for a claim and for its opposite.

    A side holds if all comparisons speak for it, and in part if some do and none for the other.
    """
    votes = {test.speaks for test in tests}
    if not votes:
        return Finding.NOT_RUN
    if {1, -1} <= votes:
        return Finding.MIXED
    if 1 in votes:
        return Finding.HOLDS_IN_PART if 0 in votes else Finding.HOLDS
    if -1 in votes:
        return Finding.OPPOSITE_IN_PART if 0 in votes else Finding.OPPOSITE
    return Finding.NOT_SHOWN


def compared(
    kept: Kept | None,
    first: str,
    second: str,
    *,
    setting: str,
    expected: int,
    floor: float | None = None,
) -> list[Evidence]:
    """Two variants by the test metric of their sweep; [] if they were not run.

    Args:
        kept: of a sweep.
        first, second: its variants.
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


def counted(
    kept: Kept | None,
    first: str,
    second: str,
    count: Callable[[RunRecord], float],
    *,
    setting: str,
    expected: int,
) -> list[Evidence]:
    """What is counted of two variants, and is the same in all their runs; [] if they were not run.

    Args:
        kept: of a sweep.
        first, second: its variants.
        count: of a run.
        setting, expected: of the `Evidence`.

    Raises:
        UserError: the runs of a variant differ in it.
    """
    pairs = _pairs(kept, first, second) if kept else []
    if not pairs:
        return []
    counts = [{count(run) for run in runs} for runs in zip(*pairs, strict=True)]
    if any(len(values) > 1 for values in counts):
        raise UserError(f"{setting}: runs of one variant differ in it, so it cannot be counted.")
    ours, theirs = (values.pop() for values in counts)
    exact = Estimate(ours - theirs, ours - theirs, ours - theirs)
    return [Evidence(setting, (first, ours), (second, theirs), exact, expected, basis=Basis.COUNT)]


def updates_to_equal_score(
    kept: Kept | None, first: str, second: str, *, setting: str, expected: int
) -> list[Evidence]:
    """The ratio of updates that two variants need to a score both reach, paired by replicate.

    That is the worse of the two variants' best validation losses, in each replicate. The ratio is a
    geometric mean, compared by Student's t.
    """
    needed = []
    for one, other in _curves(kept, first, second):
        target = max(min(curve.validation) for curve in (one, other))
        needed.append([curve.updates_to(curve.validation, target) for curve in (one, other)])
    if not needed:
        return []
    ours, theirs = map(fmean, zip(*needed, strict=True))
    ratios = [math.log(one / other) for one, other in needed]
    components = components_of_values(ratios)
    ratio = components.estimate()
    value, low, high = map(math.exp, (ratio.value, ratio.low, ratio.high))
    return [
        Evidence(
            setting,
            (first, ours),
            (second, theirs),
            Estimate(value, low, high, ratio.is_interval),
            expected,
            neutral=1.0,
            p=components.p(),
        )
    ]


def validation_at_equal_training_loss(
    kept: Kept | None, first: str, second: str, *, setting: str, expected: int
) -> list[Evidence]:
    """Validation losses of two variants when their training losses are equal, paired by replicate.

    In each replicate that is the lowest training loss that both variants reach. A variant that
    learns faster is so not blamed for having learnt more. Between updates at which both losses are
    known they are interpolated; differences are compared by Student's t.
    """
    at_equal = []
    for one, other in _curves(kept, first, second):
        target = max(min(curve.training) for curve in (one, other))
        at_equal.append(
            [
                curve.at(curve.updates_to(curve.training, target), curve.validation)
                for curve in (one, other)
            ]
        )
    if not at_equal:
        return []
    ours, theirs = map(fmean, zip(*at_equal, strict=True))
    components = components_of_values([one - other for one, other in at_equal])
    return [
        Evidence(
            setting,
            (first, ours),
            (second, theirs),
            components.estimate(),
            expected,
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


def _pairs(kept: Kept, first: str, second: str) -> list[tuple[RunRecord, RunRecord]]:
    """The compared runs of two variants, replicate by replicate."""
    by_arm: dict[str, dict[str, RunRecord]] = {first: {}, second: {}}
    for run in kept.runs:
        if run.selected and run.variant in by_arm:
            by_arm[run.variant][json.dumps(run.replicate, sort_keys=True)] = run
    ours, theirs = by_arm[first], by_arm[second]
    return [(run, theirs[key]) for key, run in ours.items() if key in theirs]


@dataclass(frozen=True)
class _Curve:
    """Losses of a run at the updates at which both are known."""

    updates: Sequence[int]
    training: Sequence[float]
    validation: Sequence[float]

    def updates_to(self, losses: Sequence[float], target: float) -> float:
        """After how many updates a loss is first at the target, which it reaches."""
        i = next(i for i, loss in enumerate(losses) if loss <= target)
        if i == 0 or losses[i - 1] == losses[i]:
            return self.updates[i]
        share = (losses[i - 1] - target) / (losses[i - 1] - losses[i])
        return self.updates[i - 1] + share * (self.updates[i] - self.updates[i - 1])

    def at(self, update: float, losses: Sequence[float]) -> float:
        """A loss after so many updates."""
        return float(np.interp(update, self.updates, losses))


def _curves(kept: Kept | None, first: str, second: str) -> list[tuple[_Curve, _Curve]]:
    """Those of the compared runs of two variants, replicate by replicate; [] if they were not run.

    A replicate in which a run has no such curves is left out.
    """
    if kept is None:
        return []
    pairs = [(_curve(kept, one), _curve(kept, other)) for one, other in _pairs(kept, first, second)]
    return [(one, other) for one, other in pairs if one.updates and other.updates]


def _curve(kept: Kept, run: RunRecord) -> _Curve:
    names = "train/loss", "validation/loss"
    points = [
        point
        for point in kept.curves
        if point.run == run.run and all(name in point.metrics for name in names)
    ]
    training, validation = ([point.metrics[name] for point in points] for name in names)
    return _Curve([point.step for point in points], training, validation)
