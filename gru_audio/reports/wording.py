"""Numbers and findings in plain words, the same on the page, in the tables and in the terminal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gru_audio.data.signal import Signal
from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.gate_plots import Heard
from gru_audio.reports.results import Results, Run
from gru_audio.reports.statistics import FEWEST, Estimate
from gru_audio.reports.verdicts import Pair, Verdict
from gru_audio.sweeps.status import FINISHED
from gru_audio.tasks.scale import MINUS, SPACE, Scale

NOTHING = "\N{EN DASH}"


def p_value(p: float) -> str:
    """A p-value in a sentence: "p = 0.0214", "p < 0.001"; three digits where it may decide."""
    if p < 0.001:
        return f"p{SPACE}<{SPACE}0.001"
    digits = f"{p:.2f}" if p >= 0.1 else f"{p:.4f}" if p >= 0.01 else f"{p:.5f}"
    return f"p{SPACE}={SPACE}{digits}"


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


def bare_p(p: float | None) -> str:
    """The p-value for a column that is headed "p": "0.0214", "< 0.001"; a dash without one."""
    if p is None:
        return NOTHING
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


def selected(variant: Variant, results: Results) -> str:
    """From how many settings a variant's was chosen, and how many of them halving has left."""
    judged = "" if variant.judged == variant.trials else f"{variant.judged} of "
    said = f"chosen from {judged}{_count(variant.trials, 'setting')}"
    if results.halving:
        steps = listed([f"{step:,}" for step in results.halving])
        word = "step" if len(results.halving) == 1 else "steps"
        verb = "was" if variant.survivors == 1 else "were"
        said += f"; {variant.survivors} {verb} left after successive halving at {word} {steps}"
    return said


def size(difference: Estimate, scale: Scale) -> str:
    """How large a difference is, with its interval turned to the same side."""
    turned = difference.negated() if difference.value < 0 else difference
    return f"{scale.difference(turned.value)} {scale.interval(turned)}".rstrip()


def quoted(name: str) -> str:
    """A variant's name for a sentence: in quotes where commas or words could be misread."""
    misread = set(",;:\N{MINUS SIGN}") & set(name) or {"and", "or", "-"} & set(name.split())
    left, right = "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"
    return f"{left}{name}{right}" if misread else name


def pair_name(pair: Pair) -> str:
    """What a pair is the difference of: "GRU \N{MINUS SIGN} LSTM"."""
    return f"{quoted(pair.first)} {MINUS} {quoted(pair.second)}"


def pair(finding: Pair, scale: Scale) -> str:
    """The verdict on two variants as a sentence."""
    margin = scale.difference(finding.margin)
    if finding.verdict is Verdict.BETTER:
        said = f"{quoted(finding.better or '')} is better by {size(finding.difference, scale)}"
        small = finding.p_equivalent is not None and finding.p_equivalent < 0.05
        return f"{said}, less than the margin of {margin}" if small else said
    if finding.verdict is Verdict.EQUIVALENT:
        return f"equivalent within {margin}"
    if finding.verdict is Verdict.NONE:
        return f"no verdict: {finding.reason}"
    if finding.difference.value == 0:
        return "no difference shown"
    if finding.needed is None:
        return "no difference shown; only a larger test set would show one this small"
    return f"no difference shown; about {finding.needed} replicates would show one this large"


def headline(comparison: Comparison) -> str:
    """The verdict on the best variant in a few words."""
    if not comparison.variants:
        return "No run has finished yet"
    best, *others = [quoted(variant.name) for variant in comparison.variants]
    scale = comparison.results.metric.scale
    if not others:
        value = scale.value(comparison.variants[0].estimate.value)
        return f"{best} reaches a test {comparison.results.metric.title} of {value}"
    mine = [pair for pair in comparison.pairs if pair.first == comparison.variants[0].name]
    if not any(pair.verdict is not Verdict.NONE for pair in mine):
        reasons = list(dict.fromkeys(pair.reason for pair in mine))
        why = reasons[0] if len(reasons) == 1 else "see below"
        if len(others) > 1:  # reasons are those of pairs
            why = why.replace("both stay", "all stay")
        return f"No verdict on {_named([best, *others])}: {why}"
    said: list[str] = []
    for verdict, words in _HEADLINES.items():
        found = [pair for pair in mine if pair.verdict is verdict]
        if not found:
            continue
        if verdict is Verdict.BETTER and len(found) == len(others) == 1:
            return f"{best} beats {others[0]} by {scale.difference(abs(found[0].difference.value))}"
        names = [quoted(pair.second) for pair in found]
        some = _others(names, len(others))
        text = words.format(
            best=best,
            others=some,
            all=listed([best, *names]) if len(names) <= 3 else f"{best} and {some}",
            margin=scale.difference(comparison.margin),
        )
        said.append(text if not said else text[0].lower() + text[1:] if text[0] == "N" else text)
    return "; ".join(said)


_HEADLINES = {
    Verdict.BETTER: "{best} beats {others}",
    Verdict.EQUIVALENT: "{all} are equivalent within {margin}",
    Verdict.NOT_SHOWN: "No difference shown between {all}",
    Verdict.NONE: "No verdict on {all}",
}


def evidence(comparison: Comparison) -> str:
    """The numbers behind the headline: by how much, and with what certainty."""
    if not comparison.variants:
        return "There is nothing to compare yet. The state of each run is listed below."
    best = comparison.variants[0]
    scale = comparison.results.metric.scale
    said = (
        f"{quoted(best.name)} has a test {comparison.results.metric.title} of "
        f"{scale.estimate(best.estimate)} over {replicates(best.runs)}"
    )
    against = [_beside(p, scale) for p in comparison.pairs if p.first == best.name]
    if against:
        said += f": {listed(against[:3])}"
    more = " The other pairs are below." if len(against) > 3 else ""
    return f"{said}.{more}"


def damages(comparison: Comparison) -> list[str]:
    """A sentence on each finished run whose predictions cannot be used."""
    return [
        f"Run {run.name} is left out: {run.damage}. Delete its folder and repeat the sweep's "
        "command to train it again."
        for run in comparison.damaged
    ]


def sampling(comparison: Comparison) -> str:
    """What the intervals take into account."""
    sets = comparison.test_sets
    if not sets:
        return "There is nothing to compare yet."
    what = replicates([run for variant in comparison.variants for run in variant.runs])
    clustered = all(part.clustered for part in sets)
    word = comparison.results.cluster or "cluster"
    units = [part.units for part in sets]
    size = str(min(units)) if min(units) == max(units) else f"{min(units)} to {max(units)}"
    drawn = f"{size} {word}s, each with all its examples" if clustered else f"{size} test examples"
    said = "The intervals account for chance in"
    if len(sets) == 1:
        return f"{said} {what} and {drawn}."
    if len(sets) == sum(part.replicates for part in sets):
        return f"{said} {what}, each with its own test set of {drawn}."
    return f"{said} {len(sets)} test sets of {drawn}, and {what}."


def cautions(comparison: Comparison) -> list[str]:
    """What a reader must know before trusting the intervals."""
    sets, word = comparison.test_sets, comparison.results.cluster or "cluster"
    if not sets:
        return []
    said = damages(comparison)
    repeats = len(sets) if len(sets) > 1 else sets[0].replicates
    if repeats < FEWEST:
        said.append(
            f"With {_count(repeats, 'replicate')} there is no interval, no p-value and no verdict: "
            f"at least {FEWEST} are needed."
        )

    few = [part.units for part in sets if part.clustered and part.units < 5]
    if few:
        said.append(f"With {min(few)} {word}s in a test set the intervals are rough.")
    if all(part.one_cluster for part in sets):
        said.append(f"Each test set holds a single {word}, so single examples count as units.")
        if len(sets) > 1:
            said.append(f"The {len(sets)} test sets show how {word}s differ.")
        else:
            said.append(f"The intervals say nothing about other {word}s.")
    elif comparison.results.cluster and not any(part.clustered for part in sets):
        said.append(f"The test set names no {word}s, so single examples count as units.")

    dropped = max(part.dropped for part in sets)
    if dropped:
        said.append(f"Up to {dropped} examples that not all runs were tested on are left out.")
    if comparison.left_out:
        said.append(
            "Variants are compared on the replicates that all of them have; "
            f"{_count(comparison.left_out, 'more run')} left out."
        )
    compared = {variant.name for variant in comparison.variants}
    if lacking := [name for name in comparison.results.variants if name not in compared]:
        said.append(f"No run of {listed(list(map(quoted, lacking)))} has finished.")
    for variant in comparison.variants:
        if len(variant.runs) < variant.planned:
            have = f"{len(variant.runs)} of {variant.planned} replicates"
            said.append(f"{quoted(variant.name)} has {have}.")
    return said


def clock(results: Results) -> tuple[str, str]:
    """How training time is told: the name of it in a run's result, and in words.

    Processor time, if all finished runs have it. Else wall time, by which variants cannot be
    compared where the machine did other work too.
    """
    finished = [run.result for run in results.runs if run.result]
    known = all(result.get("cpu_seconds") is not None for result in finished)
    return ("cpu_seconds", "CPU time") if finished and known else ("seconds", "wall time")


def mean_result(runs: Sequence[Run], name: str) -> float | None:
    """The mean over runs of a number in their results, if any of them has it."""
    known = [run.result[name] for run in runs if run.result.get(name) is not None]
    return math.fsum(known) / len(known) if known else None


def parameters(runs: Sequence[Run], kind: str) -> int | None:
    """How many parameters a run of a variant has, "total" or "recurrent"."""
    return (runs[0].result.get("parameters") or {}).get(kind)


def _count(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def listed(items: Sequence[str]) -> str:
    """Items in a sentence: "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _named(variants: Sequence[str]) -> str:
    """A few variants by name, many by their number."""
    return listed(variants) if len(variants) <= 4 else f"{len(variants)} variants"


def _others(found: Sequence[str], others: int) -> str:
    """Those of the other variants that a verdict concerns: by name where they are few."""
    if len(found) <= 3:
        return listed(found)
    if len(found) == others:
        return f"all {others} other variants"
    return f"{len(found)} of {others} others"


def _beside(finding: Pair, scale: Scale) -> str:
    """Where the first variant of a pair stands beside the second."""
    side = "above" if finding.difference.value > 0 else "below"
    said = f"{size(finding.difference, scale)} {side} {quoted(finding.second)}"
    if finding.p is None:
        return said
    words = {Verdict.NOT_SHOWN: ", no difference shown", Verdict.EQUIVALENT: ", equivalent"}
    return f"{said} ({p_value(finding.p)}{words.get(finding.verdict, '')})"


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
