"""The trivial and the linear baseline of each task."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import sklearn.linear_model
from scipy.stats import entropy

from gru_audio.tasks.classification import Classification
from gru_audio.tasks.linear import log_probabilities
from gru_audio.tasks.memory import Adding, CopyMemory, Counting
from gru_audio.tasks.next_step import NextStep
from gru_audio.tasks.tagging import Tagging

RNG = np.random.default_rng(0)
LENGTHS = np.array([12, 7, 9, 12], np.int32)
STEPS = 12
LABELS = np.array([0, 1, 1, 3], np.int32)
TAGS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]], np.float32)  # of sets

FEATURES = {
    "bernoulli": (RNG.random((4, STEPS, 5)) < 0.3).astype(np.float32),
    "gaussian": RNG.normal(2, 3, (4, STEPS, 5)).astype(np.float32),
    "adding": np.stack([RNG.random((4, STEPS)), np.eye(STEPS)[[3, 4, 5, 6]]], -1),
    "counting": np.eye(2)[np.array([[0, 1, 0, 0, 1, 1] * 2] * 4)],
    "labels": np.zeros((4, STEPS, 1), np.float32),
}
TASKS = {
    "bernoulli": NextStep(5, "bernoulli"),
    "gaussian": NextStep(5, "gaussian", first_frame=False),
    "adding": Adding(),
    "counting": Counting(),
    "classification": Classification(("a", "b", "c", "d")),
    "tagging": Tagging(("x", "y", "z")),
}


def problem_of(name):
    task = TASKS[name]
    features = jnp.asarray(FEATURES.get(name, FEATURES["labels"]), jnp.float32)
    labels = jnp.asarray(TAGS[LABELS] if name == "tagging" else LABELS)
    return task, task.inputs_and_targets(features, jnp.asarray(LENGTHS), task.soft_labels(labels))


def trivial_loss(task, prepared):
    sums, count = task.target_sums(prepared.targets, prepared.lengths)
    outputs = task.trivial_outputs(sums / count, prepared.lengths, prepared.inputs.shape[1])
    loss, terms = task.loss(outputs, prepared.targets, prepared.lengths)
    return float(loss.sum() / terms.sum())


@pytest.mark.parametrize("name", TASKS)
def test_no_constant_output_loses_less_on_the_training_examples(name):
    task, prepared = problem_of(name)

    def loss(constant):
        shape = (4, prepared.inputs.shape[1]) if task.per_frame else (4,)
        outputs = jnp.broadcast_to(jnp.asarray(constant, jnp.float32), (*shape, task.outputs))
        loss, terms = task.loss(outputs, prepared.targets, prepared.lengths)
        return float(loss.sum() / terms.sum())

    best = scipy.optimize.minimize(loss, np.zeros(task.outputs), method="Powell")
    assert trivial_loss(task, prepared) == pytest.approx(best.fun, abs=2e-3)


def test_the_trivial_class_is_the_largest_and_loses_the_entropy():
    task, prepared = problem_of("classification")
    sums, count = task.target_sums(prepared.targets, prepared.lengths)
    outputs = task.trivial_outputs(sums / count, prepared.lengths, 1)
    assert np.asarray(outputs).argmax(axis=1).tolist() == [1, 1, 1, 1]
    assert trivial_loss(task, prepared) == pytest.approx(entropy([1, 2, 1]), abs=1e-6)


def test_the_loss_of_guessing_in_the_copy_task():
    task, lengths = CopyMemory(), np.array([30, 26], np.int32)
    sequence = np.zeros((2, 30, 1), np.float32)
    for row, count in zip(sequence, lengths, strict=True):
        row[:10, 0] = RNG.integers(1, 9, 10)
        row[count - 11 : count] = 9
    prepared = task.inputs_and_targets(jnp.asarray(sequence), jnp.asarray(lengths), jnp.zeros(2))
    outputs = task.trivial_outputs(jnp.zeros(()), prepared.lengths, 30)
    loss, terms = task.loss(outputs, prepared.targets, prepared.lengths)
    np.testing.assert_allclose(loss / terms, 10 * math.log(8) / lengths, rtol=1e-5)


def test_padding_has_no_effect_on_baselines():
    for name in ("bernoulli", "gaussian", "counting"):
        task, prepared = problem_of(name)
        valid = np.arange(prepared.inputs.shape[1]) < np.asarray(prepared.lengths)[:, None]
        hidden = np.where(valid[..., None] if name != "counting" else valid, prepared.targets, 7.0)
        sums, count = task.target_sums(prepared.targets, prepared.lengths)
        others, same = task.target_sums(jnp.asarray(hidden), prepared.lengths)
        np.testing.assert_array_equal(sums, others)
        assert float(count) == float(same) == valid.sum()


def vectors(labels, classes):
    centres = RNG.normal(0, 3, (classes, 6))
    return centres[labels] + RNG.normal(0, 1, (len(labels), 6))


def test_the_linear_classifier_is_logistic_regression_of_standardised_features():
    labels = RNG.integers(0, 3, 90)
    x = vectors(labels, 3) * [1, 10, 100, 1000, 1, 1]
    mean, deviation = x[:60].mean(0), x[:60].std(0)
    model = sklearn.linear_model.LogisticRegression(max_iter=300)
    model.fit((x[:60] - mean) / deviation, labels[:60])
    found = log_probabilities(x[:60], labels[:60], x[60:], 3)
    expected = model.predict_log_proba((x[60:] - mean) / deviation)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_class_without_examples_is_never_predicted():
    labels = np.array([0, 3] * 10)
    x = vectors(labels, 4)
    found = Classification(("a", "b", "c", "d")).linear_outputs(x, labels, x)
    assert found.shape == (20, 4) and set(found.argmax(axis=1)) == {0, 3}
    one = log_probabilities(x[::2], labels[::2], x, 4)
    assert set(one.argmax(axis=1)) == {0} and np.isfinite(one).all()


def test_every_tag_has_its_own_classifier():
    task = TASKS["tagging"]
    labels = TAGS[RNG.integers(0, 4, 200)]
    x = labels * 5.0 + RNG.normal(0, 1, (200, 3))
    found = task.linear_outputs(x[:150], labels[:150], x[150:])
    assert ((found > 0) == (labels[150:] > 0)).mean() > 0.95
    alone = log_probabilities(x[:150], labels[:150, 1].astype(int), x[150:], 2)
    np.testing.assert_allclose(found[:, 1], alone[:, 1] - alone[:, 0])
