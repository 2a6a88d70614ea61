"""What a paper published, and by which rule ours is said to reproduce it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

TOLERANCE = 0.02  # of the published value
FEWEST = 3  # seeds, or test sets: an interval over fewer would hold nearly any value
SOLVED, LEARNT = 0.1, 0.9  # of the floor: below them a task is solved, and at least partly


@dataclass(frozen=True)
class Published:
    """A paper's table, beside which an experiment sets its own.

    Attributes:
        source: paper and table.
        measure: what its numbers are, with the unit.
        values: part of the experiment ("" where it has none) -> arm -> the published value. Values
            of a share are fractions, as ours are: 0.94, not 94.
        floors: part -> what a model reaches that learns nothing; there values are compared in kind.
        guessed: what the paper leaves open, and what was taken.
        peers: what others published on the same test set, of models that no arm repeats.
    """

    source: str
    measure: str
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    peers: Mapping[str, float] = field(default_factory=dict)


NOBODYS = Published(source="No paper's values are beside these", measure="the test metric")


class Verdict(enum.StrEnum):
    """How our value stands to a published one."""

    REPRODUCED = "reproduced"
    BETTER = "better"
    NOT_REPRODUCED = "not reproduced"
    NOT_RUN = "not run"


class Kind(enum.IntEnum):
    """How far a model has come from a floor, of a loss; a higher kind is a better one."""

    AT_THE_FLOOR = 0
    PARTLY = 1
    SOLVED = 2

    def __str__(self) -> str:
        return "at the floor" if self is Kind.AT_THE_FLOOR else self.name.lower()


def name_with_part(experiment: str, part: str) -> str:
    """What a part of an experiment, and all that is kept of it, is called: "bai2018-copy_500"."""
    return f"{experiment}-{part}" if part else experiment


def judge(
    published: float, mean: float, interval: tuple[float, float] | None, *, higher_is_better: bool
) -> Verdict:
    """Whether our mean over seeds, with its 95 % interval if it has one, reproduces a value.

    It does if the published value lies within the interval, or within `TOLERANCE` of itself from
    the mean. Else ours is better, or it is not reproduced.
    """
    if within(interval, published) or abs(mean - published) <= TOLERANCE * abs(published):
        return Verdict.REPRODUCED
    better = mean > published if higher_is_better else mean < published  # a mean of NaN is not
    return Verdict.BETTER if better else Verdict.NOT_REPRODUCED


def within(interval: tuple[float, float] | None, published: float) -> bool:
    """Whether a published value lies in our interval, if there is one."""
    return interval is not None and interval[0] <= published <= interval[1]


def judge_in_kind(published: float, mean: float, floor: float) -> Verdict:
    """Whether a mean loss is of the same kind as a published one; see `kind`."""
    theirs, ours = kind(published, floor), kind(mean, floor)
    if ours == theirs:
        return Verdict.REPRODUCED
    return Verdict.BETTER if ours > theirs else Verdict.NOT_REPRODUCED


def kind(loss: float, floor: float) -> Kind:
    """Solved below a tenth of the floor, partly solved up to 0.9 of it, else at the floor."""
    if loss < SOLVED * floor:
        return Kind.SOLVED
    return Kind.PARTLY if loss <= LEARNT * floor else Kind.AT_THE_FLOOR
