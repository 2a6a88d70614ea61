"""The figures of a report, each as an SVG element `WIDTH` units wide: a column, or a phone."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gru_audio.reporting import svg, wording
from gru_audio.reporting.classes import ClassDifference
from gru_audio.reporting.comparison import Arm, Comparison
from gru_audio.reporting.results import Curve
from gru_audio.reporting.statistics import Estimate
from gru_audio.reporting.svg import INK, MUTED, PAPER, STYLE, WIDTH, canvas, to_svg
from gru_audio.reporting.verdicts import Pair

MATRIX_WIDTH = 360

_ROUND = (1, 2, 2.5, 5, 10)  # first digits of the steps between ticks
_CURVE_POINTS = 150  # more cannot be seen at this width
_NUMBERED_CLASSES = 20  # a confusion matrix of more has no room for counts


def arm_variable(comparison: Comparison, arm: str) -> str:
    """The CSS variable that holds an arm's colour, the same wherever the arm appears."""
    return svg.arm_variable(comparison.results.arms.index(arm))


def test_metric(comparison: Comparison) -> str:
    """The test metric of every arm: estimate and interval above, its replicates as dots below."""
    metric = comparison.results.metric
    scale = wording.scale_of(metric)
    row = 54
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(row * len(comparison.arms), left=10, bottom=40, top=4)
        numbers = [
            f"{scale.value(arm.estimate.value)} {scale.interval(arm.estimate)}"
            for arm in comparison.arms
        ]
        _headings(axes, [arm.name for arm in comparison.arms], numbers)
        for y, arm in enumerate(comparison.arms):
            colour = _colour(comparison, arm.name)
            _interval(axes, y, arm.estimate, colour)
            spread = 0.30 + 0.04 * (np.arange(len(arm.values)) % 3)
            axes.scatter(arm.values, y + spread, s=26, color=colour, alpha=0.45, linewidths=0)
        _rows(axes, len(comparison.arms), f"test {metric}{scale.axis_unit}", scale)
        return to_svg(figure, "metric", f"Test {metric} of each arm with 95 % intervals", halo=True)


def differences(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """The paired differences with their intervals and adjusted p-values, beside zero."""
    metric = comparison.results.metric
    scale = wording.scale_of(metric)
    row = 46
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(row * len(pairs), left=10, bottom=40, top=4)
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        numbers = [
            f"{scale.number(pair.difference.value, sign=True)} {scale.interval(pair.difference)}"
            + (f", {wording.p_value(pair.p)}" if pair.p is not None else "")
            for pair in pairs
        ]
        _headings(axes, [f"{pair.first} {wording.MINUS} {pair.second}" for pair in pairs], numbers)
        for y, pair in enumerate(pairs):
            colour = _colour(comparison, pair.better) if pair.better else MUTED
            _interval(axes, y, pair.difference, colour)
        unit = f" ({scale.difference_unit.strip()})" if scale.difference_unit else ""
        _rows(axes, len(pairs), f"difference in test {metric}{unit}", scale)
        return to_svg(
            figure, "differences", f"Differences in test {metric} with 95 % intervals", halo=True
        )


def learning_curve(comparison: Comparison, name: str) -> str | None:
    """A training metric of every arm: its mean, and the band from lowest to highest replicate.

    Drawn while at least half of an arm's replicates are still in training. None if no run has it.
    """
    curves = {
        arm.name: [run.curves[name] for run in arm.runs if name in run.curves]
        for arm in comparison.arms
    }
    every = list(itertools.chain(*curves.values()))
    if not every:
        return None
    split, _, metric = name.partition("/")
    scale = wording.scale_of(metric)
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(210, left=46, bottom=40, right=18)
        for arm, members in curves.items():
            if not members:
                continue
            steps, mean, low, high = _band(members)
            colour = _colour(comparison, arm)
            if len(members) > 1:
                axes.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(steps, mean, color=colour, linewidth=1.8, solid_joinstyle="round")
        title = f"{split} {metric}"
        _frame(axes, title, "training step", scale)
        axes.set_xlim(0, max(curve.steps.max() for curve in every))
        if metric == "loss" and all(curve.values.min() > 0 for curve in every):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            axes.yaxis.set_minor_formatter("")
        else:
            _show_the_end(axes, every)
        return to_svg(figure, f"curve-{split}-{metric}", f"{title} during training")


def confusion(comparison: Comparison, arm: Arm) -> str:
    """Counts of true against predicted class, summed over replicates; shade is the share of a row.

    The shade follows the square root of the share: else the errors of a good arm would not show.
    """
    names = comparison.results.class_names
    counts = confusion_counts(arm, len(names))
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
        colour = _colour(comparison, arm.name)
        for i, j in zip(*np.nonzero(counts), strict=True):
            axes.add_patch(Rectangle((j, i), 1, 1, color=colour, alpha=share[i, j], linewidth=0))
            if numbered:
                ink: dict[str, Any] = {
                    "color": PAPER if share[i, j] > 0.7 else INK,
                    "size": font + 1,
                }
                axes.text(j + 0.5, i + 0.53, f"{counts[i, j]}", ha="center", va="center", **ink)
        axes.set(xlim=(0, len(names)), ylim=(len(names), 0), xlabel="predicted", ylabel="true")
        middle = np.arange(len(names)) + 0.5
        axes.set_xticks(middle, names, size=font, rotation=0 if flat else 90)
        axes.set_yticks(middle, names, size=font)
        axes.tick_params(pad=2)
        axes.spines[:].set_visible(True)
        return to_svg(figure, f"confusion-{arm.name}", f"Confusion matrix of {arm.name}")


def confusion_counts(arm: Arm, classes: int) -> np.ndarray:
    """Counts by true and predicted class, int (classes, classes), summed over the arm's runs."""
    counts = np.zeros(classes * classes, np.int64)
    for run in arm.runs:
        label, probabilities = run.predictions.label, run.predictions.probabilities
        assert label is not None and probabilities is not None  # there are classes
        predicted = probabilities.argmax(axis=1)
        counts += np.bincount(label * classes + predicted, minlength=counts.size)
    return counts.reshape(classes, classes)


def class_differences(comparison: Comparison, shown: Sequence[ClassDifference]) -> str:
    """The recall of the best arm less that of the second, class by class, beside zero."""
    first, second = (arm.name for arm in comparison.arms[:2])
    names, scale = comparison.results.class_names, wording.scale_of("accuracy")
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(40 * len(shown), left=10, bottom=40, top=4)
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        numbers = [
            f"{scale.number(each.recalls[0])} {wording.MINUS} {scale.number(each.recalls[1])} = "
            f"{scale.number(each.difference.value, sign=True)} {scale.interval(each.difference)}"
            for each in shown
        ]
        _headings(axes, [names[each.label] for each in shown], numbers)
        for y, each in enumerate(shown):
            better = each.pair.better
            _interval(axes, y, each.difference, _colour(comparison, better) if better else MUTED)
        label = f"difference in recall ({scale.difference_unit.strip()})"
        _rows(axes, len(shown), label, scale)
        said = f"Recall of each class, {first} less {second}, with 95 % intervals"
        return to_svg(figure, "classes", said, halo=True)


def metric_against_cost(
    comparison: Comparison, cost: Sequence[float], label: str, told: Callable[[float], str]
) -> str:
    """The test metric of each arm against what it costs, and the front that none is beyond.

    Args:
        comparison: of the arms.
        cost: in the order of the arms, above zero; on a logarithmic scale.
        label: of the cost.
        told: the cost in words.
    """
    metric = comparison.results.metric
    scale = wording.scale_of(metric)
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(250, left=46, bottom=40, right=18)
        axes.set_xscale("log")
        front = pareto_front(
            cost,
            [arm.estimate.value for arm in comparison.arms],
            comparison.results.higher_is_better,
        )
        along = [cost[i] for i in front], [comparison.arms[i].estimate.value for i in front]
        axes.plot(*along, color=MUTED, linewidth=1.2, drawstyle="steps-post", zorder=1)
        for arm, x in zip(comparison.arms, cost, strict=True):
            colour, e = _colour(comparison, arm.name), arm.estimate
            axes.plot([x, x], [e.low, e.high], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(x, e.value, "o", color=colour, markersize=8, markeredgecolor=PAPER)
        axes.margins(x=0.18, y=0.12)
        _frame(axes, f"test {metric}", label, scale)
        axes.set_xticks([min(cost), max(cost)])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: told(v)))
        axes.autoscale_view()  # before names are placed in it
        _name_points(axes, comparison, cost)
        return to_svg(figure, f"cost-{label}", f"Test {metric} against {label}", halo=True)


def pareto_front(
    cost: Sequence[float], values: Sequence[float], higher_is_better: bool
) -> list[int]:
    """Those, from the cheapest on, that are better than all that cost no more."""
    sign = 1 if higher_is_better else -1
    front: list[int] = []
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -sign * values[i])):
        if not front or sign * values[i] > sign * values[front[-1]]:
            front.append(i)
    return front


def _name_points(axes: Axes, comparison: Comparison, cost: Sequence[float]) -> None:
    """Each arm's name beside its point, where it hides no other name and no point."""
    size, wide, high = 11, 7.0, 13.0  # of a letter, in units
    points = axes.transData.transform(
        [(x, arm.estimate.value) for arm, x in zip(comparison.arms, cost, strict=True)]
    )
    left, right = axes.bbox.x0, axes.bbox.x1
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for arm, (x, y) in zip(comparison.arms, points, strict=True):
        width = wide * len(arm.name)
        places = itertools.product((y + 12, y - 12, y), ((x + 8, "left"), (x - 8, "right")))
        for middle, (edge, side) in places:
            start = edge if side == "left" else edge - width
            box = (start, middle - high / 2, start + width, middle + high / 2)
            if start < left or box[2] > right or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            at_x, at_y = axes.transData.inverted().transform((edge, middle))
            axes.text(at_x, at_y, arm.name, ha=side, va="center", size=size)
            break


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes (left, bottom, right, top) meet."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _colour(comparison: Comparison, arm: str) -> str:
    return svg.arm_colour(comparison.results.arms.index(arm))


def _headings(axes: Axes, names: Sequence[str], numbers: Sequence[str]) -> None:
    """What each row is about, and its numbers, above what the row shows."""
    across = axes.get_yaxis_transform()
    longest = max(1.1 * len(a) + len(b) for a, b in zip(names, numbers, strict=True))
    size = min(12, 650 / longest)  # of DejaVu, a wide typeface
    for y, (name, number) in enumerate(zip(names, numbers, strict=True)):
        row: dict[str, Any] = {"y": y - 0.22, "transform": across, "va": "center", "size": size}
        axes.text(0, s=name, weight="bold", **row)
        axes.text(1, s=number, ha="right", color=MUTED, **row)


def _interval(axes: Axes, y: int, estimate: Estimate, colour: str) -> None:
    line = axes.plot([estimate.low, estimate.high], [y + 0.1, y + 0.1], color=colour, linewidth=3)
    line[0].set_solid_capstyle("round")
    axes.plot(estimate.value, y + 0.1, "o", color=colour, markersize=9, markeredgecolor=PAPER)


def _frame(axes: Axes, title: str, label: str, scale: wording.Scale) -> None:
    """A plot over a number: the title says what goes up, `label` what goes along."""
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    axes.yaxis.set_major_formatter(_in_units_of(scale))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
    axes.set_xlabel(label)
    axes.spines["bottom"].set_visible(True)
    left = -36 / (WIDTH - 64)
    axes.set_title(f"{title}{scale.axis_unit}", loc="left", fontsize=12, x=left, pad=10)


def _rows(axes: Axes, count: int, label: str, scale: wording.Scale) -> None:
    axes.set_ylim(count - 0.45, -0.5)
    axes.set_yticks([])
    axes.margins(x=0.05)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=_ROUND))
    axes.xaxis.set_major_formatter(_in_units_of(scale))
    axes.set_xlabel(label)


def _in_units_of(scale: wording.Scale) -> FuncFormatter:
    """Ticks of a metric's axis."""
    return FuncFormatter(lambda v, _: f"{v * scale.factor:g}".replace("-", wording.MINUS))


def _band(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, and the mean, lowest and highest of the curves that still go on there."""
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    at = np.stack([np.interp(steps, c.steps, c.values, right=np.nan) for c in curves])
    alive = np.isfinite(at).sum(axis=0) * 2 >= len(curves)
    steps, at = steps[alive], at[:, alive]
    if steps.size > _CURVE_POINTS:
        kept = np.linspace(0, steps.size - 1, _CURVE_POINTS).round().astype(int)
        steps, at = steps[kept], at[:, kept]
    return steps, np.nanmean(at, axis=0), np.nanmin(at, axis=0), np.nanmax(at, axis=0)


def _show_the_end(axes: Axes, curves: Sequence[Curve]) -> None:
    """Shows the values after a fifth of the steps: those before would flatten the rest."""
    start = max(curve.steps.max() for curve in curves) / 5
    late = np.concatenate([curve.values[curve.steps >= start] for curve in curves])
    room = 0.06 * (late.max() - late.min()) or 0.01
    axes.set_ylim(late.min() - room, late.max() + room)
