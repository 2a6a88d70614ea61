"""What a reader needs beside the verdicts: data, baselines, and training that was cut short."""

from collections.abc import Mapping, Sequence

import numpy as np

from gru_audio.reports import wording
from gru_audio.reports.baselines import Baseline
from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.results import Curve, Results

_FEWEST = 4  # evaluations from which a trend can be told
_CLEAR = 2.0  # standard errors that an improvement must exceed
_LEAST_SHARE = 0.01  # of the whole improvement that the end must bring
_ROLES = {"train": "training", "validation": "validation", "test": "test"}


def data(comparison: Comparison) -> str:
    """The data set, its classes and the sizes of its splits, as a sentence or two."""
    results = comparison.results
    said = f"Data set: {results.config.get('data.name', 'unknown')}"
    if output_names := results.task.output_names:
        said += f", {len(output_names)} {results.task.output_words[1]} ({results.target})"
    sizes = [size for role, name in _ROLES.items() if (size := _size(comparison, role, name))]
    if not sizes:
        return f"{said}."
    folds = len(comparison.test_sets)
    where = f" in each of {folds} folds" if folds > 1 else ""
    return f"{said}; {wording.listed(sizes)} examples{where}."


def baselines(comparison: Comparison) -> list[Baseline]:
    """The baselines in the order of the table: the trivial one first."""
    found = comparison.baselines
    return [*([found.trivial] if found.trivial else []), *found.linear]


def about(comparison: Comparison, baseline: Baseline) -> str:
    """How a baseline was made, and what it is a baseline of where that is not all variants."""
    if baseline is comparison.baselines.trivial:
        return "ignores its input: chance level"
    if len(comparison.baselines.linear) > 1:
        return f"{baseline.about}; for {_listed(baseline.variants)}"
    return baseline.about


def notes(comparison: Comparison) -> list[str]:
    """Sentences on chance level, on the linear models, and on training that should go on."""
    return [*_baseline_notes(comparison), *_training_notes(comparison)]


def sentences(comparison: Comparison) -> list[str]:
    """All of it, for the table; nothing where no run has finished."""
    return [data(comparison), *notes(comparison)] if comparison.variants else []


def summary(comparison: Comparison) -> list[str]:
    """What a terminal shows: the verdict, its numbers, their context, and what is missing."""
    lines = [f"{wording.headline(comparison)}. {wording.evidence(comparison)}"]
    lines += sentences(comparison)
    if missing := wording.progress(comparison.results):
        lines.append(missing)
    return lines + wording.damages(comparison)


def _size(comparison: Comparison, role: str, name: str) -> str:
    """How many examples a role has, such as "2,400 to 2,700 training"; "" if none or unknown."""
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
    scale, said = metric.scale, []
    if found.trivial:
        value = scale.value(found.trivial.value)
        said.append(
            f"Chance level ({found.trivial.name}): a test {metric.title} of {value} without any "
            "look at the input."
        )
    for linear in found.linear:
        value = scale.value(linear.value)
        said.append(
            f"Linear model: a test {metric.title} of {value} "
            f"({about(comparison, linear)}){_beside(comparison, linear)}."
        )
    if found.missing:
        said.append(f"Baselines are not computed: {found.missing}")
    return said


def _beside(comparison: Comparison, linear: Baseline) -> str:
    """Which variants are not better than a linear model."""
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
        f"{_listed(rising)} stopped while improving ({results.selection.replace('/', ' ')}): "
        "try more steps (config.train.steps)."
    ]


def _listed(variants: Sequence[str]) -> str:
    return wording.listed([wording.quoted(variant) for variant in variants])


def stopped_while_improving(results: Results, variant: Variant) -> bool:
    """Whether the runs of a variant would probably have become better with more steps.

    By the validation metric that selects. Runs that early stopping or halving has ended do not
    count.
    """
    curves = [
        run.curves[results.selection]
        for run in variant.runs
        if results.selection in run.curves and run.result.get("steps") == run.standing.steps
    ]
    up = results.metric_of(results.selection).higher_is_better
    return still_improving(curves, higher_is_better=up)


def still_improving(curves: Sequence[Curve], *, higher_is_better: bool) -> bool:
    """Whether the curves of a variant's replicates, taken together, still improve at their end.

    The end is the last eighth of the evaluations, or the last one of a few. Most curves must have
    their best value there. On average the end must be better than the eighth before it: by more
    than the spread between evaluations explains, and by a hundredth of the whole improvement. A
    curve that has flattened, as under a cosine schedule, is thus no longer improving.
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
    """Estimates (n,) of the variance between evaluations, from the second half of a curve.

    Third differences leave nothing of a trend that is a parabola. Of independent noise they have 20
    times the variance.
    """
    late = values[min(values.size // 2, values.size - _FEWEST) :]
    return np.diff(late, 3) ** 2 / 20
