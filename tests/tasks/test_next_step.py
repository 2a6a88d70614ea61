"""Prediction of frames, against PyTorch, SciPy and float64 formulas. Padding has no effect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit
from scipy.stats import norm

from gru_audio.config import default_config, override
from gru_audio.settings import UserError
from gru_audio.tasks import make_task
from gru_audio.tasks.metrics import measure
from gru_audio.tasks.next_step import DISTRIBUTIONS, NextStep

WIDTH, TIME = 5, 9
LENGTHS = np.array([9, 4, 1, 6], np.int32)
VALID = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (4, TIME, WIDTH)).astype(np.float32)
ROLLS = (RNG.random((4, TIME, WIDTH)) < 0.3).astype(np.float32)
REALS = RNG.normal(0, 2, (4, TIME, WIDTH)).astype(np.float32)
GARBAGE = np.where(VALID[..., None], 0, RNG.normal(0, 1e4, LOGITS.shape)).astype(np.float32)

both_distributions = pytest.mark.parametrize("distribution", DISTRIBUTIONS)


def sums(values):
    """Returns the sums of (4, TIME, ...) over valid frames (4,), in float64."""
    per_frame = values.astype(np.float64).reshape(4, TIME, -1).sum(axis=-1)
    return np.where(VALID, per_frame, 0).sum(axis=1)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_bernoulli_is_the_likelihood_of_zeros_and_ones():
    loss, terms = NextStep(WIDTH).loss(LOGITS, ROLLS, LENGTHS)
    logits = LOGITS.astype(np.float64)
    close(loss, -sums(np.where(ROLLS == 1, log_expit(logits), log_expit(-logits))))
    np.testing.assert_array_equal(terms, LENGTHS)


def test_bernoulli_against_pytorch():
    torch = pytest.importorskip("torch")
    loss, _ = NextStep(WIDTH).loss(LOGITS, ROLLS, LENGTHS)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(LOGITS).double(), torch.from_numpy(ROLLS).double(), reduction="none"
    )
    close(loss, sums(expected.numpy()))


def test_gaussian_is_the_likelihood_at_unit_variance_up_to_a_constant():
    loss, terms = NextStep(WIDTH, "gaussian").loss(LOGITS, REALS, LENGTHS)
    at_best = norm.logpdf(0.0)
    close(loss, sums(at_best - norm.logpdf(REALS.astype(np.float64), LOGITS)))
    np.testing.assert_array_equal(terms, LENGTHS)


def test_huge_logits_stay_finite():
    logits = np.full((1, 1, 2), 1e30, np.float32)
    for target, expected in ((1.0, 0.0), (0.0, 2e30)):
        targets = np.full_like(logits, target)
        loss, _ = NextStep(2).loss(logits, targets, np.array([1]))
        assert loss[0] == np.float32(expected)


@both_distributions
def test_padding_has_no_effect(distribution):
    """Padding of any value changes neither losses nor gradients."""
    task = NextStep(WIDTH, distribution)

    def lost(outputs, targets):
        loss, terms = task.loss(outputs, targets, LENGTHS)
        return loss.sum(), (loss, terms)

    gradient, clean = jax.grad(lost, has_aux=True)(LOGITS, ROLLS)
    its_gradient, dirty = jax.grad(lost, has_aux=True)(LOGITS + GARBAGE, ROLLS + GARBAGE)
    np.testing.assert_array_equal(clean, dirty)
    np.testing.assert_array_equal(gradient, its_gradient)
    assert np.all(np.any(gradient, axis=-1) == VALID)


@both_distributions
def test_the_length_of_padding_has_no_effect(distribution):
    task, more = NextStep(WIDTH, distribution), ((0, 0), (0, 7), (0, 0))
    longer = [np.pad(a, more, constant_values=3.0) for a in (LOGITS, ROLLS)]
    close(task.loss(*longer, LENGTHS)[0], task.loss(LOGITS, ROLLS, LENGTHS)[0])


def test_every_frame_is_predicted_from_earlier_frames():
    inputs, lengths, targets, _ = NextStep(WIDTH).inputs_and_targets(ROLLS, LENGTHS, jnp.zeros(4))
    assert not np.any(inputs[:, 0])
    np.testing.assert_array_equal(inputs[:, 1:], ROLLS[:, :-1])
    np.testing.assert_array_equal(targets, ROLLS)
    np.testing.assert_array_equal(lengths, LENGTHS)


def test_the_first_frame_can_be_input_only():
    task = NextStep(WIDTH, first_frame=False)
    inputs, lengths, targets, _ = task.inputs_and_targets(ROLLS, LENGTHS, jnp.zeros(4))
    np.testing.assert_array_equal(inputs, ROLLS[:, :-1])
    np.testing.assert_array_equal(targets, ROLLS[:, 1:])
    np.testing.assert_array_equal(lengths, LENGTHS - 1)


def test_the_two_differ_by_the_loss_of_the_first_frame():
    with_first, without = NextStep(WIDTH), NextStep(WIDTH, first_frame=False)
    loss, terms = with_first.loss(LOGITS, ROLLS, LENGTHS)
    first, _ = with_first.loss(LOGITS, ROLLS, np.ones(4, np.int32))
    _, lengths, targets, _ = without.inputs_and_targets(ROLLS, LENGTHS, jnp.zeros(4))
    rest, of_rest = without.loss(LOGITS[:, 1:], targets, lengths)
    close(rest, loss - first)
    np.testing.assert_array_equal(of_rest, terms - 1)


def test_metrics_weight_every_frame_equally():
    task = NextStep(WIDTH)
    scores = {k: np.asarray(v) for k, v in task.score(LOGITS, ROLLS, LENGTHS).items()}
    metrics = measure(task.metrics, scores)
    logits = LOGITS.astype(np.float64)
    total = -sums(np.where(ROLLS == 1, log_expit(logits), log_expit(-logits)))
    np.testing.assert_allclose(metrics["loss"], total.sum() / LENGTHS.sum(), rtol=1e-6)
    assert abs(metrics["loss"] - np.mean(total / LENGTHS)) > 0.01  # as for equal pieces


def test_a_sequence_without_targets_has_no_weight():
    task = NextStep(WIDTH, first_frame=False)
    _, lengths, targets, _ = task.inputs_and_targets(ROLLS, LENGTHS, jnp.zeros(4))
    scores = {k: np.asarray(v) for k, v in task.score(LOGITS[:, 1:], targets, lengths).items()}
    assert (scores["loss"][2], scores["weight"][2]) == (0, 0)  # the piece of one frame
    others = {k: v[[0, 1, 3]] for k, v in scores.items()}
    assert measure(task.metrics, scores) == measure(task.metrics, others)


def made(features=WIDTH, **changes):
    config = override(default_config(), {f"task.{name}": v for name, v in changes.items()})
    return make_task(config.task, None, features)


def test_make_task():
    assert made(name="next_step") == NextStep(WIDTH)
    assert made(name="next_step").outputs == WIDTH
    gaussian = made(name="next_step", distribution="gaussian", first_frame=False)
    assert gaussian == NextStep(WIDTH, "gaussian", first_frame=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "next_steps"}, 'config.task.name="next_steps" is unknown. Did you mean "next_st'),
        ({"name": "next_step", "distribution": "gausian"}, 'Did you mean "gaussian"'),
        ({"name": "classification"}, "needs config.data.target"),
        ({"name": "adding"}, "adding needs frames of 2, not of 5 values"),
        ({"name": "copy_memory"}, "copy_memory needs frames of 1, not of 5 values"),
        ({"name": "counting"}, "counting needs frames of 2, not of 5 values"),
    ],
    ids=str,
)
def test_invalid_tasks_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        made(**changes)
