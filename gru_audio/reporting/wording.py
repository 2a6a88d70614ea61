"""Numbers and findings in plain words, the same on the page, in the tables and in the terminal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gru_audio.data.signal import Signal
from gru_audio.reporting.comparison import Arm, Comparison, Pair
from gru_audio.reporting.listening import Heard
from gru_audio.reporting.results import Results, Run
from gru_audio.reporting.statistics import Estimate
from gru_audio.sweeping.status import FINISHED

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
NOTHING = "\N{EN DASH}"


_ROUNDING = 1e-9  # a number below it is what rounding has left of zero


@dataclass(frozen=True)
class Scale:
    """How a metric is written.

    Attributes:
        factor: what it is multiplied by.
        decimals: how many it has.
        unit, difference_unit: what follows a value, and a difference of two.
        small: numbers below it have as many significant digits instead: losses may be tiny.
    """

    factor: float
    decimals: int
    unit: str
    difference_unit: str
    small: float = 0.0

    def number(self, value: float, *, sign: bool = False) -> str:
        """The bare number, as on an axis."""
        scaled = value * self.factor
        style = "g" if _ROUNDING < abs(scaled) < self.small else "f"
        text = f"{scaled:{'+' if sign else ''}.{self.decimals}{style}}"
        if float(text) == 0:
            text = text.lstrip("+-")
        return text.replace("e-0", "e-").replace("-", MINUS)

    def value(self, value: float) -> str:
        """The number with its unit."""
        return self.number(value) + self.unit

    def difference(self, value: float, *, sign: bool = False) -> str:
        """A difference with its unit."""
        return self.number(value, sign=sign) + self.difference_unit

    def interval(self, estimate: Estimate) -> str:
        """The interval in brackets."""
        return f"[{self.number(estimate.low)},{SPACE}{self.number(estimate.high)}]"

    @property
    def axis_unit(self) -> str:
        """What an axis label adds: " (%)" or nothing."""
        return f" ({self.unit.strip()})" if self.unit else ""


def scale_of(metric: str) -> Scale:
    """Shares are written in percent, all else as it is, with three digits at least."""
    if metric == "accuracy":
        return Scale(100, 1, f"{SPACE}%", f"{SPACE}points")
    return Scale(1, 3, "", "", small=0.1)


def p_value(p: float) -> str:
    """A p-value in a sentence: "p = 0.021", "p < 0.001"."""
    if p < 0.001:
        return f"p{SPACE}<{SPACE}0.001"
    return f"p{SPACE}={SPACE}{p:.3f}" if p < 0.1 else f"p{SPACE}={SPACE}{p:.2f}"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it: "0.8 s", "41 s", "3.2 min", "2.5 h"."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f}{SPACE}s"
    if seconds < 100:
        return f"{seconds:.0f}{SPACE}s"
    return f"{seconds / 60:.1f}{SPACE}min" if seconds < 6000 else f"{seconds / 3600:.1f}{SPACE}h"


def length(steps: float, signal: Signal) -> str:
    """How long so many steps are: "0.43 s" of a sound, "128 frames"."""
    count = steps / signal.rate if signal.is_sound else steps
    text = f"{count:,.0f}" if count >= 100 else f"{count:.2g}"
    return f"{text}{SPACE}{'s' if signal.is_sound else 'frames'}"


def memory(count: float | None) -> str:
    """Bytes in the unit that suits them."""
    if count is None:
        return NOTHING
    return f"{count / 1e9:.1f}{SPACE}GB" if count >= 1e9 else f"{count / 1e6:.0f}{SPACE}MB"


def bare_p(p: float) -> str:
    """The p-value for a column that is headed "p": "0.021", "< 0.001"."""
    return p_value(p).removeprefix(f"p{SPACE}").removeprefix(f"={SPACE}")


def number(value: float | None) -> str:
    """A count or a rate: three digits at least, thousands set apart."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def setting(values: Mapping[str, Any]) -> str:
    """A draw or a replicate: "seed 0", "learning_rate 0.003, hidden 96", "speaker=theo"."""
    parts = []
    for name, value in values.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(text if "=" in text else f"{name.rpartition('.')[2]} {text}")
    return ", ".join(parts)


def replicates(runs: Sequence[Run]) -> str:
    """What repeats: "5 seeds", "6 replicates"."""
    names = {name.rpartition(".")[2] for run in runs for name in run.replicate}
    count = len({tuple(run.replicate.items()) for run in runs})
    word = names.pop() if names in ({"seed"}, {"fold"}) else "replicate"
    return _count(count, word)


def progress(results: Results) -> str:
    """How far an unfinished sweep has come; "" if nothing is missing."""
    states = Counter(run.standing.state for run in results.runs)
    finished = states.pop(FINISHED, 0)
    if not states:
        return ""
    others = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return f"{finished} of {len(results.runs)} runs have finished, {others}."


def selected(arm: Arm, results: Results) -> str:
    """Among how many draws an arm's was chosen, and how many of them went to their end."""
    judged = "" if arm.judged == arm.draws else f"{arm.judged} of "
    said = f"selected from {judged}{_count(arm.draws, 'draw')}"
    if results.halving:
        steps = _list([f"{step:,}" for step in results.halving])
        word = "step" if len(results.halving) == 1 else "steps"
        said += f", of which {arm.survivors} outlasted the halving at {word} {steps}"
    return said


def size(difference: Estimate, scale: Scale) -> str:
    """How large a difference is, with its interval turned to the same side."""
    low, high = difference.low, difference.high
    if difference.value < 0:
        low, high = -high, -low
    turned = Estimate(abs(difference.value), low, high)
    return f"{scale.difference(turned.value)} {scale.interval(turned)}"


def pair(finding: Pair, comparison: Comparison) -> str:
    """The difference between two arms as a sentence."""
    scale = scale_of(comparison.results.metric)
    if finding.better is None:
        return "no difference shown"
    return f"{finding.better} is better by {size(finding.difference, scale)}, {p_value(finding.p)}"


def headline(comparison: Comparison) -> str:
    """Who won, in a few words."""
    if not comparison.arms:
        return "No run has finished yet"
    best, *others = [arm.name for arm in comparison.arms]
    scale = scale_of(comparison.results.metric)
    if not others:
        value = scale.value(comparison.arms[0].estimate.value)
        return f"{best} reaches a test {comparison.results.metric} of {value}"
    won = [p for p in comparison.pairs if p.first == best and p.better == best]
    beaten = [p.second for p in won]
    level = [name for name in others if name not in beaten]
    if len(won) == len(others) == 1:
        return f"{best} beats {beaten[0]} by {scale.difference(abs(won[0].difference.value))}"
    said = [f"{best} beats {_others(beaten, len(others))}"] if beaten else []
    if level:
        word = "between" if len(level) == 1 else "among"
        named = _list([best, *level]) if len(level) <= 2 else f"{len(level) + 1} arms"
        said.append(f"{'no' if beaten else 'No'} winner {word} {named}")
    return "; ".join(said)


def evidence(comparison: Comparison) -> str:
    """The numbers behind the headline: by how much, with what certainty, at what cost."""
    if not comparison.arms:
        return "There is nothing to compare. What the runs are doing is listed below."
    best = comparison.arms[0]
    scale = scale_of(comparison.results.metric)
    said = (
        f"{best.name} has a test {comparison.results.metric} of {scale.value(best.estimate.value)} "
        f"{scale.interval(best.estimate)} over {replicates(best.runs)}"
    )
    against = [_beside(p, scale) for p in comparison.pairs if p.first == best.name]
    if against:
        said += f": {_list(against[:3])}"
    more = " The other pairs are below." if len(against) > 3 else ""
    return f"{said}.{more}{_cost(comparison)}"


def sampling(comparison: Comparison) -> str:
    """What the intervals on this page were resampled over."""
    sets = comparison.test_sets
    if not sets:
        return "Nothing to resample yet."
    what = replicates([run for arm in comparison.arms for run in arm.runs])
    clustered = all(part.clustered for part in sets)
    word = comparison.results.cluster or "cluster"
    units = [part.units for part in sets]
    size = str(min(units)) if min(units) == max(units) else f"{min(units)} to {max(units)}"
    drawn = f"{size} {word}s, each with all its examples" if clustered else f"{size} test examples"
    if len(sets) == 1:
        return f"Resampled over {what} and {drawn}."
    if len(sets) == sum(part.replicates for part in sets):
        return f"Resampled over {what}, each with its own test set, and the {drawn} in it."
    return f"Resampled over {len(sets)} test sets, {what} and the {drawn} in each."


def cautions(comparison: Comparison) -> list[str]:
    """What a reader must know before trusting the intervals."""
    sets, word = comparison.test_sets, comparison.results.cluster or "cluster"
    if not sets:
        return []
    said = []
    repeats = sum(part.replicates for part in sets)
    if repeats == 1:
        said.append("With one replicate the intervals leave out how much seeds differ.")
    elif repeats < 5:
        said.append(f"With {repeats} replicates the intervals are rough.")

    few = [part.units for part in sets if part.clustered and part.units < 5]
    if few:
        said.append(f"With {min(few)} {word}s in a test set they are rough, too.")
    if all(part.one_cluster for part in sets):
        said.append(f"A test set holds a single {word}, so examples were drawn one by one.")
        if len(sets) > 1:
            said.append(f"How {word}s differ enters through the {len(sets)} test sets.")
        else:
            said.append(f"The intervals say nothing about other {word}s.")
    elif comparison.results.cluster and not any(part.clustered for part in sets):
        said.append(f"No {word}s are known in the test set, so examples were drawn one by one.")

    dropped = max(part.dropped for part in sets)
    if dropped:
        said.append(f"Up to {dropped} examples that not all runs were tested on are left out.")
    if comparison.left_out:
        said.append(
            "Arms are compared on the replicates that all of them have; "
            f"{_count(comparison.left_out, 'run')} more left out."
        )
    compared = {arm.name for arm in comparison.arms}
    if lacking := [name for name in comparison.results.arms if name not in compared]:
        said.append(f"No run of {_list(lacking)} has finished.")
    for arm in comparison.arms:
        if len(arm.runs) < arm.planned:
            said.append(f"{arm.name} has {len(arm.runs)} of {arm.planned} replicates.")
    return said


def mean_result(runs: Sequence[Run], name: str) -> float | None:
    """The mean over runs of a number in their results, if any of them has it."""
    known = [run.result[name] for run in runs if run.result.get(name) is not None]
    return math.fsum(known) / len(known) if known else None


def parameters(runs: Sequence[Run], kind: str) -> int | None:
    """How many parameters a run of an arm has, "total" or "recurrent"."""
    return (runs[0].result.get("parameters") or {}).get(kind)


def _count(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _list(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _others(beaten: Sequence[str], others: int) -> str:
    """Those of the other arms that are beaten: by name where they are few."""
    if len(beaten) <= 3:
        return _list(beaten)
    return (
        f"all {others} other arms" if len(beaten) == others else f"{len(beaten)} of {others} others"
    )


def _beside(finding: Pair, scale: Scale) -> str:
    """Where the first arm of a pair stands beside the second."""
    side = "above" if finding.difference.value > 0 else "below"
    shown = "" if finding.better else ", no difference shown"
    return (
        f"{size(finding.difference, scale)} {side} {finding.second} ({p_value(finding.p)}{shown})"
    )


def _cost(comparison: Comparison) -> str:
    """How long a run of the first few arms trains."""
    seconds = {arm.name: mean_result(arm.runs, "seconds") for arm in comparison.arms}
    known = [
        f"{duration(value)} for {name}" for name, value in seconds.items() if value is not None
    ]
    return f" Training a run takes {_list(known[:4])}." if known else ""


def listener(heard: Heard) -> str:
    """Whose gates are shown with the examples, and how they are sorted; "" where none are."""
    if heard.listener is None:
        return ""
    told, signal = heard.listener, next(iter(heard.excerpts.values())).signal
    return (
        f"The gates are those of {told.run}, layer {told.layer}, while it reads what is shown: "
        "a row is a unit, full ink an open gate (1), none a shut one (0). Units with the longest "
        f"memory are at the top; time constants run from {length(told.slowest, signal)} down to "
        f"{length(told.fastest, signal)}."
    )
