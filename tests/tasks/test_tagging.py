"""Several tags per clip, against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from gru_audio.data.fields import ClassField, NumberField, TagsField
from gru_audio.settings import UserError
from gru_audio.tasks import make_task
from gru_audio.tasks.metrics import measure
from gru_audio.tasks.tagging import Tagging
from tests.tones import tiny

CONFIG = tiny({"task.name": "tagging"}).task
TASK = Tagging(("music", "speech"))
LABELS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


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


def test_scores_tables_and_words_of_tags():
    rng = np.random.default_rng(0)
    labels, outputs = LABELS[rng.integers(4, size=30)], rng.normal(size=(30, 2)).astype(np.float32)
    scores = jax.device_get(TASK.score(outputs, TASK.soft_labels(labels), jnp.ones(30)))
    np.testing.assert_array_equal(scores["tags"], labels)
    rows = TASK.table(scores)
    assert [row["tag"] for row in rows] == ["music", "speech"]
    assert [row["examples"] for row in rows] == scores["tags"].sum(axis=0).tolist()
    for answer, row in enumerate(rows):
        expected = sklearn.metrics.average_precision_score(
            scores["tags"][:, answer], scores["probabilities"][:, answer]
        )
        one = TASK.output_metric.value(TASK.of_output(scores, answer))
        assert row["average precision"] == pytest.approx(expected) == pytest.approx(one)
    metrics = measure(TASK.metrics, scores)
    assert next(iter(metrics)) == "map"
    assert metrics["eer"] == pytest.approx(np.mean([row["equal error rate"] for row in rows]))
    assert metrics["loss"] == scores["loss"].mean(dtype=np.float64)
    words = {0: "none", 1: "music", 2: "speech", 3: "music+speech"}
    for row in range(30):
        true, given = labels[row].astype(int), (outputs[row] > 0).astype(int)
        assert TASK.in_words(scores, row) == (
            words[true[0] + 2 * true[1]],
            words[given[0] + 2 * given[1]],
        )


def test_constant_tags_do_not_count():
    labels = LABELS[[1, 2, 1, 2]]  # all are music
    probabilities = np.array([[0.5, 0.1], [0.5, 0.9], [0.5, 0.2], [0.5, 0.8]])
    scores = {"loss": np.ones(4), "tags": labels, "probabilities": probabilities}
    assert measure(TASK.metrics, scores) == {"map": 1.0, "eer": 0.0, "loss": 1.0}
    music, _ = TASK.table(scores)
    assert music["examples"] == 4 and music["average precision"] is None
    assert TASK.of_output(scores, 0) is None


@pytest.mark.parametrize("field", [None, ClassField(("music", "speech")), NumberField()])
def test_it_needs_a_field_of_tags(field):
    with pytest.raises(UserError, match=r"tagging needs config\.data\.target, a field of tags"):
        make_task(CONFIG, field, 8)
    with pytest.raises(UserError, match="no clip has any of its labels"):
        make_task(CONFIG, TagsField(()), 8)


def test_the_weighted_loss_of_each_tag_is_scikit_learns():
    task = Tagging(("music", "speech"), class_weight="balanced")
    rng = np.random.default_rng(0)
    labels = (rng.random((50, 2)) < [0.1, 0.7]).astype(np.float32)
    outputs = rng.normal(size=(50, 2)).astype(np.float32)
    weights = task.class_weights(labels, np.ones(len(labels)))
    loss, terms = task.loss(
        outputs, task.weighted(task.soft_labels(labels), labels, weights), jnp.ones(50)
    )
    expected, total = 0.0, np.zeros(50)
    for tag in range(2):
        weight = compute_sample_weight("balanced", labels[:, tag])
        chance = 1 / (1 + np.exp(-outputs[:, tag].astype(np.float64)))
        expected += log_loss(labels[:, tag], chance, sample_weight=weight) / 2
        total += weight / 2
    np.testing.assert_allclose(terms, total, rtol=1e-6)
    np.testing.assert_allclose(loss.sum() / terms.sum(), expected, rtol=1e-5)
    plain = TASK.score(outputs, TASK.soft_labels(labels), jnp.ones(50))
    scores = task.score(outputs, task.soft_labels(labels), jnp.ones(50))
    np.testing.assert_array_equal(scores["loss"], plain["loss"])
    assert TASK.class_weights(labels, np.ones(50)) is None


def test_weights_and_probabilities_of_tags_mix():
    """The loss of a mix is the mix of losses; a tag that all have has one weight."""
    task = Tagging(("music", "speech"), class_weight="balanced")
    labels = LABELS[[1, 2, 2, 1]]
    weights = task.class_weights(labels, np.ones(len(labels)))
    np.testing.assert_allclose(weights[0], [0, 1])
    outputs = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    soft = task.weighted(task.soft_labels(labels, 0.1), labels, weights)
    others = jax.tree.map(lambda a: jnp.roll(a, 1, axis=0), soft)
    mixed = jax.tree.map(lambda a, b: 0.3 * a + 0.7 * b, soft, others)
    (one, two, both) = (task.loss(outputs, t, jnp.ones(4)) for t in (soft, others, mixed))
    for a, b, c in zip(one, two, both, strict=True):
        np.testing.assert_allclose(c, 0.3 * a + 0.7 * b, rtol=1e-5)
