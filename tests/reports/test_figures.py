import re
from xml.etree import ElementTree

import numpy as np
import pytest
import sklearn.metrics
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gru_audio.reports import figures
from gru_audio.reports.classes import class_differences
from gru_audio.reports.comparison import compare
from gru_audio.reports.results import read_results
from tests.reports.workdirs import DIGITS, Made, write_workdir


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    made = Made(variants={"gru": 5.0, "lstm": 4.0, "a < b & c": 2.0}, seeds=3)
    return compare(read_results(write_workdir(tmp_path_factory.mktemp("made"), made)))


@pytest.fixture(scope="module")
def drawings(comparison):
    return {
        "metric": figures.test_metric(comparison),
        "differences": figures.differences(comparison, comparison.pairs),
        "loss": figures.learning_curve(comparison, "train/loss"),
        "accuracy": figures.learning_curve(comparison, "validation/accuracy"),
        "confusion": figures.confusion(comparison, comparison.variants[0]),
        "classes": figures.class_differences(comparison, class_differences(comparison)),
        "cost": figures.metric_against_cost(
            comparison, [30.0, 40.0, 50.0], "time", "{:.0f} s".format
        ),
    }


@pytest.fixture(scope="module")
def drawn(drawings):
    return {name: drawing.inline() for name, drawing in drawings.items()}


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text]


def test_figures_are_well_formed_and_take_the_page_s_colours(drawn):
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert root.tag == "svg" and root.get("viewBox") and root.get("aria-label")
        assert root.get("width") is None and "font-family" not in svg
        assert not re.findall(r"#[0-9a-f]{6}\b", svg), "a colour that a dark page cannot change"
        assert "var(--" in svg


def test_files_stand_alone(drawings):
    for drawing in drawings.values():
        files = drawing.files()
        assert set(files) == {f"{drawing.name}.svg", f"{drawing.name}.pdf"}
        root = ElementTree.fromstring(files[f"{drawing.name}.svg"])
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("width")
        assert b"var(--" not in files[f"{drawing.name}.svg"]
        assert files[f"{drawing.name}.pdf"].startswith(b"%PDF-")
        assert re.fullmatch(r"[A-Za-z0-9.-]+", drawing.name)
        assert drawing.files() == files
    assert len({drawing.name for drawing in drawings.values()}) == len(drawings)


def boxes(figure):
    """Returns the extents of a figure's texts and of its lines without the grid."""
    (axes,) = figure.axes
    FigureCanvasAgg(figure).draw()
    low, high = sorted(axes.get_xlim())
    ticks = [t for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
    written = [*axes.texts, *ticks, axes.xaxis.label]
    dots = [axes.transData.transform(c.get_offsets()) for c in axes.collections]
    dots = [point for points in dots if len(points) > 1 for point in points]
    lines = [line.get_window_extent().padded(2) for line in axes.lines]
    shown = [text.get_window_extent() for text in written]
    return shown, lines + [type(shown[0]).from_bounds(x - 2, y - 2, 4, 4) for x, y in dots]


@pytest.mark.parametrize(("variants", "long"), [(1, 0), (2, 30), (3, 150), (7, 0)])
def test_numbers_and_names_lie_apart_from_intervals(tmp_path, variants, long):
    names = [f"{'a, very ' * (long // 8)}variant {i}" for i in range(variants)]
    made = Made(variants={n: 2.0 + i for i, n in enumerate(names)}, seeds=3, class_names=("a", "b"))
    comparison = compare(read_results(write_workdir(tmp_path / "made", made)))
    drawings = [figures.test_metric(comparison)]
    if variants > 1:
        drawings.append(figures.differences(comparison, comparison.pairs))
        drawings.append(figures.class_differences(comparison, class_differences(comparison)))
    for drawing in drawings:
        width, height = drawing.figure.get_size_inches() * 72
        written, lines = boxes(drawing.figure)
        for i, box in enumerate(written):
            assert box.x0 > -1 and box.x1 < width + 1 and box.y0 > -1 and box.y1 < height + 1
            others = written[:i] + lines
            assert not [other for other in others if box.padded(-1).overlaps(other)]


def test_ids_of_all_figures_are_distinct(drawn):
    ids = [name for svg in drawn.values() for name in set(re.findall(r'\bid="([^"]*)"', svg))]
    assert len(ids) == len(set(ids))
    for svg in drawn.values():
        used = re.findall(r'(?:href="#|url\(#)([^")]*)', svg)
        assert set(used) <= set(re.findall(r'\bid="([^"]*)"', svg))


def test_a_variant_has_one_colour_everywhere(comparison, drawn):
    for index, variant in enumerate(comparison.results.variants):
        assert figures.colour_variable(comparison, variant) == f"--variant-{index}"
    for name in ("metric", "loss", "accuracy", "cost"):
        assert set(re.findall(r"--variant-\d", drawn[name])) == {
            "--variant-0",
            "--variant-1",
            "--variant-2",
        }
    best = figures.colour_variable(comparison, comparison.variants[0].name)
    assert set(re.findall(r"--variant-\d", drawn["confusion"])) == {best}


def test_text_stays_text(comparison, drawn):
    said = texts(drawn["metric"])
    assert "gru" in said and "a < b & c" in said
    best, second = (variant.name for variant in comparison.variants[:2])
    assert f"{best} \N{MINUS SIGN} {second}" in texts(drawn["differences"])


def test_the_classes_stand_in_the_order_of_their_differences(comparison, drawn):
    said = [text for text in texts(drawn["classes"]) if text in DIGITS]
    assert said == [each.name for each in class_differences(comparison)]


def test_points_are_named_and_costs_told(comparison, drawn):
    said = texts(drawn["cost"])
    assert {"gru", "lstm", "a < b & c", "30 s", "50 s"} <= set(said)


def test_names_that_find_no_room_are_left_to_the_legend(tmp_path):
    names = [f"net {i}" for i in range(12)]
    comparison = compare(
        read_results(write_workdir(tmp_path, Made(variants=dict.fromkeys(names, 4.0), seeds=2))),
    )
    cost = np.geomspace(1, 1.3, 12).tolist()
    svg = figures.metric_against_cost(comparison, cost, "time", str).inline()
    assert 0 < sum(text in names for text in texts(svg)) < 12


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_front_is_what_none_dominates(seed, higher_is_better):
    cost, value = np.random.default_rng(seed).integers(0, 6, (2, 12))
    gain = value if higher_is_better else -value
    front = figures.pareto_front(cost.tolist(), value.tolist(), higher_is_better)
    dominated = [
        any(
            cost[j] <= cost[i] and gain[j] >= gain[i] and (cost[j], gain[j]) != (cost[i], gain[i])
            for j in range(12)
        )
        for i in range(12)
    ]
    points = {(cost[i], gain[i]) for i in range(12) if not dominated[i]}
    assert {(cost[i], gain[i]) for i in front} == points and len(front) == len(points)
    assert np.all(np.diff(cost[front]) > 0)


def test_a_curve_that_no_run_has_is_no_figure(comparison):
    assert figures.learning_curve(comparison, "validation/nothing") is None


def test_confusion_counts_agree_with_scikit_learn(comparison, drawn):
    variant = comparison.variants[-1]
    predictions = [run.predictions for run in variant.runs]
    reference = sklearn.metrics.confusion_matrix(
        np.concatenate([p["label"] for p in predictions]),
        np.concatenate([p["probabilities"].argmax(axis=1) for p in predictions]),
        labels=range(10),
    )
    shown = [
        int(text)
        for text in texts(figures.confusion(comparison, variant).inline())
        if text.isdigit()
    ]
    assert sorted(shown) == sorted(reference[reference > 0].tolist())


def test_many_classes_are_drawn_without_numbers(tmp_path):
    names = tuple(f"class {chr(65 + i)}" for i in range(26))
    made = Made(variants={"gru": 3.0}, seeds=1, class_names=names)
    comparison = compare(read_results(write_workdir(tmp_path, made)))
    svg = figures.confusion(comparison, comparison.variants[0]).inline()
    assert not [text for text in texts(svg) if text.isdigit()]
    assert set(names) <= set(texts(svg))


def test_only_some_of_very_many_classes_are_named(tmp_path):
    names = tuple(f"class {i}" for i in range(300))
    made = Made(variants={"gru": 3.0}, seeds=1, class_names=names)
    comparison = compare(read_results(write_workdir(tmp_path, made)))
    drawing = figures.confusion(comparison, comparison.variants[0])
    (axes,) = drawing.figure.axes
    drawing.figure.draw_without_rendering()
    for ticks, side in ((axes.get_xticklabels(), 0), (axes.get_yticklabels(), 1)):
        assert [tick.get_text() for tick in ticks] == list(names[:: 300 // len(ticks)])
        starts = np.sort([tick.get_window_extent().get_points()[0, side] for tick in ticks])
        size = ticks[0].get_window_extent().get_points()[:, side]
        assert len(ticks) > 1 and np.diff(starts).min() > 0.8 * (size[1] - size[0])


def test_a_single_evaluation_is_a_visible_dot(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    for path in tmp_path.glob("runs/*/metrics.jsonl"):
        path.write_text('{"step": 60, "validation/loss": 0.9}\n')
    comparison = compare(read_results(tmp_path))
    drawing = figures.learning_curve(comparison, "validation/loss")
    (axes,) = drawing.figure.axes
    assert [line.get_marker() for line in axes.lines] == ["o", "o"]
    assert len([label for label in axes.get_yticklabels() if label.get_text()]) > 1
