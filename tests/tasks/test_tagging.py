"""Several tags per clip, held against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics

from gru_audio.config import UserError
from gru_audio.data.fields import ClassField, NumberField, TagsField
from gru_audio.tasks import make_task
from gru_audio.tasks.tagging import Tagging, average_precision, equal_error_rate
from tests.tones import tiny

CONFIG = tiny({"task.name": "tagging"}).task
TASK = Tagging(("music", "speech"))
LABELS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


@pytest.fixture(params=range(6))
def scored(request):
    """Scores with ties, and what is true: likelier where they are high."""
    rng = np.random.default_rng(request.param)
    scores = np.round(rng.random(80), 1 + request.param % 3)
    return scores, rng.random(80) < 0.2 + 0.5 * scores


def test_average_precision(scored):
    scores, true = scored
    expected = sklearn.metrics.average_precision_score(true, scores)
    assert average_precision(scores, true) == pytest.approx(expected)


def test_equal_error_rate(scored):
    scores, true = scored
    alarm, hit, _ = sklearn.metrics.roc_curve(true, scores, drop_intermediate=False)
    expected = scipy.optimize.brentq(lambda x: 1 - x - np.interp(x, alarm, hit), 0, 1)
    assert equal_error_rate(scores, true) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("scores", "rate"), [((0.9, 0.8, 0.2, 0.1), 0), ((0.1, 0.2, 0.8, 0.9), 1)])
def test_the_best_and_the_worst_order(scores, rate):
    true = np.array([True, True, False, False])
    assert equal_error_rate(np.array(scores), true) == rate


def test_there_is_an_output_for_each_tag():
    assert make_task(CONFIG, TagsField(("music", "speech")), 8) == TASK
    assert TASK.outputs == 2


def test_labels_are_smoothed_towards_a_half():
    soft = TASK.soft_labels(LABELS[[2, 0]], 0.2)
    np.testing.assert_allclose(soft, [[0.9, 0.9], [0.1, 0.1]], rtol=1e-6)


def test_the_loss_is_the_cross_entropy_of_each_tag():
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(7, 2)), rng.integers(4, size=7)
    true, chance = LABELS[labels], 1 / (1 + np.exp(-outputs))
    expected = -np.log(np.where(true > 0, chance, 1 - chance)).mean(axis=1)
    loss, terms = TASK.loss(jnp.asarray(outputs), TASK.soft_labels(true), jnp.ones(7))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(terms, 1)


def test_tags_that_tell_nothing_do_not_count():
    labels = LABELS[[1, 2, 1, 2]]  # all are music
    probabilities = np.array([[0.5, 0.1], [0.5, 0.9], [0.5, 0.2], [0.5, 0.8]])
    scores = {"loss": np.ones(4), "probabilities": probabilities}
    assert TASK.metrics(scores, labels) == {"loss": 1.0, "map": 1.0, "eer": 0.0}
    assert np.isnan(TASK.metrics(scores, np.ones((4, 2)))["map"])


@pytest.mark.parametrize("field", [None, ClassField(("music", "speech")), NumberField()])
def test_it_needs_a_field_of_tags(field):
    with pytest.raises(UserError, match=r"tagging needs config\.data\.target, a field of tags"):
        make_task(CONFIG, field, 8)
    with pytest.raises(UserError, match="no clip has any of its labels"):
        make_task(CONFIG, TagsField(()), 8)
