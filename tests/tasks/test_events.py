"""Detection of events: targets of frames, loss, scores and decoding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from gru_audio.audio.normalise import Normalisation
from gru_audio.data.fields import Event, EventsField
from gru_audio.data.resident import Batch
from gru_audio.data.signal import Signal
from gru_audio.events.decode import Events
from gru_audio.events.metrics import active
from gru_audio.settings import UserError
from gru_audio.tasks.event_metrics import events_of
from gru_audio.tasks.events import SoundEvents
from gru_audio.tasks.metrics import measure
from gru_audio.tasks.task import FrameTimes, decoded
from gru_audio.training.program import make_program
from tests.events.tables import random_pair
from tests.songs import SONGS
from tests.tones import RATE, tiny

NAMES = ("a", "b", "c")
FIELD = EventsField(NAMES)
STEP = 0.02
TASK = SoundEvents(NAMES, times=FrameTimes(STEP / 2, STEP))
OVERLAPPING = dataclasses.replace(TASK, overlap=True)


def labels_of(*clips) -> dict[str, np.ndarray]:
    """Labels of clips, each a list of (onset, offset, class)."""
    return FIELD.arrays([tuple(Event(*event) for event in clip) for clip in clips])


def prepared(task, labels, count):
    features = jnp.zeros((len(labels["counts"]), count, 1))
    return task.inputs_and_targets(features, jnp.full(len(features), count), labels)


def program_of(changes=()):
    return make_program(tiny({**SONGS, **dict(changes)}), Signal(RATE), FIELD)


def targets_of(program, labels, *, seconds=1.0, start=0):
    """Targets of a batch of silent clips."""
    count, steps = len(labels["counts"]), round(seconds * RATE)
    batch = Batch(
        jnp.zeros((count, steps), jnp.int16),
        jnp.full(count, steps),
        jnp.full(count, start),
        jax.tree.map(jnp.asarray, labels),
        jnp.arange(count),
    )
    like = jnp.zeros(program.frontend.features)
    return np.asarray(program.inputs_and_targets(Normalisation(like, like + 1), batch).targets)


def test_targets_are_the_classes_that_are_active_at_the_centres_of_frames():
    labels = labels_of([(0.01, 0.05, "b"), (0.031, 0.049, "a")], [])
    overlapping = np.asarray(prepared(OVERLAPPING, labels, 4).targets)
    # A centre that equals an onset is inside; one that equals an offset is not.
    assert overlapping[0].tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert not overlapping[1].any()
    np.testing.assert_array_equal(prepared(TASK, labels, 4).targets, [[2, 2, 0, 0], [0] * 4])


def test_of_events_that_overlap_the_target_is_the_first_class():
    labels = labels_of([(0.0, 0.1, "c"), (0.04, 0.08, "b")])
    np.testing.assert_array_equal(prepared(TASK, labels, 6).targets, [[3, 3, 2, 2, 3, 0]])


@pytest.mark.parametrize("seed", range(3))
def test_targets_on_the_device_are_those_of_the_metrics(seed):
    reference, _ = random_pair(seed)
    names = tuple("abcdefghij"[: 1 + int(reference.classes.max(initial=0))])
    field = EventsField(names)
    task = SoundEvents(names, overlap=True, times=FrameTimes(STEP / 2, STEP))
    labels = field.arrays([tuple(reference.named(names))])
    targets = np.asarray(prepared(task, labels, 400).targets)[0]
    rounded = Events(labels["times"][0].astype(str).astype(float), labels["classes"][0])
    np.testing.assert_array_equal(targets, active(rounded, len(names), 400, STEP))


def test_an_event_between_two_centres_is_in_no_frame():
    labels = labels_of([(0.012, 0.028, "a")])
    assert not np.asarray(prepared(OVERLAPPING, labels, 4).targets).any()


@pytest.mark.parametrize("overlap", [False, True])
def test_targets_of_a_crop_are_a_crop_of_the_targets(overlap):
    program = program_of({"task.overlap": overlap})
    labels = labels_of([(0.1, 0.35, "a"), (0.3, 0.62, "b"), (0.9, 1.0, "c")])
    whole = targets_of(program, labels)
    hop = program.frontend.hop
    cropped = targets_of(program, labels, seconds=0.5, start=12 * hop)
    np.testing.assert_array_equal(cropped, whole[:, 12 : 12 + cropped.shape[1]])


def test_events_move_with_speed_and_shift():
    labels = labels_of([(0.1, 0.3, "a")], [(0.2, 0.4, "b")])
    moved = TASK.moved(labels, jnp.array([2.0, 1.0]), jnp.array([0.05, -0.1]))
    np.testing.assert_allclose(moved["times"][:, 0], [[0.1, 0.2], [0.1, 0.3]], rtol=1e-6)


@pytest.mark.parametrize("stack", [1, 3])
def test_frames_lie_at_the_centres_of_their_windows(stack):
    """Also if a frame consists of several frames of the frontend."""
    program = program_of({"frontend.stack": stack, "task.overlap": True})
    window, hop = program.frontend.samples(1) / RATE, 0.02
    labels = labels_of([(0.2, 0.5, "a")])
    found = targets_of(program, labels)[0, :, 0]
    centres = (window + (stack - 1) * hop) / 2 + stack * hop * np.arange(len(found))
    np.testing.assert_array_equal(found, (centres > 0.2) & (centres < 0.5))


@pytest.mark.parametrize("task", [TASK, OVERLAPPING])
def test_events_that_become_frames_and_events_again_are_within_a_frame(task):
    events = [(0.1, 0.2, "a"), (0.2, 0.3, "b"), (0.34, 0.5, "b"), (0.52, 0.58, "c")]
    labels = labels_of(events, [])
    targets = prepared(task, labels, 40).targets
    hot = targets if task.overlap else jax.nn.one_hot(targets, task.outputs)
    outputs = 20.0 * hot - 10.0
    scores = task.score(outputs, targets, jnp.array([40, 30])) | labels
    predictions = decoded(jax.device_get(scores), task.decoding(None))
    reference, system = events_of(predictions, 0)
    assert system.classes.tolist() == reference.classes.tolist()
    assert np.abs(system.times - reference.times).max() <= STEP / 2 + 1e-6
    metrics = measure(task.metrics, predictions)
    assert metrics["event_f1"] == metrics["segment_f1"] == 1
    assert [row["events"] for row in task.table(predictions)] == [1, 2, 1]
    assert predictions.keys() == task.stored.keys()
    for name, stored in task.stored.items():
        assert stored.fits(predictions[name].shape, 2), name
        assert predictions[name].dtype.kind in stored.kinds, name


@pytest.mark.parametrize("task", [TASK, OVERLAPPING])
def test_the_loss_is_the_cross_entropy_of_valid_frames(task):
    labels = labels_of([(0.0, 0.05, "a")], [(0.02, 0.09, "b")])
    outputs = np.random.default_rng(0).normal(0, 2, (2, 5, task.outputs))
    lengths = np.array([5, 3])
    targets = np.asarray(prepared(task, labels, 5).targets)
    outputs[1, 3:] = np.nan
    loss, terms = task.loss(jnp.asarray(outputs), jnp.asarray(targets), jnp.asarray(lengths))
    for row, length in enumerate(lengths):
        given, wanted = outputs[row, :length], targets[row, :length]
        if task.overlap:
            expected = (np.logaddexp(0, given) - given * wanted).mean(-1).sum()
        else:
            picked = given[np.arange(length), wanted]
            expected = (np.log(np.exp(given).sum(-1)) - picked).sum()
        assert loss[row] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(terms, lengths)
    scores = jax.device_get(task.score(outputs, targets, lengths))
    assert not scores["frames"][1, 3:].any()


@pytest.mark.parametrize("overlap", [False, True])
def test_the_weighted_loss_by_hand(overlap):
    """Ten frames: six of the background, two of "a", one of "a" and "c", one of "c"."""
    task = dataclasses.replace(TASK, overlap=overlap, class_weight="balanced")
    labels = labels_of([(0.0, 0.06, "a"), (0.04, 0.08, "c")], [])
    weights = task.class_weights(labels, np.array([6, 4]))
    if overlap:  # absent, present: n / (2 count); "b" is always absent
        expected = [[10 / 14, 10 / 6], [1, 0], [10 / 16, 10 / 4]]
    else:  # where events overlap, the class is "a"
        expected = [10 / 18, 10 / 9, 0, 10 / 3]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)

    soft = task.weighted(jax.tree.map(jnp.asarray, labels), labels, jnp.asarray(weights))
    inputs = prepared(task, task.moved(soft, jnp.ones(2), jnp.zeros(2)), 6)
    outputs = np.random.default_rng(0).normal(0, 2, (2, 6, task.outputs))
    loss, terms = task.loss(jnp.asarray(outputs), inputs.targets, jnp.array([6, 4]))
    probabilities = 1 / (1 + np.exp(-outputs)) if overlap else softmax(outputs, axis=-1)
    for row, of_frames in enumerate([["A", "A", "AC", "C", "-", "-"], ["-"] * 4]):
        total = weight = 0.0
        for frame, active_classes in enumerate(of_frames):
            p = probabilities[row, frame]
            if overlap:
                for c, name in enumerate("ABC"):
                    on = name in active_classes
                    total -= weights[c, int(on)] * np.log(p[c] if on else 1 - p[c]) / 3
                    weight += weights[c, int(on)] / 3
            else:
                label = 1 + "ABC".find(active_classes[0]) if active_classes != "-" else 0
                total -= weights[label] * np.log(p[label])
                weight += weights[label]
        assert loss[row] == pytest.approx(total, rel=1e-4)
        assert terms[row] == pytest.approx(weight, rel=1e-5)
    assert terms.sum() == pytest.approx(10)  # the weights have a mean of one
    assert TASK.class_weights(labels, np.array([6, 4])) is None


@pytest.mark.parametrize("task", [TASK, OVERLAPPING])
def test_the_trivial_predictor_knows_how_often_classes_are_active(task):
    labels = labels_of([(0.0, 0.1, "a")], [(0.0, 0.04, "a"), (0.04, 0.1, "c")])
    targets, lengths = prepared(task, labels, 10).targets, jnp.array([10, 5])
    sums, count = task.target_sums(targets, lengths)
    active_frames = [5 + 2, 0, 3]
    assert sums.tolist() == active_frames if task.overlap else [5, *active_frames]
    outputs = task.trivial_outputs(sums / count, lengths, 10)
    assert outputs.shape == (2, 10, task.outputs)
    share = task.probabilities(outputs)[0, 0]
    np.testing.assert_allclose(share, sums / count, atol=1e-3)


def test_decoding_is_chosen_on_validation():
    """A threshold of 1/2 finds nothing; a lower one finds everything."""
    labels = labels_of([(0.1, 0.3, "a"), (0.5, 0.7, "b")])
    targets = prepared(OVERLAPPING, labels, 40).targets
    outputs = jnp.where(targets, -0.5, -5.0)
    scores = jax.device_get(OVERLAPPING.score(outputs, targets, jnp.array([40]))) | labels
    chosen = OVERLAPPING.decoding(scores)
    assert measure(OVERLAPPING.metrics, decoded(scores, chosen))["segment_f1"] == 1
    default = OVERLAPPING.decoding(None)
    assert measure(OVERLAPPING.metrics, decoded(scores, default))["segment_f1"] == 0
    assert {name: value.shape for name, value in default.items()} == {
        name: value.shape for name, value in chosen.items()
    }


def test_events_cannot_be_mixed():
    with pytest.raises(UserError, match="classes of events cannot be mixed"):
        program_of({"augment.mixup": 0.2})
