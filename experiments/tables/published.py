"""What a paper published, and the rule by which our value is compared with it."""

import dataclasses
import enum
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gru_audio.reports.statistics import FEWEST
from gru_audio.settings import UserError, nearest

SHARE = 0.02  # of a published value: the most that the tolerance may be, unless it is stated
SOLVED, LEARNT = 0.1, 0.9  # of the floor: below them a task is solved, and at least partly


@dataclass(frozen=True)
class Published:
    """A paper's table; `PUBLISHED` of an experiment is a dict of these fields.

    Attributes:
        source: paper and table.
        measure: what its numbers are, with the unit.
        values: part of the experiment ("" where it has none) -> variant -> the published value.
            Values of a share are fractions, as ours are: 0.94, not 94.
        floors: part -> what a model reaches that learns nothing; there values are compared in kind.
        guessed: what the paper leaves open, and what was taken.
        peers: what others published on the same test set, of models that no variant repeats.
        tolerances: part -> how far from a published value ours may be and reproduce it, where that
            is not `SHARE` of the value. It is never as much as half of the smallest difference
            between the values of the part.
        from_memory: whether the values were written down without the paper at hand.
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
        """The table that an experiment's `PUBLISHED` describes.

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
        """How far from a published value ours may be and reproduce it."""
        values = self.values[part]
        most = self.tolerances.get(part, SHARE * abs(values[variant]))
        return min(most, smallest_difference(values.values()) / 2)


NOBODYS = Published(source="No paper's values are beside these", measure="the test metric")


class Verdict(enum.StrEnum):
    """How our value compares with a published one."""

    REPRODUCED = "reproduced"
    IN_KIND = "reproduced in kind"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    TOO_FEW = "too few replicates"
    NOT_RUN = "not run"


class Kind(enum.IntEnum):
    """How far a model has come from a floor, of a loss; a higher kind is a better one."""

    AT_THE_FLOOR = 0
    PARTLY = 1
    SOLVED = 2

    def __str__(self) -> str:
        return "at the floor" if self is Kind.AT_THE_FLOOR else self.name.lower()


def smallest_difference(values: Iterable[float]) -> float:
    """The smallest difference between values that are not equal; infinite if all are equal."""
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
        published: the value.
        interval: ours; None with fewer than `FEWEST` replicates.
        tolerance: see `Published.tolerance`.
        higher_is_better: of the metric.

    Returns:
        REPRODUCED if the interval contains the published value and lies within the tolerance around
        it, ends not included; BETTER or WORSE if the whole interval lies on that side of the value;
        else UNDECIDED: the interval contains the value, but also values that differ from it by the
        tolerance or more.
    """
    if interval is None:
        return Verdict.TOO_FEW
    low, high = interval
    if low > published or high < published:
        return Verdict.BETTER if (low > published) == higher_is_better else Verdict.WORSE
    close = published - low < tolerance and high - published < tolerance  # never of NaN
    return Verdict.REPRODUCED if close else Verdict.UNDECIDED


def judge_in_kind(published: float, losses: Sequence[float], floor: float) -> Verdict:
    """Compares the kind of every replicate's loss with that of a published loss; see `kind`.

    Returns:
        IN_KIND if all are of the published kind, BETTER or WORSE if all are of better or of worse
        kinds, UNDECIDED if they differ in this.
    """
    if len(losses) < FEWEST:
        return Verdict.TOO_FEW
    theirs = kind(published, floor)
    sides = {(ours > theirs) - (ours < theirs) for ours in (kind(loss, floor) for loss in losses)}
    if len(sides) > 1:
        return Verdict.UNDECIDED
    return {0: Verdict.IN_KIND, 1: Verdict.BETTER, -1: Verdict.WORSE}[sides.pop()]


def kind(loss: float, floor: float) -> Kind:
    """Solved below a tenth of the floor, partly solved up to 0.9 of it, else at the floor."""
    if loss < SOLVED * floor:
        return Kind.SOLVED
    return Kind.PARTLY if loss <= LEARNT * floor else Kind.AT_THE_FLOOR
