"""Reconstruction of frames, against scikit-learn and float64 formulas. Padding has no effect."""

import jax
import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, r2_score

from gru_audio.config import default_config, override
from gru_audio.data.signal import Signal
from gru_audio.settings import UserError
from gru_audio.tasks.metrics import measure
from gru_audio.tasks.reconstruction import EXPLAINED_VARIANCE, Reconstruction
from gru_audio.training.program import make_program

WIDTH, TIME = 5, 9
LENGTHS = np.array([9, 4, 1, 6], np.int32)
VALID = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
TARGETS = RNG.normal(3, 2, (4, TIME, WIDTH)).astype(np.float32)
OUTPUTS = (TARGETS + RNG.normal(0, 1, TARGETS.shape)).astype(np.float32)
GARBAGE = np.where(VALID[..., None], 0, RNG.normal(0, 1e4, TARGETS.shape)).astype(np.float32)
TASK = Reconstruction(WIDTH)


def scores(outputs=OUTPUTS, targets=TARGETS, lengths=LENGTHS):
    return {k: np.asarray(v) for k, v in TASK.score(outputs, targets, lengths).items()}


def test_metrics_against_scikit_learn():
    found = measure(TASK.metrics, scores())
    frames, decoded = TARGETS[VALID].astype(np.float64), OUTPUTS[VALID].astype(np.float64)
    assert found["loss"] == pytest.approx(mean_squared_error(frames, decoded), rel=1e-6)
    expected = r2_score(frames, decoded, multioutput="variance_weighted")
    assert found["explained_variance"] == pytest.approx(expected, rel=1e-6)


def test_weights_of_examples_are_those_of_their_frames():
    weights = np.array([1.0, 2.0, 0.5, 0.0])
    found = EXPLAINED_VARIANCE.value(scores(), weights)
    of_frames = np.repeat(weights, LENGTHS)
    expected = r2_score(
        TARGETS[VALID], OUTPUTS[VALID], sample_weight=of_frames, multioutput="variance_weighted"
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_contributions_are_derivatives_by_the_weights():
    predictions = scores()
    found = EXPLAINED_VARIANCE.contributions(predictions)
    assert found.mean() == pytest.approx(EXPLAINED_VARIANCE.value(predictions), rel=1e-6)
    numeric = super(type(EXPLAINED_VARIANCE), EXPLAINED_VARIANCE).contributions(predictions)
    np.testing.assert_allclose(found, numeric, rtol=1e-4, atol=1e-4)


def test_perfect_and_constant_outputs():
    assert measure(TASK.metrics, scores(TARGETS)) == {"explained_variance": 1.0, "loss": 0.0}
    total, count = TASK.target_sums(TARGETS, LENGTHS)
    np.testing.assert_allclose(total / count, TARGETS[VALID].mean(0), rtol=1e-5)
    constant = TASK.trivial_outputs(total / count, LENGTHS, TIME)
    assert measure(TASK.metrics, scores(constant))["explained_variance"] == pytest.approx(
        0, abs=1e-5
    )


def test_frames_that_do_not_vary_have_no_explained_variance():
    flat = np.zeros_like(TARGETS)
    assert np.isnan(EXPLAINED_VARIANCE.value(scores(targets=flat)))


def test_padding_has_no_effect():
    def lost(outputs, targets):
        loss, terms = TASK.loss(outputs, targets, LENGTHS)
        return loss.sum(), (loss, terms, TASK.score(outputs, targets, LENGTHS))

    gradient, clean = jax.grad(lost, has_aux=True)(OUTPUTS, TARGETS)
    its_gradient, dirty = jax.grad(lost, has_aux=True)(OUTPUTS + GARBAGE, TARGETS + GARBAGE)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    np.testing.assert_array_equal(gradient, its_gradient)
    assert np.all(np.any(gradient, axis=-1) == VALID)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task.name": "reconstruction"}, "one vector of a sequence: set config.model.name=autoen"),
        (
            {"model.name": "autoencoder", "task.name": "next_step"},
            "task.name=reconstruction",
        ),
        (
            {"task.name": "reconstruction", "model.name": "autoencoder", "frontend.deltas": 1},
            "set config.frontend.deltas=0",
        ),
        (
            {"task.name": "reconstruction", "model.name": "autoencoder", "train.tbptt_frames": 8},
            "cannot run in pieces.*set config.train.tbptt_frames=0",
        ),
    ],
    ids=["model", "task", "deltas", "tbptt"],
)
def test_combinations_that_cannot_work_are_refused(changes, message):
    config = override(default_config(), {"frontend.normalise": False, **changes})
    with pytest.raises(UserError, match=message):
        make_program(config, Signal(8000), None)
