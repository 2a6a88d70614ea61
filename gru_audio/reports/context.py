"""Notes beside the verdicts: the data, the baselines, and training that stopped too early."""

from collections.abc import Mapping, Sequence

import numpy as np

from gru_audio.reports import wording
from gru_audio.reports.baselines import Baseline
from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.results import Curve, Results

_FEWEST = 4  # evaluations needed to see a trend
_CLEAR = 2.0  # standard errors that an improvement must exceed
_LEAST_SHARE = 0.01  # smallest share of the whole improvement that the end must bring
_ROLES = {"train": "training", "validation": "validation", "test": "test"}


def data(comparison: Comparison) -> str:
    """Returns a sentence on the data set, its classes and the sizes of its splits."""
    results = comparison.results
    text = f"Data set: {results.config.get('data.name', 'unknown')}"
    if output_names := results.task.output_names:
        text += f", {len(output_names)} {results.task.output_words[1]} ({results.target})"
    sizes = [size for role, name in _ROLES.items() if (size := _size(comparison, role, name))]
    if not sizes:
        return f"{text}."
    folds = len(comparison.test_sets)
    where = f" in each of {folds} folds" if folds > 1 else ""
    return f"{text}; {wording.listed(sizes)} examples{where}."


def baselines(comparison: Comparison) -> list[Baseline]:
    """Returns the baselines in the order of the table, the trivial one first."""
    found = comparison.baselines
    return [*([found.trivial] if found.trivial else []), *found.linear]


def about(comparison: Comparison, baseline: Baseline) -> str:
    """Returns how a baseline was made and, if there are several, for which variants."""
    if baseline is comparison.baselines.trivial:
        return "ignores its input: chance level"
    if len(comparison.baselines.linear) > 1:
        return f"{baseline.about}; for {_listed(baseline.variants)}"
    return baseline.about


def notes(comparison: Comparison) -> list[str]:
    """Returns sentences on chance level, linear models, and training that stopped too early."""
    return [*_baseline_notes(comparison), *_training_notes(comparison)]


def sentences(comparison: Comparison) -> list[str]:
    """Returns all notes for the table; [] if no run has finished."""
    return [data(comparison), *notes(comparison)] if comparison.variants else []


def summary(comparison: Comparison) -> list[str]:
    """Returns the lines for the terminal: the verdict, its numbers, notes, and missing runs."""
    lines = [f"{wording.headline(comparison)}. {wording.evidence(comparison)}"]
    lines += sentences(comparison)
    if missing := wording.progress(comparison.results):
        lines.append(missing)
    return lines + wording.damages(comparison)


def _size(comparison: Comparison, role: str, name: str) -> str:
    """Returns the number of examples of a role: "2,400 to 2,700 training"; "" if unknown."""
    runs = [run for variant in comparison.variants for run in variant.runs]
    counts = [run.result.get("examples") for run in runs]
    counts = [each.get(role) if isinstance(each, Mapping) else None for each in counts]
    if role == "test":
        counts = [run.predictions["example"].size for run in runs]
    known = sorted({count for count in counts if isinstance(count, int) and count})
    if not known:
        return ""
    low, high = known[0], known[-1]
    return f"{low:,} {name}" if low == high else f"{low:,} to {high:,} {name}"


def _baseline_notes(comparison: Comparison) -> list[str]:
    found, metric = comparison.baselines, comparison.results.metric
    scale, texts = metric.scale, []
    if found.trivial:
        value = scale.value(found.trivial.value)
        texts.append(
            f"Chance level ({found.trivial.name}): a test {metric.title} of {value}, without "
            "reading the input."
        )
    for linear in found.linear:
        value = scale.value(linear.value)
        texts.append(
            f"Linear model: a test {metric.title} of {value} "
            f"({about(comparison, linear)}){_not_better(comparison, linear)}."
        )
    if found.missing:
        texts.append(f"Baselines are not computed: {found.missing}")
    return texts


def _not_better(comparison: Comparison, linear: Baseline) -> str:
    """Returns which variants are not better than a linear model; "" if all are better."""
    sign = 1 if comparison.results.metric.higher_is_better else -1
    own = [variant for variant in comparison.variants if variant.name in linear.variants]
    worse = [variant.name for variant in own if sign * (variant.estimate.value - linear.value) <= 0]
    if not worse:
        return ""
    if len(worse) == len(comparison.variants):
        return "; no variant is better" if len(worse) > 1 else "; the variant is not better"
    verb = "is" if len(worse) == 1 else "are"
    return f"; {_listed(worse)} {verb} not better"


def _training_notes(comparison: Comparison) -> list[str]:
    results = comparison.results
    rising = [
        variant.name for variant in comparison.variants if stopped_while_improving(results, variant)
    ]
    if not rising:
        return []
    return [
        f"{_listed(rising)} stopped while {results.selection.replace('/', ' ')} was improving: "
        "try more steps (config.train.steps)."
    ]


def _listed(variants: Sequence[str]) -> str:
    return wording.listed([wording.quoted(variant) for variant in variants])


def stopped_while_improving(results: Results, variant: Variant) -> bool:
    """Whether a variant's runs would probably improve with more steps.

    The criterion is the selection metric. Runs that early stopping or halving ended are ignored.
    """
    curves = [
        run.curves[results.selection]
        for run in variant.runs
        if results.selection in run.curves and run.result.get("steps") == run.run_state.steps
    ]
    up = results.metric_of(results.selection).higher_is_better
    return still_improving(curves, higher_is_better=up)


def still_improving(curves: Sequence[Curve], *, higher_is_better: bool) -> bool:
    """Whether the curves of a variant's replicates, taken together, still improve at their end.

    The end is the last eighth of the evaluations, and at least the last one. Two conditions must
    hold: most curves have their best value in the end; and on average the end is better than the
    eighth before it, by more than `_CLEAR` standard errors of the noise between evaluations and by
    more than `_LEAST_SHARE` of the whole improvement. A curve that has flattened, as under a cosine
    schedule, is not improving.
    """
    sign = 1 if higher_is_better else -1
    runs = [sign * curve.values for curve in curves if curve.values.size >= _FEWEST]
    if 2 * len(runs) <= len(curves):
        return False
    gains, variances, at_best = [], [], 0
    for values in runs:
        end = max(1, values.size // 8)
        gains.append(values[-end:].mean() - values[-2 * end : -end].mean())
        variances.append(2 / end * np.mean(_noise(values)))
        at_best += values[-end:].max() > values[:-end].max()
    gain, error = np.mean(gains), np.sqrt(np.mean(variances) / len(runs))
    whole = np.mean([values.max() - values[0] for values in runs])
    return bool(2 * at_best > len(runs) and gain > max(_CLEAR * error, _LEAST_SHARE * whole))


def _noise(values: np.ndarray) -> np.ndarray:
    """Returns estimates (n,) of the variance between evaluations in the second half of a curve.

    Third differences remove a quadratic trend. For independent noise they have 20 times the
    variance of the noise.
    """
    late = values[min(values.size // 2, values.size - _FEWEST) :]
    return np.diff(late, 3) ** 2 / 20
