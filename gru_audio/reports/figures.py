"""Draws the figures of a report. Each is `WIDTH` units wide: a column of the page, or a phone."""

import itertools
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gru_audio.reports import svg, wording
from gru_audio.reports.classes import ClassDifference
from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.results import Curve
from gru_audio.reports.statistics import Estimate
from gru_audio.reports.svg import INK, MUTED, PAPER, RULE, STYLE, WIDTH, Drawing, canvas
from gru_audio.reports.verdicts import Pair
from gru_audio.tasks.scale import MINUS

MATRIX_WIDTH = 360

_ROUND = (1, 2, 2.5, 5, 10)  # allowed steps between ticks, up to a power of ten
_CURVE_POINTS = 150  # more points are not visible at this width
_MAGNITUDES = 10  # smallest ratio of the largest to the smallest value for a logarithmic axis
_NUMBERED_CLASSES = 20  # a confusion matrix of more classes shows no counts
_ON_PAPER = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}  # hides grid lines behind text


def colour_variable(comparison: Comparison, variant: str) -> str:
    """Returns the CSS variable of a variant's colour, which is the same everywhere on the page."""
    return svg.colour_variable(comparison.results.variants.index(variant))


def test_metric(comparison: Comparison) -> Drawing:
    """Draws the test metric of every variant: estimate, interval, and a dot for each replicate."""
    metric = comparison.results.metric
    scale = metric.scale
    with matplotlib.rc_context(STYLE):
        rows = _Rows(
            [variant.name for variant in comparison.variants],
            [
                f"{scale.value(variant.estimate.value)} {scale.interval(variant.estimate)}"
                for variant in comparison.variants
            ],
            band=37,
        )
        for row, variant in enumerate(comparison.variants):
            colour = _colour(comparison, variant.name)
            rows.interval(row, variant.estimate, colour)
            spread = 16 + 3 * (np.arange(len(variant.values)) % 3)
            dots: dict[str, Any] = {"s": 26, "color": colour, "alpha": 0.45, "linewidths": 0}
            rows.axes.scatter(variant.values, rows.middle(row) + spread, **dots)
        rows.finish(f"test {metric.title}{scale.axis_unit}", scale)
        label = f"Test {metric.title} of each variant with 95 % intervals"
        return Drawing("metric", label, rows.figure)


def differences(comparison: Comparison, pairs: Sequence[Pair]) -> Drawing:
    """Draws the paired differences with their intervals, adjusted p-values and a line at zero."""
    metric = comparison.results.metric
    scale = metric.scale
    with matplotlib.rc_context(STYLE):
        rows = _Rows(
            [wording.pair_name(pair) for pair in pairs],
            [
                f"{scale.number(pair.difference.value, sign=True)} "
                f"{scale.interval(pair.difference)}"
                + (f", {wording.p_value(pair.p)}" if pair.p is not None else "")
                for pair in pairs
            ],
        )
        for row, pair in enumerate(pairs):
            colour = _colour(comparison, pair.better) if pair.better else MUTED
            rows.interval(row, pair.difference, colour)
        unit = f" ({scale.difference_unit.strip()})" if scale.difference_unit else ""
        rows.finish(f"difference in test {metric.title}{unit}", scale, zero=True)
        label = f"Differences in test {metric.title} with 95 % intervals"
        return Drawing("differences", label, rows.figure)


def learning_curve(comparison: Comparison, name: str) -> Drawing | None:
    """Draws the learning curves of a metric: mean, and band from lowest to highest replicate.

    A curve ends when fewer than half of the variant's replicates are still in training. Returns
    None if no run has the metric.
    """
    curves = {
        variant.name: [run.curves[name] for run in variant.runs if name in run.curves]
        for variant in comparison.variants
    }
    every = list(itertools.chain(*curves.values()))
    if not every:
        return None
    split, metric = name.partition("/")[0], comparison.results.metric_of(name)
    scale = metric.scale
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(210, left=46, bottom=40, right=18)
        for variant, members in curves.items():
            if not members:
                continue
            steps, mean, low, high = _band(members)
            colour = _colour(comparison, variant)
            if len(members) > 1:
                axes.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0)
            line: dict[str, Any] = {"color": colour, "linewidth": 1.8, "markersize": 7}
            # A line through a single point is not visible.
            alone = steps.size == 1
            line |= {"marker": "o" if alone else "", "clip_on": not alone}
            axes.plot(steps, mean, solid_joinstyle="round", **line)
        title = f"{split} {metric.title}"
        _frame(axes, title, "training step", scale)
        axes.set_xlim(0, max(curve.steps.max() for curve in every))
        if math.isinf(metric.bounds[1]) and _spans_magnitudes(every):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            axes.yaxis.set_minor_formatter("")
        else:
            _show_the_end(axes, every)
        return Drawing(f"curve-{split}-{metric.name}", f"{title} during training", figure)


def confusion(comparison: Comparison, variant: Variant) -> Drawing | None:
    """Draws the counts of true against predicted class, summed over replicates.

    The shade of a cell is the square root of its share of the row, so that rare errors are visible.
    Returns None if the task has no such counts.
    """
    task = comparison.results.task
    names, matrices = task.output_names, [task.confusion(run.predictions) for run in variant.runs]
    known = [matrix for matrix in matrices if matrix is not None]
    if not known:
        return None
    counts = np.sum(known, axis=0)
    share = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    numbered = len(names) <= _NUMBERED_CLASSES
    font = 9 if len(names) <= 12 else 7 if numbered else 6
    margin = 14 + min(90, round(0.58 * font * max(map(len, names))))
    cell = (MATRIX_WIDTH - margin - 6) / len(names)
    flat = 0.62 * font * max(map(len, names)) < 0.9 * cell
    with matplotlib.rc_context(STYLE):
        below = 34 if flat else margin + 14
        figure, axes = canvas(
            round(cell * len(names)), left=margin, bottom=below, right=6, top=4, width=MATRIX_WIDTH
        )
        colour = _colour(comparison, variant.name)
        for i, j in zip(*np.nonzero(counts), strict=True):
            axes.add_patch(Rectangle((j, i), 1, 1, color=colour, alpha=share[i, j], linewidth=0))
            if numbered:
                ink: dict[str, Any] = {
                    "color": PAPER if share[i, j] > 0.7 else INK,
                    "size": font + 1,
                }
                axes.text(j + 0.5, i + 0.53, f"{counts[i, j]}", ha="center", va="center", **ink)
        axes.set(xlim=(0, len(names)), ylim=(len(names), 0), xlabel="predicted", ylabel="true")
        named = np.arange(0, len(names), max(1, round(font / cell)))  # names need their height
        shown = [names[i] for i in named]
        axes.set_xticks(named + 0.5, shown, size=font, rotation=0 if flat else 90)
        axes.set_yticks(named + 0.5, shown, size=font)
        axes.tick_params(pad=2)
        axes.spines[:].set_visible(True)
        number = comparison.results.variants.index(variant.name) + 1
        return Drawing(f"confusion-{number}", f"Confusion matrix of {variant.name}", figure)


def class_differences(comparison: Comparison, shown: Sequence[ClassDifference]) -> Drawing:
    """Draws the best variant minus the second for each class, in the task's metric of a class."""
    first, second = (variant.name for variant in comparison.variants[:2])
    metric = comparison.results.task.output_metric
    scale = metric.scale
    with matplotlib.rc_context(STYLE):
        rows = _Rows(
            [each.name for each in shown],
            [
                f"{scale.number(each.values[0])} {MINUS} "
                f"{scale.number(each.values[1])} = "
                f"{scale.number(each.difference.value, sign=True)} "
                f"{scale.interval(each.difference)}"
                for each in shown
            ],
        )
        for row, each in enumerate(shown):
            better = each.pair.better
            rows.interval(row, each.difference, _colour(comparison, better) if better else MUTED)
        label = f"difference in {metric.title} ({scale.difference_unit.strip()})"
        rows.finish(label, scale, zero=True)
        title, one = metric.title, comparison.results.task.output_words[0]
        title = f"{title[0].upper()}{title[1:]} of each {one}"
        label = f"{title}, {first} minus {second}, with 95 % intervals"
        return Drawing("classes", label, rows.figure)


def metric_against_cost(
    comparison: Comparison, cost: Sequence[float], label: str, text: Callable[[float], str]
) -> Drawing:
    """Draws the test metric of each variant against its cost, with the Pareto front.

    Args:
        comparison: the comparison of the variants.
        cost: positive cost of each variant, in their order; the axis is logarithmic.
        label: axis label of the cost.
        text: formats a cost.
    """
    metric = comparison.results.metric
    scale = metric.scale
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(250, left=46, bottom=40, right=18)
        axes.set_xscale("log")
        front = pareto_front(
            cost,
            [variant.estimate.value for variant in comparison.variants],
            metric.higher_is_better,
        )
        along = [cost[i] for i in front], [comparison.variants[i].estimate.value for i in front]
        axes.plot(*along, color=MUTED, linewidth=1.2, drawstyle="steps-post", zorder=1)
        for variant, x in zip(comparison.variants, cost, strict=True):
            colour, e = _colour(comparison, variant.name), variant.estimate
            axes.plot([x, x], [e.low, e.high], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(x, e.value, "o", color=colour, markersize=8, markeredgecolor=PAPER)
        axes.margins(x=0.18, y=0.12)
        _frame(axes, f"test {metric.title}", label, scale)
        axes.set_xticks([min(cost), max(cost)])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: text(v)))
        axes.autoscale_view()  # `_name_points` needs the final limits
        _name_points(axes, comparison, cost)
        name = f"cost-{re.sub('[^a-z]+', '-', label.lower())}"
        return Drawing(name, f"Test {metric.title} against {label}", figure)


def pareto_front(
    cost: Sequence[float], values: Sequence[float], higher_is_better: bool
) -> list[int]:
    """Returns the indices of the Pareto front, the cheapest first.

    An element is on the front if it is better than all that cost no more.
    """
    sign = 1 if higher_is_better else -1
    front: list[int] = []
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -sign * values[i])):
        if not front or sign * values[i] > sign * values[front[-1]]:
            front.append(i)
    return front


def _name_points(axes: Axes, comparison: Comparison, cost: Sequence[float]) -> None:
    """Writes each variant's name beside its point, if a place is free."""
    size, wide, high = 11, 7.0, 13.0  # font size; width and height of a letter in units
    points = axes.transData.transform(
        [(x, variant.estimate.value) for variant, x in zip(comparison.variants, cost, strict=True)]
    )
    left, right = axes.bbox.x0, axes.bbox.x1
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for variant, x in zip(comparison.variants, cost, strict=True):
        ends = [(x, variant.estimate.low), (x, variant.estimate.high)]
        (at, low), (_, high) = axes.transData.transform(ends)
        taken.append((at - 1, low, at + 1, high))
    for variant, (x, y) in zip(comparison.variants, points, strict=True):
        width = wide * len(variant.name)
        places = itertools.product((y + 12, y - 12, y), ((x + 8, "left"), (x - 8, "right")))
        for middle, (edge, side) in places:
            start = edge if side == "left" else edge - width
            box = (start, middle - high / 2, start + width, middle + high / 2)
            if start < left or box[2] > right or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            at_x, at_y = axes.transData.inverted().transform((edge, middle))
            axes.text(at_x, at_y, variant.name, ha=side, va="center", size=size, bbox=_ON_PAPER)
            break


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes (left, bottom, right, top) overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _colour(comparison: Comparison, variant: str) -> str:
    return svg.variant_colour(comparison.results.variants.index(variant))


class _Rows:
    """A figure of rows. Each row has a heading with a name and numbers, and below it a plot band.

    The vertical axis is in units of the figure, measured from the top. If a name and its numbers do
    not fit in one line, the numbers go below the name.
    """

    _LINE, _LETTER = 17, 0.64  # height of a line; width of a letter in DejaVu Sans of size 1

    def __init__(self, names: Sequence[str], numbers: Sequence[str], band: int = 22):
        width = WIDTH - 20
        letters = [1.1 * len(a) + len(b) + 2 for a, b in zip(names, numbers, strict=True)]
        size = min(12, width / (self._LETTER * max(letters)))
        together = size >= 10
        size = size if together else 11
        letter = 1.1 * self._LETTER * size  # width of a letter of a name; names are bold
        wrapped = [textwrap.wrap(name, int(width / letter)) or [""] for name in names]
        below = 0 if together else 1
        heights = [self._LINE * (len(name) + below) + band for name in wrapped]
        self._tops = np.cumsum([0, *heights])
        self._middles = self._tops[1:] - band + 10
        self.figure, self.axes = canvas(int(self._tops[-1]), left=10, bottom=40, top=4)
        across = self.axes.get_yaxis_transform()
        for top, name, number in zip(self._tops, wrapped, numbers, strict=False):
            text: dict[str, Any] = {"transform": across, "va": "center", "size": size}
            for i, part in enumerate(name):
                y = top + self._LINE * (i + 0.5)
                self.axes.text(0, y, part, weight="bold", **text)
            y = top + self._LINE * (len(name) - 0.5 + below)
            x, side = (0, "left") if below else (1, "right")
            self.axes.text(x, y, number, color=MUTED, ha=side, **text)

    def middle(self, row: int) -> float:
        """Returns the vertical position of a row's interval."""
        return float(self._middles[row])

    def interval(self, row: int, estimate: Estimate, colour: str) -> None:
        """Draws an estimate and its interval."""
        y = self.middle(row)
        (line,) = self.axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=3)
        line.set_solid_capstyle("round")
        dot: dict[str, Any] = {"color": colour, "markersize": 9, "markeredgecolor": PAPER}
        self.axes.plot(estimate.value, y, "o", **dot)

    def finish(self, label: str, scale: wording.Scale, *, zero: bool = False) -> None:
        """Draws the axis, and in every band the grid and, where asked for, a line at zero."""
        axes = self.axes
        axes.set_ylim(self._tops[-1], 0)
        axes.set_yticks([])
        axes.margins(x=0.05)
        if zero:
            axes.update_datalim([(0, self._tops[-1])])
        axes.autoscale_view(scaley=False)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=_ROUND))
        axes.xaxis.set_major_formatter(_in_units_of(scale))
        axes.set_xlabel(label)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high)
        grid = [tick for tick in axes.get_xticks() if low <= tick <= high]
        for middle, end in zip(self._middles, self._tops[1:], strict=True):
            axes.vlines(grid, middle - 8, end - 2, color=RULE, linewidth=1, zorder=0)
            if zero:
                axes.vlines(0, middle - 8, end - 2, color=INK, linewidth=1, zorder=1)


def _frame(axes: Axes, title: str, label: str, scale: wording.Scale) -> None:
    """Formats a plot: `title` names the vertical axis, `label` the horizontal one."""
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    axes.yaxis.set_major_formatter(_in_units_of(scale))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
    axes.set_xlabel(label)
    axes.spines["bottom"].set_visible(True)
    left = -36 / (WIDTH - 64)
    axes.set_title(f"{title}{scale.axis_unit}", loc="left", fontsize=12, x=left, pad=10)


def _in_units_of(scale: wording.Scale) -> FuncFormatter:
    """Returns the formatter of the ticks of a metric's axis."""
    return FuncFormatter(lambda v, _: f"{v * scale.factor:g}".replace("-", MINUS))


def _band(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns steps, and the mean, minimum and maximum over the curves that reach each step."""
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    at = np.stack([np.interp(steps, c.steps, c.values, right=np.nan) for c in curves])
    alive = np.isfinite(at).sum(axis=0) * 2 >= len(curves)
    steps, at = steps[alive], at[:, alive]
    if steps.size > _CURVE_POINTS:
        kept = np.linspace(0, steps.size - 1, _CURVE_POINTS).round().astype(int)
        steps, at = steps[kept], at[:, kept]
    return steps, np.nanmean(at, axis=0), np.nanmin(at, axis=0), np.nanmax(at, axis=0)


def _spans_magnitudes(curves: Sequence[Curve]) -> bool:
    """Whether the curves are positive and wide enough for ticks on a logarithmic axis."""
    least = min(curve.values.min() for curve in curves)
    return bool(0 < least * _MAGNITUDES <= max(curve.values.max() for curve in curves))


def _show_the_end(axes: Axes, curves: Sequence[Curve]) -> None:
    """Fits the vertical axis to the values after the first fifth of the steps."""
    start = max(curve.steps.max() for curve in curves) / 5
    late = np.concatenate([curve.values[curve.steps >= start] for curve in curves])
    margin = 0.06 * (late.max() - late.min()) or 0.01
    axes.set_ylim(late.min() - margin, late.max() + margin)
