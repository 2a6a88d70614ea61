"""The test metrics of one run, with intervals over examples or speakers."""

import numpy as np
import pytest
from scipy import stats

from gru_audio.reports.scores import interval, scores_of_run
from gru_audio.tasks.metrics import ACCURACY, LOSS
from tests.reports.workdirs import Made, write_workdir


def predictions(losses, cluster):
    count = len(losses)
    return {
        "example": np.arange(count),
        "cluster": np.asarray(cluster),
        "loss": np.asarray(losses, np.float64),
    }


def test_the_interval_of_a_mean_is_students():
    losses = np.random.default_rng(0).gamma(2.0, 1.0, 40)
    found = interval(LOSS, predictions(losses, np.full(40, -1)))
    low, high = stats.t.interval(0.95, 39, losses.mean(), stats.sem(losses))
    assert (found.value, found.low, found.high) == pytest.approx((losses.mean(), low, high))


def test_speakers_count_as_units():
    """Of equally many examples each: the mean of the speakers' means."""
    rng = np.random.default_rng(1)
    of_speaker = 5 + rng.normal(size=6)
    losses = np.repeat(of_speaker, 50) + 0.1 * rng.normal(size=300)
    found = interval(LOSS, predictions(losses, np.repeat(np.arange(6), 50)))
    means = losses.reshape(6, 50).mean(axis=1)
    low, high = stats.t.interval(0.95, 5, means.mean(), stats.sem(means))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("cluster", [[-1, -1], [0, 1], [0, 0]])
def test_too_few_units_have_no_interval(cluster):
    found = interval(LOSS, predictions([1.0, 2.0], cluster))
    assert (found.value, found.low, found.high, found.is_interval) == (1.5, 1.5, 1.5, False)


def test_a_perfect_accuracy_is_not_certain():
    label = np.arange(30) % 3
    given = predictions(np.zeros(30), np.full(30, -1))
    found = interval(ACCURACY, given | {"label": label, "probabilities": np.eye(3)[label]})
    assert found.value == found.high == 1
    assert 0.9 < found.low < 1


def test_the_scores_of_a_run(tmp_path):
    workdir = write_workdir(tmp_path, Made(seeds=1))
    scores = scores_of_run(workdir, "gru-0")
    assert {"accuracy", "loss", "macro_f1"} <= scores.keys()
    for score in scores.values():
        assert score.low < score.value < score.high
    (workdir / "runs" / "gru-0" / "predictions" / "test.npz").unlink()
    without = scores_of_run(workdir, "gru-0")
    assert without["accuracy"].value == pytest.approx(scores["accuracy"].value)
    assert not without["accuracy"].is_interval


def test_no_scores(tmp_path):
    assert scores_of_run(tmp_path, "gru-0") == {}
    assert scores_of_run(write_workdir(tmp_path, Made(seeds=1)), "other") == {}
