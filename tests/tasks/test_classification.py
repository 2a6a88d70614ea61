"""Classification against PyTorch, scikit-learn and float64 formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
)
from sklearn.utils.class_weight import compute_class_weight

from gru_audio.config import default_config
from gru_audio.data.fields import ClassField
from gru_audio.settings import UserError
from gru_audio.tasks import make_task
from gru_audio.tasks.classification import Classification
from gru_audio.tasks.metrics import measure

TASK = Classification(("a", "b", "c", "d", "e"))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (64, 5)).astype(np.float32)
LABELS = RNG.integers(0, 5, 64).astype(np.int32)
LENGTHS = np.ones(64, np.int32)


def loss_of(logits, targets):
    """Returns the loss of each clip."""
    loss, terms = TASK.loss(logits, targets, jnp.ones(len(logits), jnp.int32))
    assert terms.shape == loss.shape
    return loss


def test_loss_is_cross_entropy():
    loss = loss_of(LOGITS, TASK.soft_labels(LABELS))
    expected = -log_softmax(LOGITS.astype(np.float64), axis=-1)[np.arange(64), LABELS]
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_against_pytorch(smoothing):
    torch = pytest.importorskip("torch")
    loss = jax.jit(lambda s: loss_of(LOGITS, TASK.soft_labels(LABELS, s)))(smoothing)  # traced
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(LOGITS).double(),
        torch.from_numpy(LABELS).long(),
        label_smoothing=smoothing,
        reduction="none",
    )
    np.testing.assert_allclose(loss, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_targets_are_distributions():
    targets = TASK.soft_labels(LABELS, 0.3)
    np.testing.assert_allclose(targets.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(targets.argmax(axis=-1), LABELS)


def test_the_loss_of_a_mix_is_the_mix_of_losses():
    others = np.roll(LABELS, 1)
    mixed = loss_of(LOGITS, 0.3 * TASK.soft_labels(LABELS) + 0.7 * TASK.soft_labels(others))
    apart = 0.3 * loss_of(LOGITS, TASK.soft_labels(LABELS))
    apart += 0.7 * loss_of(LOGITS, TASK.soft_labels(others))
    np.testing.assert_allclose(mixed, apart, rtol=1e-5)


def test_huge_logits_stay_finite():
    logits, labels = jnp.array([[1e30, -1e30, 0, 0, 0]]), jnp.array([1])
    loss = loss_of(logits, TASK.soft_labels(jnp.array([0])))
    assert loss == 0
    gradient = jax.grad(lambda x: loss_of(x, TASK.soft_labels(labels)).sum())(logits)
    np.testing.assert_allclose(gradient, [[1, -1, 0, 0, 0]])


def test_scores_and_metrics_against_scikit_learn():
    scores = {
        k: np.asarray(v) for k, v in TASK.score(LOGITS, TASK.soft_labels(LABELS), LENGTHS).items()
    }
    np.testing.assert_array_equal(scores["label"], LABELS)
    metrics = measure(TASK.metrics, scores)
    np.testing.assert_allclose(
        metrics["loss"], log_loss(LABELS, scores["probabilities"].astype(np.float64)), rtol=1e-5
    )
    assert metrics["accuracy"] == accuracy_score(LABELS, LOGITS.argmax(axis=-1))


def test_the_table_and_the_words_of_classes_against_scikit_learn():
    given = {"label": np.where(LABELS == 3, 2, LABELS), "probabilities": LOGITS.copy()}
    given["probabilities"][:, 4] = -np.inf  # never predicted
    answer = given["probabilities"].argmax(axis=1)
    confusion = TASK.confusion(given)
    np.testing.assert_array_equal(confusion, confusion_matrix(given["label"], answer))
    precision, recall, _, count = precision_recall_fscore_support(
        given["label"], answer, labels=range(5), zero_division=np.nan
    )
    rows = TASK.table(given)
    assert [row["class"] for row in rows] == list("abcde")
    for name, expected in (("examples", count), ("recall", recall), ("precision", precision)):
        values = [np.nan if row[name] is None else row[name] for row in rows]
        np.testing.assert_allclose(values, expected)
    of_class = TASK.of_output(given, 1)
    assert TASK.output_metric.value(of_class) == pytest.approx(recall[1])
    assert TASK.of_output(given, 3) is None
    assert TASK.in_words(given, 0) == ("abcde"[given["label"][0]], "abcde"[answer[0]])


def test_make_task():
    config = default_config().task
    assert make_task(config, ClassField(("x", "y")), 40).outputs == 2
    with pytest.raises(UserError, match='Did you mean "classification"'):
        config.name = "clasification"


WEIGHTED = Classification(TASK.output_names, class_weight="balanced")
RARE = np.repeat(np.arange(5), [30, 20, 9, 4, 1]).astype(np.int32)


def test_class_weights_are_scikit_learns():
    weights = WEIGHTED.class_weights(RARE, LENGTHS)
    expected = compute_class_weight("balanced", classes=np.arange(5), y=RARE)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[RARE].mean() == pytest.approx(1)
    without = WEIGHTED.class_weights(RARE[RARE != 2], LENGTHS[RARE != 2])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3, 4]), y=RARE[RARE != 2])
    np.testing.assert_allclose(without, np.insert(expected, 2, 0), rtol=1e-6)
    assert TASK.class_weights(RARE, LENGTHS) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_weighted_loss_is_the_mean_over_weights(smoothing):
    weights = WEIGHTED.class_weights(RARE, LENGTHS)
    targets = WEIGHTED.weighted(WEIGHTED.soft_labels(RARE, smoothing), RARE, weights)
    loss, terms = WEIGHTED.loss(LOGITS, targets, LENGTHS)
    np.testing.assert_allclose(terms, weights[RARE], rtol=1e-5)
    logs = log_softmax(LOGITS.astype(np.float64), axis=-1)
    hard = log_loss(RARE, np.exp(logs), sample_weight=weights[RARE])
    uniform = np.average(-logs.mean(axis=1), weights=weights[RARE])
    expected = (1 - smoothing) * hard + smoothing * uniform
    np.testing.assert_allclose(loss.sum() / terms.sum(), expected, rtol=1e-5)


def test_scores_are_not_weighted():
    plain, weighted = (t.score(LOGITS, t.soft_labels(RARE), LENGTHS) for t in (TASK, WEIGHTED))
    for name, values in plain.items():
        np.testing.assert_array_equal(weighted[name], values)
