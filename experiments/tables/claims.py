"""Claims about an architecture, tested on kept results of experiments.

Each comparison of a claim expects a difference of one sign. A significant difference supports the
claim if it has that sign, and contradicts it otherwise. Significant means p < 0.05, adjusted for
the number of comparisons of the claim (Holm 1979); for benchmarks, that both quartiles lie on one
side; for counts, that the numbers differ. Two variants that both learnt nothing show nothing.
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
    """The joint result of a claim's comparisons."""

    HOLDS = "holds"
    HOLDS_IN_PART = "holds in part"
    MIXED = "mixed"
    OPPOSITE_IN_PART = "the opposite holds in part"
    OPPOSITE = "the opposite holds"
    NOT_SHOWN = "not shown"
    NOT_RUN = "not run"


class Basis(enum.Enum):
    """The criterion that shows a difference, and the meaning of its interval."""

    TEST = "p-value and 95 % interval"
    ROUNDS = "quartiles over the rounds of a benchmark"
    COUNT = "exact numbers, without an interval"


@dataclass(frozen=True)
class Evidence:
    """One comparison of a claim.

    Attributes:
        setting: the setting of the comparison, such as "100 clips".
        first, second: name and mean of the compared values, such as ("GRU", 0.93).
        difference: `first - second` or `first / second`, with the interval of the basis.
        expected: 1 if the claim expects a difference above `neutral`, -1 if below.
        neutral: the value of no difference: 0 for a difference, 1 for a ratio.
        basis: the criterion that shows the difference.
        p: p-value of "no difference", if the basis is a test; None with too few replicates.
        floor: loss of a model that learns nothing. Two losses at the floor show nothing.
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
        """1 if it supports the claim, -1 if it contradicts it, 0 if it shows nothing."""
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
        statement: the claim.
        how: how it was tested.
        tests: returns the comparisons from the folder of kept results, without those not run.
    """

    statement: str
    how: str
    tests: Callable[[epath.Path], Sequence[Evidence]]

    def evidence(self, results: epath.Path) -> list[Evidence]:
        """Returns the comparisons, with p-values adjusted for their number."""
        tests = self.tests(results)
        adjusted = iter(holm([test.p for test in tests if test.p is not None]))
        return [test if test.p is None else replace(test, p=next(adjusted)) for test in tests]


def judge(tests: Iterable[Evidence]) -> Finding:
    """Returns the joint finding of comparisons. A claim and its opposite follow the same rule.

    A side holds if all comparisons support it, and in part if some do and none supports the other.
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
    """Compares two variants by the test metric of their sweep; [] if they were not run.

    Args:
        kept: the kept results of a sweep.
        first, second: two of its variants.
        setting, expected, floor: see `Evidence`.
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
    """Compares a count that all runs of a variant share; [] if they were not run.

    Args:
        kept: the kept results of a sweep.
        first, second: two of its variants.
        count: returns the count of a run.
        setting, expected: see `Evidence`.

    Raises:
        UserError: the runs of a variant have different counts.
    """
    pairs = _pairs(kept, first, second) if kept else []
    if not pairs:
        return []
    counts = [{count(run) for run in runs} for runs in zip(*pairs, strict=True)]
    if any(len(values) > 1 for values in counts):
        raise UserError(f"{setting}: the runs of one variant have different counts.")
    one, other = (values.pop() for values in counts)
    exact = Estimate(one - other, one - other, one - other)
    return [Evidence(setting, (first, one), (second, other), exact, expected, basis=Basis.COUNT)]


def updates_to_equal_score(
    kept: Kept | None, first: str, second: str, *, setting: str, expected: int
) -> list[Evidence]:
    """Compares the updates that two variants need to reach the same validation loss.

    In each replicate the target is the worse of the two variants' best validation losses. The
    result is the geometric mean of the paired ratios, tested by Student's t.
    """
    needed = []
    for one, other in _curves(kept, first, second):
        target = max(min(curve.validation) for curve in (one, other))
        needed.append([curve.updates_to(curve.validation, target) for curve in (one, other)])
    if not needed:
        return []
    mean, other_mean = map(fmean, zip(*needed, strict=True))
    ratios = [math.log(one / other) for one, other in needed]
    components = components_of_values(ratios)
    ratio = components.estimate()
    value, low, high = map(math.exp, (ratio.value, ratio.low, ratio.high))
    return [
        Evidence(
            setting,
            (first, mean),
            (second, other_mean),
            Estimate(value, low, high, ratio.is_interval),
            expected,
            neutral=1.0,
            p=components.p(),
        )
    ]


def validation_at_equal_training_loss(
    kept: Kept | None, first: str, second: str, *, setting: str, expected: int
) -> list[Evidence]:
    """Compares the validation losses of two variants at equal training losses.

    In each replicate the training loss is the lowest that both variants reach, so that a variant is
    not penalised for learning faster. Losses are interpolated between evaluations. The paired
    differences are tested by Student's t.
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
    mean, other_mean = map(fmean, zip(*at_equal, strict=True))
    components = components_of_values([one - other for one, other in at_equal])
    return [
        Evidence(
            setting,
            (first, mean),
            (second, other_mean),
            components.estimate(),
            expected,
            p=components.p(),
        )
    ]


def read_benchmark(path: epath.Path) -> list[Mapping[str, Any]]:
    """Reads the rows of a benchmark's JSON; [] if the file does not exist.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text())["rows"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not the JSON of a benchmark: {error}") from error


def _pairs(kept: Kept, first: str, second: str) -> list[tuple[RunRecord, RunRecord]]:
    """Returns the compared runs of two variants, paired by replicate."""
    runs, others = (
        {json.dumps(run.replicate, sort_keys=True): run for run in kept.runs_of(variant)}
        for variant in (first, second)
    )
    return [(run, others[key]) for key, run in runs.items() if key in others]


@dataclass(frozen=True)
class _Curve:
    """Losses of a run at the updates with both a training and a validation loss."""

    updates: Sequence[int]
    training: Sequence[float]
    validation: Sequence[float]

    def updates_to(self, losses: Sequence[float], target: float) -> float:
        """Returns the number of updates until a loss first reaches the target."""
        i = next(i for i, loss in enumerate(losses) if loss <= target)
        if i == 0 or losses[i - 1] == losses[i]:
            return self.updates[i]
        share = (losses[i - 1] - target) / (losses[i - 1] - losses[i])
        return self.updates[i - 1] + share * (self.updates[i] - self.updates[i - 1])

    def at(self, update: float, losses: Sequence[float]) -> float:
        """Returns the interpolated loss after a number of updates."""
        return float(np.interp(update, self.updates, losses))


def _curves(kept: Kept | None, first: str, second: str) -> list[tuple[_Curve, _Curve]]:
    """Returns the curves of two variants' compared runs, paired by replicate; [] if not run.

    A replicate is left out if one of its runs has no curves.
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
