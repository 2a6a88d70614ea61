"""Calibration and curves of probabilities, against scikit-learn and by hand."""

import numpy as np
import pytest
import sklearn.metrics
from sklearn.calibration import calibration_curve

from gru_audio.reports.comparison import compare
from gru_audio.reports.probabilities import calibration, decisions, draw_probabilities
from gru_audio.reports.results import read_results
from tests.reports.workdirs import Made, write_workdir

RNG = np.random.default_rng(0)


def drawn(classes, count=400):
    probabilities = RNG.dirichlet(np.full(classes, 0.5), count)
    labels = np.array([RNG.choice(classes, p=p) for p in probabilities])
    return probabilities, labels


@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_is_that_of_scikit_learn(classes):
    probabilities, labels = drawn(classes)
    found = calibration(probabilities, labels)
    correct, confidence = probabilities.argmax(1) == labels, probabilities.max(1)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10)
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, mean)
    assert found.count.sum() == 400
    assert found.error < 0.1  # the labels follow the probabilities


def test_an_overconfident_classifier_has_the_error_of_its_excess():
    probabilities = np.array([[0.95, 0.05]] * 10)
    found = calibration(probabilities, np.array([0] * 7 + [1] * 3))
    assert found.error == pytest.approx(0.25)
    assert calibration(np.array([[1.0, 0.0]]), np.array([0])).error == 0


def test_decisions_are_one_class_against_the_rest():
    probabilities, labels = drawn(4)
    true, score = decisions(probabilities, labels)
    assert sklearn.metrics.roc_auc_score(true, score) == pytest.approx(
        sklearn.metrics.roc_auc_score(np.eye(4)[labels], probabilities, average="micro")
    )
    true, score = decisions(*drawn(2))
    assert true.shape == score.shape == (400,)


def test_figures_of_a_sweep(tmp_path):
    comparison = compare(read_results(write_workdir(tmp_path / "classes", Made())))
    found = draw_probabilities(comparison)
    assert [each.name for each in found.drawings] == ["calibration", "roc", "precision-recall"]
    best = comparison.variants[0]
    probabilities = np.concatenate([run.predictions["probabilities"] for run in best.runs])
    labels = np.concatenate([run.predictions["label"] for run in best.runs])
    name, error, area, average = found.rows[0]
    one_hot = np.eye(10)[labels]
    assert name == best.name
    assert error == calibration(probabilities, labels).error
    assert area == pytest.approx(
        sklearn.metrics.roc_auc_score(one_hot, probabilities, average="micro")
    )
    assert average == pytest.approx(
        sklearn.metrics.average_precision_score(one_hot, probabilities, average="micro")
    )
    for drawing in found.drawings:
        assert len(drawing.inline()) < 20_000
    without = write_workdir(tmp_path / "sequences", Made(class_names=(), metric="loss"))
    assert draw_probabilities(compare(read_results(without))) is None
