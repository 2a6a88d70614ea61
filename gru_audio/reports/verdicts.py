"""Verdicts on pairs of variants: better, equivalent, not shown, or no verdict."""

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gru_audio.reports.statistics import FEWEST, LEVEL, Components, Estimate, holm
from gru_audio.tasks.metrics import Metric

SIGNIFICANCE = 1 - LEVEL
_NEAR_BASELINE = 0.1  # a smaller relative gain over the trivial baseline counts as none


class Verdict(enum.StrEnum):
    """The conclusion about a pair."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    NOT_SHOWN = "not shown"
    NONE = "no verdict"


@dataclass(frozen=True)
class Difference:
    """The paired difference `first - second` of a test metric, over the common replicates."""

    first: str
    second: str
    components: Components


@dataclass(frozen=True)
class Pair:
    """A difference and its verdict.

    Attributes:
        first, second: the variants.
        difference: `first - second` with its interval.
        replicates: number of seeds on one test set, or of test sets.
        margin: the smallest difference that matters.
        p: two-sided p-value of "no difference", adjusted for the number of pairs (Holm); None
            without a verdict.
        p_alone: the same, not adjusted.
        p_equivalent: p-value of "a difference of at least `margin`", adjusted likewise.
        verdict: the conclusion.
        better: the better variant; None if neither is shown to be better.
        needed: number of replicates that would show a true difference of this size with a power of
            80 %; None if no number up to 1,000 would.
        reason: why there is no verdict; "" if there is one.
    """

    first: str
    second: str
    difference: Estimate
    replicates: int
    margin: float
    p: float | None = None
    p_alone: float | None = None
    p_equivalent: float | None = None
    verdict: Verdict = Verdict.NONE
    better: str | None = None
    needed: int | None = None
    reason: str = ""


def conclude(
    differences: Sequence[Difference],
    *,
    margin: float,
    higher_is_better: bool,
    withheld: Callable[[str, str], str] = lambda first, second: "",
) -> tuple[Pair, ...]:
    """Returns the verdict on each pair. Both p-values are adjusted for the number of pairs.

    Args:
        differences: the differences of the pairs, which form one family of tests.
        margin: the smallest difference that matters.
        higher_is_better: whether higher values of the metric are better.
        withheld: returns why two variants get no verdict, or "" if they may get one.
    """
    pairs = [_tested(difference, margin, withheld) for difference in differences]
    tested = [index for index, pair in enumerate(pairs) if pair.p_alone is not None]
    p_values = holm([pairs[index].p_alone or 0.0 for index in tested])
    equivalence = holm([pairs[index].p_equivalent or 0.0 for index in tested])
    for index, p, p_equivalent in zip(tested, p_values, equivalence, strict=True):
        pair, components = pairs[index], differences[index].components
        verdict, better, needed = Verdict.NOT_SHOWN, None, None
        if p < SIGNIFICANCE:
            verdict = Verdict.BETTER
            better = pair.first if (components.mean > 0) == higher_is_better else pair.second
        elif p_equivalent < SIGNIFICANCE:
            verdict = Verdict.EQUIVALENT
        else:
            needed = components.replicates_needed(SIGNIFICANCE / len(tested))
            if needed is not None:  # the rough estimate may be below the current number
                needed = max(needed, components.replicates + 1)
        pairs[index] = replace(
            pair, p=p, p_equivalent=p_equivalent, verdict=verdict, better=better, needed=needed
        )
    return tuple(pairs)


def at_baseline(metric: Metric, score: float, baseline: float | None) -> bool:
    """Whether a score is no real gain over the trivial baseline, which ignores its input.

    A real gain is at least a tenth of the distance from the baseline to a perfect score, or a tenth
    of the baseline's absolute value if that is less.
    """
    if baseline is None or not math.isfinite(baseline):
        return False
    possible = metric.perfect - baseline
    if possible == 0:
        return True
    gain = math.copysign(1.0, possible) * (score - baseline)
    return gain < _NEAR_BASELINE * min(abs(possible), abs(baseline) or abs(possible))


def _tested(difference: Difference, margin: float, withheld: Callable[[str, str], str]) -> Pair:
    components = difference.components
    pair = Pair(
        first=difference.first,
        second=difference.second,
        difference=components.estimate(),
        replicates=components.replicates,
        margin=margin,
    )
    reason = withheld(pair.first, pair.second)
    if not reason and not math.isfinite(components.mean):
        reason = "a score is not finite"
    if not reason and components.replicates < FEWEST:
        reason = f"a verdict needs {FEWEST} replicates"
    if reason:
        return replace(pair, reason=reason)
    p_equivalent = components.p_equivalent(margin)
    return replace(pair, p_alone=components.p(), p_equivalent=p_equivalent)
