"""Chooses and draws the figures of a report."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gru_audio.reports import classes, figures, wording
from gru_audio.reports.comparison import Comparison
from gru_audio.reports.probabilities import ProbabilityFigures, draw_probabilities
from gru_audio.reports.svg import Drawing

_SHOWN_PAIRS = 10  # with more pairs, the figure shows those of the best variant
_MANY_CLASSES = 20  # with more classes, the figure shows those with the largest differences
_LEAST_RATIO = 1.25  # smallest ratio of the highest to the lowest cost that gets a figure


@dataclass(frozen=True)
class ClassFigure:
    """The difference of the two best variants in `shown` of `of` classes."""

    drawing: Drawing
    variants: tuple[str, str]
    shown: int
    of: int


@dataclass(frozen=True)
class FigureSet:
    """The figures of a report. A figure without data is None or missing.

    Attributes:
        metric: test metric of every variant.
        differences: differences of pairs of variants.
        curves: metrics during training.
        costs: test metric against the cost of a variant.
        classes: see `ClassFigure`.
        confusions: (variant, confusion matrix).
        probabilities: see `ProbabilityFigures`.
    """

    metric: Drawing | None = None
    differences: Drawing | None = None
    curves: tuple[Drawing, ...] = ()
    costs: tuple[Drawing, ...] = ()
    classes: ClassFigure | None = None
    confusions: tuple[tuple[str, Drawing], ...] = ()
    probabilities: ProbabilityFigures | None = None

    def __iter__(self) -> Iterator[Drawing]:
        """Yields all figures."""
        for single in (self.metric, self.differences):
            if single:
                yield single
        yield from self.curves
        yield from self.costs
        if self.classes:
            yield self.classes.drawing
        for _, drawing in self.confusions:
            yield drawing
        if self.probabilities:
            yield from self.probabilities.drawings


def draw_figures(comparison: Comparison) -> FigureSet:
    """Draws all figures that have data."""
    variants, results = comparison.variants, comparison.results
    if not variants:
        return FigureSet()
    pairs = comparison.pairs
    if len(pairs) > _SHOWN_PAIRS:
        pairs = tuple(pair for pair in pairs if pair.first == variants[0].name)
    names = dict.fromkeys(("train/loss", f"validation/{results.metric.name}", results.selection))
    curves = [figures.learning_curve(comparison, name) for name in names]
    confusions = [(variant.name, figures.confusion(comparison, variant)) for variant in variants]
    return FigureSet(
        metric=figures.test_metric(comparison),
        differences=figures.differences(comparison, pairs) if pairs else None,
        curves=tuple(curve for curve in curves if curve),
        costs=_costs(comparison),
        classes=_classes(comparison),
        confusions=tuple((name, drawing) for name, drawing in confusions if drawing),
        probabilities=draw_probabilities(comparison),
    )


def _classes(comparison: Comparison) -> ClassFigure | None:
    found = classes.class_differences(comparison)
    if not found:
        return None
    shown = classes.most_different(found) if len(found) > _MANY_CLASSES else found
    first, second = comparison.variants[:2]
    drawing = figures.class_differences(comparison, shown)
    names = wording.quoted(first.name), wording.quoted(second.name)
    return ClassFigure(drawing, names, len(shown), len(found))


def _costs(comparison: Comparison) -> tuple[Drawing, ...]:
    """Draws the test metric against each kind of cost, if the costs differ enough."""
    variants = comparison.variants
    seconds, clock = wording.clock(comparison.results)
    costs: dict[str, tuple[list[float | None], Callable[[float], str]]] = {
        "parameters": (
            [wording.parameters(variant.runs, "total") for variant in variants],
            lambda count: f"{count:,.0f}",
        ),
        f"training, {clock}": (
            [wording.mean_result(variant.runs, seconds) for variant in variants],
            wording.duration,
        ),
    }
    drawn = []
    for label, (cost, text) in costs.items():
        known = [value for value in cost if value]
        if len(known) == len(variants) >= 2 and max(known) >= _LEAST_RATIO * min(known):
            drawn.append(figures.metric_against_cost(comparison, known, label, text))
    return tuple(drawn)
