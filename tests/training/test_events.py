"""Detection of events in training: crops, whole recordings in evaluation, and segments of time."""

import shutil

import jax
import numpy as np
import pytest

from gru_audio.audio.normalise import feature_sums
from gru_audio.data.fields import take
from gru_audio.data.resident import Batch, Mixed
from gru_audio.data.split import never_trained_on
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.tasks.metrics import measure
from gru_audio.tasks.task import decoded
from gru_audio.training import keys as uses
from gru_audio.training.program import make_program
from tests.songs import SONGS
from tests.tones import assert_same, fresh, make_loader, member, steps, tiny
from tests.trained import train
from tests.training.outcome import Outcome, same_member

STEPS = 60


def config_of(**changes):
    return tiny({**SONGS, **changes})


@pytest.fixture(scope="module")
def loader(songs):
    return make_loader(songs, [config_of()])


@pytest.fixture(scope="module")
def trained(songs, loader):
    return steps(loader, [config_of()], [STEPS])


def scores_of(loader, state, role="validation"):
    state = loader.placement.scatter(state)
    return loader.score(state.weights, state.normalisation, role)[0]


def test_training_is_cropped_and_evaluation_is_not(songs, loader, trained):
    plan, lengths = loader.data.plan, songs.columns["length"]
    assert max(plan.padded) <= 0.5 * songs.signal.rate < lengths.min()
    assert max(plan.evaluated) >= lengths.max()
    scores, ids = scores_of(loader, trained[0]), loader.data.ids[0]["validation"]
    frames = [loader.program.frontend.frames(length) for length in lengths[ids]]
    np.testing.assert_array_equal(scores["frame_count"], frames)
    events = songs.columns["events"]["counts"][ids]
    np.testing.assert_array_equal(scores["counts"], events)


def test_features_are_normalised_by_whole_recordings(songs, loader):
    state = member(fresh(loader, [config_of()]), 0)
    ids = loader.data.ids[0]["train"]
    lengths = songs.columns["length"][ids]
    whole = np.zeros((len(ids), lengths.max()), np.int16)
    for row, signal in zip(whole, songs.signals(ids), strict=True):
        row[: len(signal)] = signal
    features, frames = jax.jit(loader.program.frontend)(
        loader.program.signal.floats(whole), lengths
    )
    count, total, _ = (np.asarray(each).sum(0) for each in feature_sums(features, frames))
    np.testing.assert_allclose(state.normalisation.mean, total / count, rtol=1e-4, atol=1e-4)


def test_events_are_learnt(songs, loader, trained):
    task = loader.program.task
    metrics = measure(task.metrics, decoded(scores_of(loader, trained[0]), task.decoding(None)))
    assert metrics["frame_error"] < 0.2
    assert metrics["segment_f1"] > 0.8


@pytest.mark.parametrize("name", ["speed", "tempo"])
def test_events_stay_with_their_sound(songs, loader, name):
    """The classes of a frame are those at the time of the original sound that it comes from."""
    most, use = 0.3, {"speed": uses.SPEED, "tempo": uses.TEMPO}[name]
    ids = loader.data.ids[0]["train"]
    lengths = songs.columns["length"][ids]
    sounds = np.zeros((len(ids), lengths.max()), np.int16)
    for row, signal in zip(sounds, songs.signals(ids), strict=True):
        row[: len(signal)] = signal
    events, rows = take(songs.values("events"), ids), np.arange(len(ids))
    batch, program = Batch(sounds, lengths, 0 * rows, events, rows), loader.program
    state = member(fresh(loader, [config_of()]), 0)
    state = state.replace(hyper={f"augment.{name}": np.float32(most)})
    keys = program.keys(state, rows).rows
    prepared = program.augmented(state, keys, batch, Mixed())
    for row, key in enumerate(keys[:, use]):
        factor = 1 + most * float(jax.random.uniform(key, minval=-1.0, maxval=1.0))
        frame = np.arange(int(prepared.lengths[row]))
        hop, centre = np.divide((program.frontend.hop, program.frontend.centre), songs.signal.rate)
        start = factor * centre if name == "speed" else centre  # in the original sound
        moved = start + factor * frame * hop
        times = events["times"][row, : events["counts"][row]]
        sure = (np.abs(moved[:, None] - times.reshape(1, -1)) > 1e-4).all(axis=1)
        wanted = np.zeros(len(frame), int)  # the background
        for (onset, offset), label in zip(times, events["classes"][row], strict=False):
            wanted[(moved >= onset) & (moved < offset)] = 1 + label
        found = np.asarray(prepared.targets[row, : len(frame)])
        np.testing.assert_array_equal(found[sure], wanted[sure])
        assert wanted.any() and sure.mean() > 0.9


def test_resident_and_streamed_give_the_same_bits(songs, loader, trained):
    configs = [config_of(**{"data.loader": "streamed"})]
    streamed = make_loader(songs, configs)
    state, metrics = steps(streamed, configs, [1] * 6)
    again, expected = steps(loader, [config_of()], [6])
    assert_same(metrics, expected)
    assert_same(scores_of(streamed, state), scores_of(loader, again))


@pytest.mark.reliability
def test_resumed_or_alone_a_run_has_the_same_bits(songs, tmp_path):
    first, second = {"model.dropout": 0.2}, {"model.dropout": 0.1, "seed": 1}
    common = {**SONGS, "augment.time_shift_ms": 20.0, "checkpoint.every_steps": 5}
    two = Outcome(songs, tmp_path / "two", first, second, **common)
    for path in (tmp_path / "two" / "checkpoints").iterdir():
        if int(path.name) > 5:
            shutil.rmtree(path)
    resumed = Outcome(songs, tmp_path / "two", first, second, **common)
    for m in range(2):
        same_member(resumed, two, m)
    same_member(Outcome(songs, tmp_path / "alone", second, **common), two, 0, 1)


def test_class_weights_are_those_of_the_frames_of_a_run(songs):
    configs = [config_of(**{"task.class_weight": "balanced"})]
    loader = make_loader(songs, configs)
    state, metrics = steps(loader, configs, [6])
    assert np.isfinite(metrics["loss"]).all()
    task, ids = loader.program.task, loader.data.ids[0]["train"]
    frames = loader.program.output_frames(songs.columns["length"][ids])
    labels, like = take(songs.values("events"), ids), np.zeros((len(ids), frames.max(), 1))
    sums, total = task.target_sums(task.inputs_and_targets(like, frames, labels).targets, frames)
    np.testing.assert_allclose(state.class_weights[0], total / (len(sums) * sums), rtol=1e-6)


def test_classes_that_training_lacks_are_outputs_and_named(songs):
    """Their events are in the reference; no frame of training has them."""
    field, values = songs.field("events"), songs.values("events")
    label = field.names.index("middle")
    without = np.flatnonzero(~(values["classes"] == label).any(1))[:2]
    others = np.setdiff1d(np.arange(len(songs)), without)
    ids = {"train": without, "validation": others[:0], "test": others}
    (remark,) = never_trained_on(songs, config_of().data, ids)
    assert remark.startswith("events: 1 class is in test but not in train: middle (")
    assert make_program(config_of(), songs.signal, field).task.output_names == field.names


def test_gradients_may_be_truncated_in_time(songs):
    configs = [config_of(**{"train.tbptt_frames": 10})]
    _, metrics = steps(make_loader(songs, configs), configs, [20])
    loss = metrics["loss"][0]
    assert np.isfinite(loss).all() and loss[-5:].mean() < 0.8 * loss[0]


def test_a_saved_model_evaluates_whole_recordings(songs, loader, tmp_path):
    model = train(songs, config_of(), 5)
    model.save(tmp_path)
    loaded = TrainedModel.load(tmp_path)
    assert loaded.longest == loader.data.plan.padded[-1]
    ids = loader.data.ids[0]["test"]
    labels = {name: values[ids] for name, values in songs.columns["events"].items()}
    scores = loaded.scores(songs.signals(ids), labels)
    expected = scores_of(loader, steps(loader, [config_of()], [5])[0], "test")
    scores["frames"] = scores["frames"][:, : expected["frames"].shape[1]]  # less padding
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-4, atol=1e-3, err_msg=name)
