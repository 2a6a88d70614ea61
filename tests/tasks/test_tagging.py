"""Several tags per clip, held against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from gru_audio.config import UserError
from gru_audio.tasks import make_task
from gru_audio.tasks.metrics import measure
from gru_audio.tasks.tagging import Tagging
from tests.tones import tiny

LABELS = ("none", "music", "music+speech", "speech")
TASK = Tagging(LABELS)


def test_there_is_an_output_for_each_tag():
    assert TASK.answers == ("music", "speech")
    assert TASK.outputs == 2
    np.testing.assert_array_equal(TASK.has_tag, [[0, 0], [1, 0], [1, 1], [0, 1]])


def test_labels_are_smoothed_towards_a_half():
    soft = TASK.soft_labels(jnp.array([2, 0]), 0.2)
    np.testing.assert_allclose(soft, [[0.9, 0.9], [0.1, 0.1]], rtol=1e-6)


def test_the_loss_is_the_cross_entropy_of_each_tag():
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(7, 2)), rng.integers(4, size=7)
    true, chance = TASK.has_tag[labels], 1 / (1 + np.exp(-outputs))
    expected = -np.log(np.where(true > 0, chance, 1 - chance)).mean(axis=1)
    loss, terms = TASK.loss(jnp.asarray(outputs), TASK.soft_labels(labels), jnp.ones(7))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(terms, 1)


def test_scores_tables_and_words_of_tags():
    rng = np.random.default_rng(0)
    labels, outputs = rng.integers(4, size=30), rng.normal(size=(30, 2)).astype(np.float32)
    scores = jax.device_get(TASK.score(outputs, TASK.soft_labels(labels), jnp.ones(30)))
    np.testing.assert_array_equal(scores["tags"], TASK.has_tag[labels])
    rows = TASK.table(scores)
    assert [row["tag"] for row in rows] == ["music", "speech"]
    assert [row["examples"] for row in rows] == scores["tags"].sum(axis=0).tolist()
    for answer, row in enumerate(rows):
        expected = sklearn.metrics.average_precision_score(
            scores["tags"][:, answer], scores["probabilities"][:, answer]
        )
        one = TASK.answer_metric.value(TASK.of_answer(scores, answer))
        assert row["average precision"] == pytest.approx(expected) == pytest.approx(one)
    metrics = measure(TASK.metrics, scores)
    assert next(iter(metrics)) == "map"
    assert metrics["eer"] == pytest.approx(np.mean([row["equal error rate"] for row in rows]))
    assert metrics["loss"] == scores["loss"].mean(dtype=np.float64)
    given = {0: "none", 1: "music", 2: "speech", 3: "music+speech"}
    for row in range(30):
        high = outputs[row] > 0
        assert TASK.in_words(scores, row) == (LABELS[labels[row]], given[high[0] + 2 * high[1]])


def test_tags_that_tell_nothing_do_not_count():
    labels = np.array([1, 2, 1, 2])  # all are music
    probabilities = np.array([[0.5, 0.1], [0.5, 0.9], [0.5, 0.2], [0.5, 0.8]])
    scores = {"loss": np.ones(4), "tags": TASK.has_tag[labels], "probabilities": probabilities}
    assert measure(TASK.metrics, scores) == {"map": 1.0, "eer": 0.0, "loss": 1.0}
    music, _ = TASK.table(scores)
    assert music["examples"] == 4 and music["average precision"] is None
    assert TASK.of_answer(scores, 0) is None


def test_it_needs_a_field():
    with pytest.raises(UserError, match=r"task\.name=tagging needs config\.data\.target"):
        make_task(tiny({"task.name": "tagging"}).task, (), 8)


def test_spaces_around_tags_do_not_make_others():
    assert Tagging(("speech + music", "speech+music", " music", "none", "")).answers == (
        "music",
        "speech",
    )
