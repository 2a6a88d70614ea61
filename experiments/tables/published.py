"""Published values of a paper, and the rules that compare our values with them."""

import dataclasses
import enum
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gru_audio.reports.statistics import FEWEST
from gru_audio.settings import UserError, nearest

SHARE = 0.02  # largest tolerance, as a share of the published value, unless it is stated
SOLVED, LEARNT = 0.1, 0.9  # fractions of the floor below which a task is solved, or partly solved


@dataclass(frozen=True)
class Published:
    """A paper's table. `PUBLISHED` of an experiment is a dict of these fields.

    Attributes:
        source: paper and table.
        measure: the metric of the values, with the unit.
        values: part of the experiment ("" if it has none) -> variant -> published value. Accuracies
            are fractions: 0.94, not 94.
        floors: part -> loss of a model that learns nothing. The values of such a part are compared
            in kind.
        guessed: our choices where the paper gives no details.
        peers: published values of other models on the same test set.
        tolerances: part -> largest distance from a published value at which it is reproduced, if
            that is not `SHARE` of the value. The distance stays below half of the smallest
            difference between the values of the part.
        from_memory: whether the values were written down without access to the paper.
    """

    source: str
    measure: str
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    peers: Mapping[str, float] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)
    from_memory: bool = False

    @classmethod
    def from_dict(cls, experiment: str, fields: Mapping[str, Any]) -> "Published":
        """Reads an experiment's `PUBLISHED`.

        Raises:
            UserError: a field is missing or does not exist.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise UserError(
                    f'{experiment}: PUBLISHED has no field "{name}".{nearest(name, known)}'
                )
        try:
            return cls(**fields)
        except TypeError as error:
            raise UserError(f"{experiment}: PUBLISHED needs a source and a measure.") from error

    def tolerance(self, part: str, variant: str) -> float:
        """Returns the largest distance from a variant's published value that reproduces it."""
        values = self.values[part]
        most = self.tolerances.get(part, SHARE * abs(values[variant]))
        return min(most, smallest_difference(values.values()) / 2)


UNPUBLISHED = Published(source="There are no published values", measure="the test metric")


class Verdict(enum.StrEnum):
    """Result of the comparison of our value with a published one."""

    REPRODUCED = "reproduced"
    IN_KIND = "reproduced in kind"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    TOO_FEW = "too few replicates"
    NOT_RUN = "not run"


class Kind(enum.IntEnum):
    """Range of a loss relative to the floor. A higher kind is better."""

    AT_THE_FLOOR = 0
    PARTLY = 1
    SOLVED = 2

    def __str__(self) -> str:
        return "at the floor" if self is Kind.AT_THE_FLOOR else self.name.lower()


def smallest_difference(values: Iterable[float]) -> float:
    """Returns the smallest difference between unequal values; infinite if all are equal."""
    distinct = sorted(set(values))
    return min((b - a for a, b in itertools.pairwise(distinct)), default=math.inf)


def judge(
    published: float,
    interval: tuple[float, float] | None,
    tolerance: float,
    *,
    higher_is_better: bool,
) -> Verdict:
    """Compares our 95 % interval with a published value.

    Args:
        published: the published value.
        interval: our interval; None with fewer than `FEWEST` replicates.
        tolerance: see `Published.tolerance`.
        higher_is_better: whether higher values of the metric are better.

    Returns:
        REPRODUCED if the interval contains the published value and lies strictly within the
        tolerance around it. BETTER or WORSE if the whole interval lies on that side of the value.
        UNDECIDED if the interval contains the value and reaches the tolerance. TOO_FEW without an
        interval.
    """
    if interval is None:
        return Verdict.TOO_FEW
    low, high = interval
    if low > published or high < published:
        return Verdict.BETTER if (low > published) == higher_is_better else Verdict.WORSE
    close = published - low < tolerance and high - published < tolerance  # False for NaN
    return Verdict.REPRODUCED if close else Verdict.UNDECIDED


def judge_in_kind(published: float, losses: Sequence[float], floor: float) -> Verdict:
    """Compares the kind of each replicate's loss with that of a published loss; see `kind`.

    Returns:
        IN_KIND if all have the published kind, BETTER or WORSE if all have better or worse kinds,
        else UNDECIDED. TOO_FEW with fewer than `FEWEST` replicates.
    """
    if len(losses) < FEWEST:
        return Verdict.TOO_FEW
    paper = kind(published, floor)
    sides = {(ours > paper) - (ours < paper) for ours in (kind(loss, floor) for loss in losses)}
    if len(sides) > 1:
        return Verdict.UNDECIDED
    return {0: Verdict.IN_KIND, 1: Verdict.BETTER, -1: Verdict.WORSE}[sides.pop()]


def kind(loss: float, floor: float) -> Kind:
    """Returns the kind of a loss: solved below 0.1 of the floor, partly up to 0.9 of it."""
    if loss < SOLVED * floor:
        return Kind.SOLVED
    return Kind.PARTLY if loss <= LEARNT * floor else Kind.AT_THE_FLOOR
