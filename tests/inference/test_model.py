"""The Python interface: files and arrays in, predictions out."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from gru_audio.audio.io import decode
from gru_audio.config import override
from gru_audio.data.fields import TagsField
from gru_audio.data.signal import frames
from gru_audio.inference.events import EventLists
from gru_audio.inference.labels import Labels
from gru_audio.inference.model import Model
from gru_audio.inference.transcripts import Transcripts
from gru_audio.settings import UserError
from tests.exports.models import NAMES, made
from tests.songs import SONGS, write_songs
from tests.tones import RATE, tiny
from tests.trained import train

KINDS = ("classes", "events", "text")


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture(scope="module")
def models(source, songs, speller):
    """A model of each kind of prediction, and clips of different lengths."""
    return {
        "classes": (Model(train(source, tiny({"data.buckets": 2}), 20)), source.signals(range(6))),
        "events": (Model(train(songs, tiny(SONGS), 30)), songs.signals(range(24, 30))),
        "text": (Model(speller), [np.concatenate(source.signals([i, i + 9])) for i in range(6)]),
    }


@pytest.fixture(scope="module")
def classes(models):
    return models["classes"][0]


@pytest.fixture(scope="module")
def sound(models):
    return models["classes"][1][0]


@pytest.fixture(scope="module")
def files(tones_folder):
    return sorted(tones_folder.rglob("fay_*.wav"))


def test_labels_are_those_of_the_command(classes, files, capsys):
    options = dict(top_k=3, threshold=None, window=None, hop=None, smooth=1)
    printer = Labels(classes.trained, as_json=True, **options)
    printer.clips((path.name, decode(path, RATE).samples) for path in files)
    printed = [json.loads(line)["labels"] for line in capsys.readouterr().out.splitlines()]
    for found, labels in zip(classes.predict(files), printed, strict=True):
        assert list(found.probabilities) == [label["label"] for label in labels]
        assert found.labels == (found.label,) == (labels[0]["label"],)
        assert found.probability == pytest.approx(labels[0]["probability"], abs=1e-6)


def test_events_are_those_of_the_command(models, capsys):
    model, sounds = models["events"]
    options = dict(format="dcase", threshold=None, window=None, hop=None)
    printer = EventLists(model.trained, as_json=True, **options)
    printer.clips([("a", sound) for sound in sounds])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = [event for events in model.events(sounds, RATE) for event in events]
    assert len(found) > 10
    assert [{"file": "a", **event._asdict()} for event in found] == printed
    assert model.predict(sounds[0], RATE) == model.events(sounds[0], RATE)
    assert not model.events(sounds[0], RATE, threshold=1.0)
    with pytest.raises(UserError, match="threshold=nan must be"):
        model.events(sounds[0], RATE, threshold=float("nan"))


@pytest.mark.parametrize("options", [{}, {"beam": 4, "lexicon": True}])
def test_texts_are_those_of_the_command(models, spelled_source, capsys, options):
    model, sounds = models["text"][0], spelled_source.signals([71, 72, 73])
    flags = dict(beam=None, lm=None, lm_weight=0.5, word_bonus=1.0, lexicon=False) | options
    Transcripts(model.trained, as_json=False, **flags).clips([("a", sound) for sound in sounds])
    printed = capsys.readouterr().out.splitlines()
    found = model.transcribe(sounds, RATE, **options)
    assert [f"a\t{transcript}" for transcript in found] == printed
    assert len(found[0].words) == len(found[0].text.split())
    if not options:
        assert model.predict(sounds, RATE) == found


@pytest.mark.parametrize(
    ("options", "message"), [({"beam": 0}, "beam=0 must be"), ({"lexicon": True}, "beam=16")]
)
def test_options_of_text_that_cannot_be_used(models, sound, options, message):
    with pytest.raises(UserError, match=message):
        models["text"][0].transcribe(sound, RATE, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_results_depend_neither_on_the_batch_nor_on_the_order(models, kind):
    """Also if one sound is longer than any of the data set."""
    model, sounds = models[kind]
    sounds = [*sounds, np.concatenate(sounds)]
    assert len(sounds[-1]) > model.trained.clip_limit
    together = model.probabilities(sounds, RATE)
    back = model.probabilities(iter(sounds[::-1]), RATE)[::-1]
    for sound, one, other in zip(sounds, together, back, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        np.testing.assert_allclose(one, model.probabilities(sound, RATE), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_have_names_and_times(models, kind):
    model, sounds = models[kind]
    found = model.probabilities(sounds[0], RATE)
    assert (found.dtype, found.shape[-1]) == (np.float32, len(model.labels))
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)  # these are all exclusive
    if kind == "classes":
        assert found.ndim == 1
        return
    times = model.times(len(found))
    np.testing.assert_allclose(times[:2], [128 / RATE, 128 / RATE + 0.02], atol=1e-6)
    assert len(sounds[0]) / RATE - 0.04 < times[-1] < len(sounds[0]) / RATE


def test_types_of_arrays(classes, sound):
    expected = classes.probabilities(sound, RATE)
    floats = sound / 32768
    for array in (floats, floats.astype(np.float32), jnp.asarray(floats), jnp.asarray(sound)):
        np.testing.assert_array_equal(classes.probabilities(array, rate=RATE), expected)


def test_arrays_are_resampled_as_files_are(classes, sound, tmp_path):
    file, other = tmp_path / "other rate.wav", 11025
    soundfile.write(file, sound, other)
    from_file = classes.probabilities(file)
    np.testing.assert_array_equal(classes.probabilities(sound, other), from_file)
    assert np.abs(classes.probabilities(sound, RATE) - from_file).max() > 1e-4
    (alone,) = classes.probabilities([str(file)])
    np.testing.assert_array_equal(alone, from_file)


@pytest.mark.parametrize(
    ("sounds", "rate", "message"),
    [
        (np.zeros(4000), None, "Pass the sample rate of the arrays in Hz. .* rate=8000"),
        (np.zeros(4000), 8, "Did you mean 8000"),
        ([np.zeros(4000), np.full(4000, np.nan)], RATE, "Sound 1 of the list has NaN"),
        (np.full(4000, np.inf), RATE, "infinite"),
        (np.zeros(0), RATE, "The sound is empty"),
        (np.zeros((2, 4000)), RATE, r"shape \(2, 4000\), not \(samples,\). Average the channels"),
        (np.zeros(4000, np.int32), RATE, "int32: pass int16, or floats"),
        (np.zeros(4000, bool), RATE, "holds bool, not numbers"),
        (np.full(4000, 1000.0), RATE, "reaches 1000, .* divide 16-bit values by 32768"),
        (np.zeros(100), RATE, "too short: it has 100 samples .* needs 256"),
        ([0.1, 0.2], RATE, "Sound 0 of the list is of type float"),
        (3, RATE, "not int"),
        ("missing.wav", None, "missing.wav cannot be read: No such file"),
        (["tests"], None, "tests: not a regular file"),
        ("tests/tones.py", None, "tests/tones.py: not audio"),
    ],
)
def test_sounds_that_cannot_be_used(classes, sounds, rate, message):
    with pytest.raises(UserError, match=message):
        classes.predict(sounds, rate)


def test_no_sounds(classes):
    assert classes.predict([]) == []


def test_what_a_model_does_not_predict(models, sound):
    classes, events = models["classes"][0], models["events"][0]
    with pytest.raises(UserError, match=r"no text: .*=classification. It .* labels: call predict"):
        classes.transcribe(sound, RATE)
    with pytest.raises(UserError, match=r"no events: .*call predict\(\)"):
        classes.events(sound, RATE)
    with pytest.raises(UserError, match=r"no text: .*It predicts events: call events\(\)"):
        events.transcribe(sound, RATE)


def test_gates_and_states_over_time(models, sound):
    model, sounds = models["classes"]
    found = model.gates(sounds, RATE)
    for gates, clip in zip(found, sounds, strict=True):
        layer = gates["encoder/forward_0"]
        assert list(layer) == ["candidate", "h", "reset", "update"]
        count = max(1, 1 + (len(clip) - 256) // 160)
        assert {array.shape for array in layer.values()} == {(count, 8)}
        np.testing.assert_allclose(gates.times, 0.016 + 0.02 * np.arange(count), atol=1e-6)
    alone = model.gates(sounds[0], RATE)
    np.testing.assert_allclose(
        alone["encoder/forward_0"]["h"], found[0]["encoder/forward_0"]["h"], atol=1e-5
    )
    h, update, candidate = (alone["encoder/forward_0"][n] for n in ("h", "update", "candidate"))
    np.testing.assert_allclose(
        h[1:], update[1:] * h[:-1] + (1 - update[1:]) * candidate[1:], atol=1e-5
    )
    assert repr(alone).startswith(f"<Gates over {len(alone.times)} frames: encoder/forward_0: ")


def test_a_stream_ends_with_the_probabilities_of_the_whole_sound(classes, sound):
    stream = classes.stream(chunk_ms=40)
    blocks = np.array_split(sound, 7)
    values = [new.values for (new,) in (*map(stream.push, blocks), stream.close())]
    found = stream.probabilities(np.concatenate(values)[-1])
    np.testing.assert_allclose(found, classes.probabilities(sound, RATE), atol=1e-5)


def test_a_model_without_gates(sound):
    model = Model(made({"model.name": "cnn", "model.conv": ("2 3x3",), "model.pooling": "mean"}))
    with pytest.raises(UserError, match="no recurrent layers"):
        model.gates(sound, RATE)


def test_tags_are_those_with_probabilities_of_a_half_or_more(sound):
    trained = made()
    config = override(trained.config, {"task.name": "tagging"})
    model = Model(dataclasses.replace(trained, config=config, field=TagsField(NAMES)))
    found, probabilities = model.predict(sound, RATE), model.probabilities(sound, RATE)
    assert set(found.labels) == {n for n, p in zip(NAMES, probabilities, strict=True) if p >= 0.5}
    assert list(found.probabilities.values()) == sorted(probabilities.tolist(), reverse=True)


def test_a_model_of_frames_takes_frames():
    model = Model(made({"frontend.name": "frames"}, frames(12, "float32")))
    values = np.random.default_rng(0).normal(size=(9, 12))
    (found,) = model.probabilities([values])
    assert found.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match=r"shape \(9, 11\), not \(frames, 12\)"):
        model.predict(values[:, 1:])
    with pytest.raises(UserError, match="the model reads frames"):
        model.predict("a.wav")


def test_everything_prints_in_one_line(classes, sound):
    assert repr(classes) == (
        "<Model one: classification of 3 labels from sound at 8000 Hz, 443 parameters>"
    )
    assert (classes.labels, classes.rate, classes.run) == (("high", "low", "middle"), RATE, "one")
    assert classes.metrics == {}
    found = classes.predict(sound, RATE)
    assert str(found).startswith(f"{found.label} {found.probability:.1%}, ")
    assert repr(found) == f"<Prediction {found}>"
