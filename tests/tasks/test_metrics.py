"""Metrics against scikit-learn, and contributions against numerical derivatives."""

import math

import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics

from gru_audio.data.fields import take
from gru_audio.settings import UserError
from gru_audio.tasks import metric_called
from gru_audio.tasks.metrics import (
    ACCURACY,
    LOSS,
    MACRO_F1,
    UAR,
    Mean,
    Metric,
    linearized,
    measure,
    named,
)
from gru_audio.tasks.ranking import EER, MAP

CLASSES, TAGS = 5, 3
OF_CLASSES = (ACCURACY, LOSS, MACRO_F1, UAR)


def of_classes(seed, count=200):
    """Returns predictions of unequally frequent classes. Class 3 is predicted, but absent."""
    rng = np.random.default_rng(seed)
    label = rng.choice(CLASSES, count, p=[0.5, 0.3, 0.15, 0.0, 0.05])
    scores = rng.random((count, CLASSES))
    scores[np.arange(count), label] += 0.4
    loss = rng.gamma(2.0, size=count).astype(np.float32)
    return {"loss": loss, "label": label.astype(np.int32), "probabilities": scores}


def of_tags(seed, count=200, digits=2):
    """Returns predictions of tags, with many equal scores that correlate with the tags."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random((count, TAGS)), digits)
    tags = (rng.random((count, TAGS)) < 0.1 + 0.6 * scores).astype(np.uint8)
    return {"loss": rng.random(count), "tags": tags, "probabilities": scores}


def weights_of(seed, count=200):
    """Returns random weights. Some are 0, as in a bootstrap sample."""
    return np.random.default_rng(100 + seed).poisson(1.0, count).astype(np.float64)


def equal_error_rate(true, scores, weights):
    alarm, hit, _ = sklearn.metrics.roc_curve(
        true, scores, sample_weight=weights, drop_intermediate=False
    )
    return scipy.optimize.brentq(lambda x: 1 - x - np.interp(x, alarm, hit), 0, 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_classes_against_scikit_learn(seed, weighted):
    found = of_classes(seed)
    weights = weights_of(seed) if weighted else None
    label, answer = found["label"], found["probabilities"].argmax(axis=1)
    kept = np.ones(label.size) if weights is None else weights
    references = {
        "accuracy": sklearn.metrics.accuracy_score(label, answer, sample_weight=weights),
        "loss": np.average(found["loss"].astype(np.float64), weights=weights),
        "macro_f1": sklearn.metrics.f1_score(
            label,
            answer,
            average="macro",
            labels=np.unique(label[kept > 0]),
            sample_weight=weights,
        ),
        "uar": sklearn.metrics.recall_score(
            label,
            answer,
            average="macro",
            labels=np.unique(label[kept > 0]),
            sample_weight=weights,
        ),
    }
    for metric in OF_CLASSES:
        assert metric.value(found, weights) == pytest.approx(references[metric.name], rel=1e-12)
    if not weighted:
        balanced = sklearn.metrics.balanced_accuracy_score(label[answer != 3], answer[answer != 3])
        kept_rows = take(found, answer != 3)  # scikit-learn warns of classes without examples
        assert UAR.value(kept_rows) == pytest.approx(balanced, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_tags_against_scikit_learn(seed, weighted):
    found = of_tags(seed, digits=1 + seed)
    weights = weights_of(seed) if weighted else None
    columns = list(zip(found["tags"].T, found["probabilities"].T, strict=True))
    precision = [
        sklearn.metrics.average_precision_score(true, scores, sample_weight=weights)
        for true, scores in columns
    ]
    assert MAP.value(found, weights) == pytest.approx(np.mean(precision), rel=1e-12)
    rates = [equal_error_rate(true, scores, weights) for true, scores in columns]
    assert EER.value(found, weights) == pytest.approx(np.mean(rates), abs=1e-9)


class Numeric(Metric):
    """The value of another metric, with the default contributions."""

    name = "numeric"

    def __init__(self, metric):
        self.value = metric.value

    def value(self, predictions, weights=None):
        raise NotImplementedError


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("metric", [*OF_CLASSES, MAP], ids=lambda metric: metric.name)
def test_contributions_are_derivatives_by_the_weights(metric, seed):
    found = of_tags(seed) if metric is MAP else of_classes(seed)
    contributions = metric.contributions(found)
    assert contributions.mean() == pytest.approx(metric.value(found), rel=1e-12)
    numeric = Numeric(metric).contributions(found)
    np.testing.assert_allclose(contributions, numeric, atol=1e-6)


def test_a_loss_over_terms_is_a_ratio_of_sums():
    rng = np.random.default_rng(0)
    found = {"loss": rng.random(50), "weight": rng.integers(1, 9, 50).astype(np.float32)}
    assert LOSS.value(found) == pytest.approx(np.average(found["loss"], weights=found["weight"]))
    np.testing.assert_allclose(
        LOSS.contributions(found), Numeric(LOSS).contributions(found), atol=1e-6
    )


def test_a_ratio_of_sums_has_its_jackknife_error():
    rng = np.random.default_rng(0)
    words = rng.integers(1, 40, 800)
    errors = rng.poisson(0.1 * words)
    scores = linearized(errors, words)
    assert scores.mean() == pytest.approx(errors.sum() / words.sum())
    without = (errors.sum() - errors) / (words.sum() - words)
    jackknife = 799 / 800 * ((without - without.mean()) ** 2).sum()
    assert scores.var(ddof=1) / 800 == pytest.approx(jackknife, rel=0.02)


def test_what_is_right_or_wrong_contributes_1_or_0():
    found = of_classes(0)
    right = found["probabilities"].argmax(axis=1) == found["label"]
    np.testing.assert_array_equal(ACCURACY.contributions(found), right)
    # With equally many examples per class, the recall is hits minus a constant.
    even = take(found, np.concatenate([np.flatnonzero(found["label"] == c)[:8] for c in (0, 1)]))
    right = even["probabilities"].argmax(axis=1) == even["label"]
    apart = UAR.contributions(even) - right
    assert np.unique(np.round(apart, 12)).size <= 2


def test_contributions_of_an_equal_error_rate_give_its_spread():
    """Compares with the standard deviation over many data sets of normal scores."""
    rng = np.random.default_rng(0)
    values, spreads = [], []
    for _ in range(400):
        true = np.arange(400) < 100
        scores = rng.normal(np.where(true, 1.5, 0.0), np.where(true, 1.6, 1.0))
        found = {"tags": true[:, None].astype(np.uint8), "probabilities": scores[:, None]}
        contributions = EER.contributions(found)
        values.append(EER.value(found))
        assert contributions.mean() == pytest.approx(values[-1], abs=1e-12)
        # All data sets have the same number of examples with and without the tag.
        kinds = [contributions[true], contributions[~true]]
        spreads.append(sum(kind.size * kind.var() for kind in kinds) / 400**2)
    assert math.sqrt(np.mean(spreads)) == pytest.approx(np.std(values), rel=0.1)


def test_metrics_leave_out_constant_tags():
    found = of_tags(0)
    found["tags"][:, 0], found["tags"][:, 1] = 1, 0
    only = {name: found[name][:, [2]] for name in ("tags", "probabilities")}
    for metric in (MAP, EER):
        assert metric.value(found) == metric.value(only)
        np.testing.assert_array_equal(metric.contributions(found), metric.contributions(only))
        none = take(found, found["tags"][:, 2] > 0)
        assert math.isnan(metric.value(none)) and np.isnan(metric.contributions(none)).all()


@pytest.mark.parametrize(("scores", "rate"), [((0.9, 0.8, 0.2, 0.1), 0), ((0.1, 0.2, 0.8, 0.9), 1)])
def test_the_best_and_the_worst_order(scores, rate):
    found = {"tags": np.array([[1], [1], [0], [0]]), "probabilities": np.array(scores)[:, None]}
    assert EER.value(found) == rate
    np.testing.assert_allclose(EER.contributions(found), rate)
    assert MAP.value(found) == pytest.approx(1.0 if rate == 0 else (1 / 3 + 2 / 4) / 2)


class TopTwo(Mean):
    """A user-defined metric that is a mean."""

    name = "top_two"

    def terms(self, predictions):
        best = np.argsort(predictions["probabilities"])[:, -2:]
        return (best == predictions["label"][:, None]).any(axis=1), None


class Kappa(Metric):
    """A user-defined metric that is not a mean: Cohen's kappa."""

    name = "kappa"
    bounds = (-1.0, 1.0)

    def value(self, predictions, weights=None):
        answer = predictions["probabilities"].argmax(axis=1)
        return sklearn.metrics.cohen_kappa_score(
            predictions["label"], answer, sample_weight=weights
        )


def test_user_defined_metrics():
    found = of_classes(1)
    top = sklearn.metrics.top_k_accuracy_score(
        found["label"], found["probabilities"], k=2, labels=range(CLASSES)
    )
    assert measure((TopTwo(),), found) == {"top_two": pytest.approx(top)}
    assert (TopTwo().title, TopTwo().perfect, TopTwo().margin_at(0.5)) == ("top two", 1.0, 0.01)
    found = of_classes(1, count=60)
    contributions = Kappa().contributions(found)
    assert contributions.mean() == pytest.approx(Kappa().value(found))
    left_out = [Kappa().value(take(found, np.arange(60) != i)) for i in range(60)]
    jackknife = 59 * np.var(left_out)  # relative to the variance of the value
    assert contributions.var() / 60 == pytest.approx(jackknife, rel=0.1)


def test_examples_of_a_cluster_share_contributions():
    found = of_classes(0, count=2500)
    found["cluster"] = np.random.default_rng(0).integers(0, 40, 2500)
    exact = UAR.contributions(found)
    numeric = Numeric(UAR).contributions(found)
    assert numeric.mean() == pytest.approx(exact.mean())
    for cluster in range(40):
        mine = found["cluster"] == cluster
        assert numeric[mine].mean() == pytest.approx(exact[mine].mean(), abs=1e-6)
    assert np.unique(numeric).size <= 1100


def test_metrics_are_found_by_name():
    assert named(OF_CLASSES, "uar", "--metric") is UAR
    assert named(OF_CLASSES, None, "--metric") is ACCURACY
    with pytest.raises(UserError, match='Did you mean "accuracy"'):
        named(OF_CLASSES, "acuracy", "--metric")
    assert [metric_called(name) for name in ("loss", "map")] == [LOSS, MAP]
