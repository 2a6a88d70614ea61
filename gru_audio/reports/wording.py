"""Numbers and verdicts in words, for the page, the tables and the terminal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gru_audio.data.signal import Signal
from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.gate_plots import Excerpts
from gru_audio.reports.results import Results, Run
from gru_audio.reports.statistics import FEWEST, Estimate
from gru_audio.reports.verdicts import Pair, Verdict
from gru_audio.sweeps.status import FINISHED
from gru_audio.tasks.scale import MINUS, SPACE, Scale
from gru_audio.training.utilisation import Utilisation

NOTHING = "\N{EN DASH}"


def p_value(p: float) -> str:
    """Returns a p-value for a sentence: "p = 0.0214", "p < 0.001"."""
    if p < 0.001:
        return f"p{SPACE}<{SPACE}0.001"
    digits = f"{p:.2f}" if p >= 0.1 else f"{p:.4f}" if p >= 0.01 else f"{p:.5f}"
    return f"p{SPACE}={SPACE}{digits}"


def duration(seconds: float | None) -> str:
    """Returns a time in a suitable unit: "0.8 s", "41 s", "3.2 min", "2.5 h"."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f}{SPACE}s"
    if seconds < 100:
        return f"{seconds:.0f}{SPACE}s"
    return f"{seconds / 60:.1f}{SPACE}min" if seconds < 6000 else f"{seconds / 3600:.1f}{SPACE}h"


def length(steps: float, signal: Signal) -> str:
    """Returns the duration of a number of steps: "0.43 s" of a sound, "128 frames"."""
    count = steps / signal.rate if signal.is_sound else steps
    text = f"{count:,.0f}" if count >= 100 else f"{count:.2g}"
    return f"{text}{SPACE}{'s' if signal.is_sound else 'frames'}"


def memory(count: float | None) -> str:
    """Returns a number of bytes in a suitable unit: "12 MB", "1.5 GB"."""
    if count is None:
        return NOTHING
    return f"{count / 1e9:.1f}{SPACE}GB" if count >= 1e9 else f"{count / 1e6:.0f}{SPACE}MB"


def utilisation(runs: Sequence[Run]) -> str:
    """Returns operations per second and their share of the peak: "1.2 TFLOP/s (3.1 %)"."""
    rates = Utilisation(mean_result(runs, "flops_per_second"), mean_result(runs, "mfu"))
    return str(rates).replace(" ", SPACE).replace(f"{SPACE}(", " (") or NOTHING


def bare_p(p: float | None) -> str:
    """Returns a p-value for a column headed "p": "0.0214", "< 0.001"; a dash for None."""
    if p is None:
        return NOTHING
    return p_value(p).removeprefix(f"p{SPACE}").removeprefix(f"={SPACE}")


def number(value: float | None) -> str:
    """Returns a count or a rate with at least three digits and separated thousands."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def setting(values: Mapping[str, Any]) -> str:
    """Returns a trial or a replicate as text: "seed 0", "learning_rate 0.003, hidden 96"."""
    parts = []
    for name, value in values.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(text if "=" in text else f"{name.rpartition('.')[2]} {text}")
    return ", ".join(parts)


def replicates(runs: Sequence[Run]) -> str:
    """Returns the number and kind of replicates: "5 seeds", "6 replicates"."""
    names = {name.rpartition(".")[2] for run in runs for name in run.replicate}
    count = len({tuple(run.replicate.items()) for run in runs})
    word = names.pop() if names in ({"seed"}, {"fold"}) else "replicate"
    return _count(count, word)


def progress(results: Results) -> str:
    """Returns how many runs have finished; "" if all have."""
    states = Counter(run.run_state.state for run in results.runs)
    finished = states.pop(FINISHED, 0)
    if not states:
        return ""
    others = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return f"{finished} of {len(results.runs)} runs have finished, {others}."


def selected(variant: Variant, results: Results) -> str:
    """Returns from how many trials a variant's was chosen, and how many halving has kept."""
    judged = "" if variant.judged == variant.trials else f"{variant.judged} of "
    text = f"chosen from {judged}{_count(variant.trials, 'trial')}"
    if results.halving:
        steps = listed([f"{step:,}" for step in results.halving])
        word = "step" if len(results.halving) == 1 else "steps"
        text += f"; successive halving at {word} {steps} kept {variant.survivors}"
    return text


def size(difference: Estimate, scale: Scale) -> str:
    """Returns the absolute value of a difference, with its interval."""
    positive = difference.negated() if difference.value < 0 else difference
    return f"{scale.difference(positive.value)} {scale.interval(positive)}".rstrip()


def quoted(name: str) -> str:
    """Returns a variant's name for a sentence, in quotes if its commas or words are ambiguous."""
    misread = set(",;:\N{MINUS SIGN}") & set(name) or {"and", "or", "-"} & set(name.split())
    left, right = "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"
    return f"{left}{name}{right}" if misread else name


def pair_name(pair: Pair) -> str:
    """Returns the name of a pair's difference: "GRU \N{MINUS SIGN} LSTM"."""
    return f"{quoted(pair.first)} {MINUS} {quoted(pair.second)}"


def pair(finding: Pair, scale: Scale) -> str:
    """Returns the verdict on two variants as a sentence."""
    margin = scale.difference(finding.margin)
    if finding.verdict is Verdict.BETTER:
        text = f"{quoted(finding.better or '')} is better by {size(finding.difference, scale)}"
        small = finding.p_equivalent is not None and finding.p_equivalent < 0.05
        return f"{text}, less than the margin of {margin}" if small else text
    if finding.verdict is Verdict.EQUIVALENT:
        return f"equivalent within {margin}"
    if finding.verdict is Verdict.NONE:
        return f"no verdict: {finding.reason}"
    if finding.difference.value == 0:
        return "no difference shown"
    if finding.needed is None:
        return "no difference shown; a difference this small needs a larger test set"
    return f"no difference shown; a difference this large needs about {finding.needed} replicates"


def headline(comparison: Comparison) -> str:
    """Returns the verdict on the best variant in a few words."""
    if not comparison.variants:
        return "No finished run can be used" if comparison.damaged else "No run has finished yet"
    best, *others = [quoted(variant.name) for variant in comparison.variants]
    scale = comparison.results.metric.scale
    if not others:
        value = scale.value(comparison.variants[0].estimate.value)
        return f"{best} reaches a test {comparison.results.metric.title} of {value}"
    pairs = [pair for pair in comparison.pairs if pair.first == comparison.variants[0].name]
    if not any(pair.verdict is not Verdict.NONE for pair in pairs):
        reasons = list(dict.fromkeys(pair.reason for pair in pairs))
        why = reasons[0] if len(reasons) == 1 else "see below"
        if len(others) > 1:  # a reason concerns one pair
            why = why.replace("both stay", "all stay")
        return f"No verdict on {_named([best, *others])}: {why}"
    texts: list[str] = []
    for verdict, words in _HEADLINES.items():
        found = [pair for pair in pairs if pair.verdict is verdict]
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
        texts.append(text if not texts else text[0].lower() + text[1:] if text[0] == "N" else text)
    return "; ".join(texts)


_HEADLINES = {
    Verdict.BETTER: "{best} beats {others}",
    Verdict.EQUIVALENT: "{all} are equivalent within {margin}",
    Verdict.NOT_SHOWN: "No difference shown between {all}",
    Verdict.NONE: "No verdict on {all}",
}


def evidence(comparison: Comparison) -> str:
    """Returns the numbers behind the headline: differences, intervals and p-values."""
    if not comparison.variants:
        return "There is nothing to compare yet. The state of each run is listed below."
    best = comparison.variants[0]
    scale = comparison.results.metric.scale
    text = (
        f"{quoted(best.name)} has a test {comparison.results.metric.title} of "
        f"{scale.estimate(best.estimate)} over {replicates(best.runs)}"
    )
    against = [_against(p, scale) for p in comparison.pairs if p.first == best.name]
    if against:
        text += f": {listed(against[:3])}"
    more = " The other pairs are below." if len(against) > 3 else ""
    return f"{text}.{more}"


def damages(comparison: Comparison) -> list[str]:
    """Returns a sentence on each finished run whose predictions cannot be used."""
    return [
        f"Run {run.name} is left out: {run.damage}. Delete its folder and repeat the sweep's "
        "command to train it again."
        for run in comparison.damaged
    ]


def sampling(comparison: Comparison) -> str:
    """Returns a sentence on the sources of chance that the intervals include."""
    sets = comparison.test_sets
    if not sets:
        return "There is nothing to compare yet."
    repeated = replicates([run for variant in comparison.variants for run in variant.runs])
    clustered = all(part.clustered for part in sets)
    word = comparison.results.cluster or "cluster"
    units = [part.units for part in sets]
    size = str(min(units)) if min(units) == max(units) else f"{min(units)} to {max(units)}"
    sampled = f"{size} {word}s with all their examples" if clustered else f"{size} test examples"
    text = "The intervals account for chance in"
    if len(sets) == 1:
        return f"{text} {repeated} and {sampled}."
    if len(sets) == sum(part.replicates for part in sets):
        return f"{text} {repeated}, each with its own test set of {sampled}."
    return f"{text} {len(sets)} test sets of {sampled}, and {repeated}."


def cautions(comparison: Comparison) -> list[str]:
    """Returns the limits of the intervals, and the runs and examples that are left out."""
    sets, word = comparison.test_sets, comparison.results.cluster or "cluster"
    texts = damages(comparison)
    if not sets:
        return texts
    repeats = len(sets) if len(sets) > 1 else sets[0].replicates
    if repeats < FEWEST:
        texts.append(
            f"With {_count(repeats, 'replicate')} there is no interval, no p-value and no verdict: "
            f"at least {FEWEST} are needed."
        )

    few = [part.units for part in sets if part.clustered and part.units < 5]
    if few:
        texts.append(f"With only {min(few)} {word}s in a test set, the intervals are rough.")
    if all(part.one_cluster for part in sets):
        texts.append(
            f"Each test set has a single {word}, so the sampling units are single examples."
        )
        if len(sets) > 1:
            texts.append(f"The {len(sets)} test sets show how {word}s differ.")
        else:
            texts.append(f"The intervals do not cover other {word}s.")
    elif comparison.results.cluster and not any(part.clustered for part in sets):
        texts.append(
            f"No {word}s are known in the test set, so the sampling units are single examples."
        )

    dropped = max(part.dropped for part in sets)
    if dropped:
        texts.append(f"Up to {dropped} examples are left out, since not all runs predicted them.")
    if comparison.left_out:
        texts.append(
            "Variants are compared on the replicates that all of them have; "
            f"{_count(comparison.left_out, 'more run')} left out."
        )
    known = {variant.name for variant in comparison.variants}
    known |= {run.variant for run in comparison.damaged}
    if lacking := [name for name in comparison.results.variants if name not in known]:
        texts.append(f"No run of {listed(list(map(quoted, lacking)))} has finished.")
    for variant in comparison.variants:
        if len(variant.runs) < variant.planned:
            have = f"{len(variant.runs)} of {variant.planned} replicates"
            texts.append(f"{quoted(variant.name)} has {have}.")
    return texts


def clock(results: Results) -> tuple[str, str]:
    """Returns which training time to report: its key in `result.json`, and its name.

    It is CPU time if all finished runs have it, else wall time. Wall time also counts other work on
    the machine, so it does not compare variants.
    """
    finished = [run.result for run in results.runs if run.result]
    known = all(result.get("cpu_seconds") is not None for result in finished)
    return ("cpu_seconds", "CPU time") if finished and known else ("seconds", "wall time")


def mean_result(runs: Sequence[Run], name: str) -> float | None:
    """Returns the mean over runs of a number in their results; None if no run has it."""
    known = [run.result[name] for run in runs if run.result.get(name) is not None]
    return math.fsum(known) / len(known) if known else None


def parameters(runs: Sequence[Run], kind: str) -> int | None:
    """Returns the number of parameters of a run, "total" or "recurrent"."""
    return (runs[0].result.get("parameters") or {}).get(kind)


def _count(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def listed(items: Sequence[str]) -> str:
    """Returns items for a sentence: "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _named(variants: Sequence[str]) -> str:
    """Returns the names of up to four variants, else their number."""
    return listed(variants) if len(variants) <= 4 else f"{len(variants)} variants"


def _others(found: Sequence[str], others: int) -> str:
    """Returns the names of up to three of the other variants, else their number."""
    if len(found) <= 3:
        return listed(found)
    if len(found) == others:
        return f"all {others} other variants"
    return f"{len(found)} of {others} other variants"


def _against(finding: Pair, scale: Scale) -> str:
    """Returns the difference of the first variant of a pair from the second."""
    side = "above" if finding.difference.value > 0 else "below"
    text = f"{size(finding.difference, scale)} {side} {quoted(finding.second)}"
    if finding.p is None:
        return text
    words = {Verdict.NOT_SHOWN: ", no difference shown", Verdict.EQUIVALENT: ", equivalent"}
    return f"{text} ({p_value(finding.p)}{words.get(finding.verdict, '')})"


def gate_model(shown: Excerpts) -> str:
    """Returns a legend for the gates shown with the examples; "" if there are none."""
    if shown.gate_model is None:
        return ""
    model, signal = shown.gate_model, next(iter(shown.excerpts.values())).signal
    return (
        f"The gates are those of run {model.run}, layer {model.layer}. Each row is a unit; dark is "
        "an open gate (1), blank is a closed gate (0). Units are sorted by their time constants, "
        f"from {length(model.slowest, signal)} at the top to {length(model.fastest, signal)} at "
        "the bottom."
    )
