"""Sounds drawn by trained models: keyed, of any number, and the command."""

import jax
import numpy as np
import pytest
import soundfile
from etils import epath

from gru_audio.inference.generator import Generator
from gru_audio.inference.model import Model
from gru_audio.settings import UserError
from gru_audio.sweeps.workdir import Workdir
from tests.commands import run
from tests.tones import RATE, tiny
from tests.trained import train

SOUND = {
    "task.name": "generation",
    "frontend.name": "samples",
    "frontend.normalise": False,
    "model.name": "samplernn",
    "model.embedding": 8,
    "data.crop_seconds": 0.032,
    "train.tbptt_frames": 128,
}
COUNT, SAMPLES = 3, 50


@pytest.fixture(scope="module")
def trained(source):
    return train(source, tiny(SOUND), 20)


@pytest.fixture(scope="module")
def generator(trained):
    return Generator(trained, rows=1)


@pytest.fixture(scope="module")
def sounds(generator):
    return generator.sounds(SAMPLES, COUNT, conditions="low", seed=7)


def test_sounds(sounds):
    assert sounds.shape == (COUNT, SAMPLES) and sounds.dtype == np.int16
    assert not np.array_equal(sounds[0], sounds[1])


def test_a_sound_does_not_depend_on_the_others(generator, sounds, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    conditions = ["low", "high"]
    others = generator.sounds(SAMPLES, 2, conditions=conditions, seed=7)
    np.testing.assert_array_equal(others[0], sounds[0])
    assert not np.array_equal(others[1], sounds[1])


def test_several_sounds_in_one_program(trained, sounds):
    """Five sounds in programs of two, on three devices."""
    found = Generator(trained, rows=2).sounds(SAMPLES, COUNT, conditions="low", seed=7)
    assert np.mean(found == sounds) > 0.9  # up to rounding


def test_sounds_in_several_calls(generator, sounds, monkeypatch):
    calls = []
    monkeypatch.setattr("gru_audio.inference.generator._CALL", 20)
    found = generator.sounds(
        SAMPLES, COUNT, conditions="low", seed=7, progress=lambda *at: calls.append(at)
    )
    np.testing.assert_array_equal(found, sounds)
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_low_temperatures_draw_the_most_probable_codes(generator):
    cold = generator.sounds(SAMPLES, 2, conditions="low", temperature=1e-4)
    np.testing.assert_array_equal(cold[0], cold[1])


def test_a_prefix_is_continued(generator, sounds):
    """The beginning of a sound, as prefix, gives other sounds than silence does."""
    prefix = sounds[0][:16]
    found = generator.sounds(32, 1, conditions="low", prefix=prefix)
    assert found.shape == (1, 48)
    np.testing.assert_array_equal(found[0, :16], prefix)
    alone = generator.sounds(32, 1, conditions="low")
    assert not np.array_equal(found[0, 16:], alone[0])
    odd = generator.sounds(5, 2, conditions="low", prefix=sounds[0][:9])
    assert odd.shape == (2, 14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature=0 must be a number above 0"),
        ({"temperature": float("nan")}, "temperature=nan must be"),
        ({"count": 0}, "count=0 must be at least 1"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"condition": None}, "needs a condition: label=high, low, middle"),
        ({"condition": "lo"}, 'no class of label. Did you mean "low"'),
        ({"condition": ["low"], "count": 2}, "1 conditions for 2 sounds"),
        ({"seconds": 0.0}, "seconds=0 must be above 0"),
        ({"prefix": "nowhere.wav"}, "nowhere.wav"),
    ],
)
def test_bad_arguments(trained, changes, message):
    with pytest.raises(UserError, match=message):
        Model(trained).generate(**{"seconds": 0.1, "condition": "low"} | changes)


def test_other_models_generate_nothing(source):
    with pytest.raises(UserError, match=r"generates no sound: config\.task\.name=classification"):
        Model(train(source, tiny(), 1)).generate(0.1)


def test_a_model_without_a_condition(source):
    model = Model(train(source, tiny(SOUND | {"data.target": ""}), 1))
    assert model.generate(0.01).shape == (1, 80)
    with pytest.raises(UserError, match="has no condition"):
        model.generate(0.01, condition="low")


def test_the_command(trained, environment, tmp_path):
    """Python and the command give the same sound, from a prefix of another rate."""
    trained.save(Workdir(epath.Path(tmp_path / "work")).model("one"))
    tone = 0.3 * np.sin(np.arange(1600) / 8)
    soundfile.write(tmp_path / "begin.wav", tone, 2 * RATE)
    flags = [f"--workdir={tmp_path / 'work'}", "--seconds=0.01", "--count=2", "--seed=3"]
    flags += [f"--out={tmp_path / 'out'}", f"--prefix={tmp_path / 'begin.wav'}"]
    done = run(environment, "generate", *flags, "--condition=label=high")
    files = [tmp_path / "out" / f"3-{i}.wav" for i in range(2)]
    assert done.stdout.split() == list(map(str, files))
    found = [soundfile.read(file, dtype="int16") for file in files]
    expected = Model(trained).generate(
        0.01, 2, condition="high", seed=3, prefix=tmp_path / "begin.wav"
    )
    assert [rate for _, rate in found] == [RATE] * 2
    np.testing.assert_array_equal([sound for sound, _ in found], expected)
    refused = run(environment, "generate", *flags, "--condition=speaker=ann", code=2)
    assert "pass label=CLASS" in refused.stderr
