"""Functions that all tasks share."""

import numpy as np
import pytest

from gru_audio.config import default_config, override, read_config
from gru_audio.data.fields import ClassField
from gru_audio.data.signal import Signal
from gru_audio.settings import UserError
from gru_audio.tasks import TASKS
from gru_audio.tasks.classification import Classification
from gru_audio.tasks.task import FrameTimes, Stored, decoded, joined
from gru_audio.training.program import make_program


def test_joined_scores_are_padded_with_zeros():
    parts = [
        {"loss": np.array([1.0]), "frames": np.full((1, 2, 3), 1, np.float16)},
        {"loss": np.array([2.0, 3.0]), "frames": np.full((2, 4, 3), 2, np.float16)},
    ]
    whole = joined(parts)
    np.testing.assert_array_equal(whole["loss"], [1, 2, 3])
    assert whole["frames"].shape == (3, 4, 3) and whole["frames"].dtype == np.float16
    assert whole["frames"].sum() == 2 * 3 * 1 + 2 * 4 * 3 * 2
    assert not whole["frames"][0, 2:].any()


def test_parameters_of_decoding_are_repeated_for_each_example():
    predictions = decoded({"loss": np.zeros(3)}, {"threshold": np.array([0.2, 0.7])})
    np.testing.assert_array_equal(predictions["threshold"], [[0.2, 0.7]] * 3)
    assert Stored("f", (None,)).fits(predictions["threshold"].shape, 3)
    assert not Stored("f", (3,)).fits(predictions["threshold"].shape, 3)


@pytest.mark.parametrize("stack", [1, 4])
@pytest.mark.parametrize("model", ["rnn_classifier", "crnn"])
def test_times_of_output_frames(model, stack):
    """An output frame lies at the centre of the sound that it covers."""
    config = read_config(
        {"model.name": model, "model.conv": ("2 3x3 stride 2x2",), "frontend.stack": stack}
    )
    program = make_program(config, Signal(16000), ClassField(("a", "b")))
    stride = 2 if model == "crnn" else 1
    first, step = program.frame_times
    window, hop = program.frontend.samples(1) / 16000, config.frontend.hop_ms / 1000
    assert step == pytest.approx(stride * stack * hop)
    assert first == pytest.approx((window + (stack - 1) * hop) / 2)
    np.testing.assert_allclose(FrameTimes(first, step).centres(3)[2], first + 2 * step)


class WholeSequences(Classification):
    """A task per frame whose labels belong to whole sequences, and cannot be mixed."""

    per_frame = True
    aligned = False
    mixable = False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment.mixup": 0.2}, "classes cannot be mixed: set it to 0"),
        ({"train.tbptt_frames": 8}, "has one loss for a whole sequence: set config.train.tbptt"),
    ],
)
def test_settings_that_labels_of_whole_sequences_do_not_allow(changes, message, monkeypatch):
    monkeypatch.setitem(TASKS, "classification", WholeSequences)
    config = override(default_config(), {"task.name": "classification", **changes})
    with pytest.raises(UserError, match=message):
        make_program(config, Signal(16000), ClassField(("a", "b")))


def test_only_tasks_without_a_target_for_every_frame_may_shorten_sequences(monkeypatch):
    shorter = {"model.name": "crnn", "model.conv": ("2 3x3 stride 2x2",)}
    monkeypatch.setitem(TASKS, "classification", WholeSequences)
    make_program(read_config(shorter), Signal(16000), ClassField(("a", "b")))
    monkeypatch.setattr(WholeSequences, "aligned", True)
    with pytest.raises(UserError, match="outputs for every frame need every frame"):
        make_program(read_config(shorter), Signal(16000), ClassField(("a", "b")))
