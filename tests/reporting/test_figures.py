import re
from xml.etree import ElementTree

import numpy as np
import pytest
import sklearn.metrics

from gru_audio.reporting import figures
from gru_audio.reporting.classes import class_differences
from gru_audio.reporting.comparison import compare
from gru_audio.reporting.results import read_results
from tests.reporting.workdirs import DIGITS, Made, write_workdir


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    made = Made(arms={"gru": 5.0, "lstm": 4.0, "a < b & c": 2.0}, seeds=3)
    return compare(read_results(write_workdir(tmp_path_factory.mktemp("made"), made)))


@pytest.fixture(scope="module")
def drawn(comparison):
    return {
        "metric": figures.test_metric(comparison),
        "differences": figures.differences(comparison, comparison.pairs),
        "loss": figures.learning_curve(comparison, "train/loss"),
        "accuracy": figures.learning_curve(comparison, "validation/accuracy"),
        "confusion": figures.confusion(comparison, comparison.arms[0]),
        "classes": figures.class_differences(comparison, class_differences(comparison)),
        "cost": figures.metric_against_cost(
            comparison, [30.0, 40.0, 50.0], "time", "{:.0f} s".format
        ),
    }


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text]


def test_figures_are_well_formed_and_take_the_page_s_colours(drawn):
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert root.tag == "svg" and root.get("viewBox") and root.get("aria-label")
        assert root.get("width") is None and "font-family" not in svg
        placeholders = re.findall(r"#(?:0[123]0[123]0[123]|fefefe|0a0a..)\b", svg)
        assert not placeholders
        assert "var(--" in svg


def test_ids_of_all_figures_are_distinct(drawn):
    ids = [name for svg in drawn.values() for name in set(re.findall(r'\bid="([^"]*)"', svg))]
    assert len(ids) == len(set(ids))
    for svg in drawn.values():
        used = re.findall(r'(?:href="#|url\(#)([^")]*)', svg)
        assert set(used) <= set(re.findall(r'\bid="([^"]*)"', svg))


def test_an_arm_has_one_colour_everywhere(comparison, drawn):
    for index, arm in enumerate(comparison.results.arms):
        assert figures.arm_variable(comparison, arm) == f"--arm-{index}"
    for name in ("metric", "loss", "accuracy", "cost"):
        assert set(re.findall(r"--arm-\d", drawn[name])) == {"--arm-0", "--arm-1", "--arm-2"}
    best = figures.arm_variable(comparison, comparison.arms[0].name)
    assert set(re.findall(r"--arm-\d", drawn["confusion"])) == {best}


def test_text_stays_text(comparison, drawn):
    said = texts(drawn["metric"])
    assert "gru" in said and "a < b & c" in said
    best, second = (arm.name for arm in comparison.arms[:2])
    assert f"{best} \N{MINUS SIGN} {second}" in texts(drawn["differences"])


def test_the_classes_stand_in_the_order_of_their_differences(comparison, drawn):
    said = [text for text in texts(drawn["classes"]) if text in DIGITS]
    assert said == [DIGITS[each.label] for each in class_differences(comparison)]


def test_points_are_named_and_costs_told(comparison, drawn):
    said = texts(drawn["cost"])
    assert {"gru", "lstm", "a < b & c", "30 s", "50 s"} <= set(said)


def test_names_that_find_no_room_are_left_to_the_legend(tmp_path):
    names = [f"an arm with a long name {i}" for i in range(12)]
    comparison = compare(
        read_results(write_workdir(tmp_path, Made(arms=dict.fromkeys(names, 4.0), seeds=2))),
    )
    cost = np.geomspace(1, 1.3, 12).tolist()
    svg = figures.metric_against_cost(comparison, cost, "time", str)
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
    arm = comparison.arms[-1]
    predictions = [run.predictions for run in arm.runs]
    reference = sklearn.metrics.confusion_matrix(
        np.concatenate([p.label for p in predictions]),
        np.concatenate([p.probabilities.argmax(axis=1) for p in predictions]),
        labels=range(10),
    )
    np.testing.assert_array_equal(figures.confusion_counts(arm, 10), reference)
    shown = [int(text) for text in texts(figures.confusion(comparison, arm)) if text.isdigit()]
    assert sorted(shown) == sorted(reference[reference > 0].tolist())


def test_many_classes_are_drawn_without_numbers(tmp_path):
    names = tuple(f"class {chr(65 + i)}" for i in range(26))
    made = Made(arms={"gru": 3.0}, seeds=1, class_names=names)
    comparison = compare(read_results(write_workdir(tmp_path, made)))
    svg = figures.confusion(comparison, comparison.arms[0])
    assert not [text for text in texts(svg) if text.isdigit()]
    assert set(names) <= set(texts(svg))
