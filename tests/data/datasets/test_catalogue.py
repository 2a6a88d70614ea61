"""TFDS data sets: the output of TFDS builders is read as sounds and fields."""

from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from gru_audio.data.source import open_source
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import counts, values

pytest.importorskip("tensorflow")  # TFDS needs it for every Audio feature

RATE = 8000
WORDS = ["yes", "no"]


def tone(i: int) -> np.ndarray:
    return np.rint(sounds.tone(0.02 + 0.01 * i, RATE, 300 + 50 * i) * 32767).astype(np.int64)


class TinySounds(tfds.core.GeneratorBasedBuilder):
    """Two words, one of them without a speaker."""

    VERSION = tfds.core.Version("1.0.0")
    features: ClassVar[dict[str, Any]] = {
        "audio": tfds.features.Audio(sample_rate=RATE),
        "word": tfds.features.ClassLabel(names=WORDS),
        "speaker": tfds.features.ClassLabel(names=["ann", "bo"]),
        "text": tfds.features.Text(),
        "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["loud", "soft"])),
        "age": np.int64,
        "events": tfds.features.Sequence(
            {
                "onset": np.float64,
                "offset": np.float64,
                "label": tfds.features.ClassLabel(names=["owl"]),
            }
        ),
    }

    def _info(self):
        features = tfds.features.FeaturesDict(self.features)
        return tfds.core.DatasetInfo(
            builder=self, features=features, disable_shuffling=True, license="CC0 1.0"
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(range(6)),
            "dev-clean": self._generate_examples([6]),
        }

    def _generate_examples(self, numbers):
        for i in numbers:
            labels = {"word": WORDS[i % 2], "speaker": i % 2 - 1, "text": "spoken"}
            labels |= {"tags": ["soft"] * (i % 2), "age": i}
            labels |= {"events": [{"onset": 0.0, "offset": 0.01, "label": "owl"}] * (i % 2)}
            yield i, {"audio": self.sound(i), **labels}

    def sound(self, i: int) -> np.ndarray:
        return tone(i)


class TinyStereo(TinySounds):
    """Float sounds of unknown rate."""

    features: ClassVar[dict[str, Any]] = {
        "sound": tfds.features.Audio(shape=(None, 2), dtype=np.float32),
        "word": tfds.features.ClassLabel(names=WORDS),
    }

    def _generate_examples(self, numbers):
        for i in numbers:
            both = np.stack([tone(i), np.zeros_like(tone(i))], axis=1) / 32768
            yield i, {"sound": both.astype(np.float32), "word": i % 2}


class TinyLoud(TinySounds):
    """One sound has more than 16 bits, another one is empty."""

    def sound(self, i: int) -> np.ndarray:
        return {0: tone(i) * 256, 1: tone(i)[:0]}.get(i, tone(i))


class TinyNumbers(TinySounds):
    """No sound."""

    features: ClassVar[dict[str, Any]] = {"word": tfds.features.ClassLabel(names=WORDS)}


def test_sounds_splits_and_class_fields(tmp_path):
    prepare("tfds:tiny_sounds", tmp_path)
    source = open_source("tfds_tiny_sounds", tmp_path)
    assert source.signal.rate == RATE
    assert source.licence == "CC0 1.0"
    assert counts(source, "word", "speaker") == {
        ("train", "yes", ""): 3,
        ("train", "no", "ann"): 3,
        ("dev_clean", "yes", ""): 1,
    }
    for i, found in enumerate(source.signals(range(7))):
        np.testing.assert_array_equal(found, tone(i))
    assert source.fields["tags"].names == ("soft",)
    assert source.columns["tags"].tolist() == [[i % 2] for i in range(7)]
    assert source.columns["age"].tolist() == [*range(7)]
    assert source.columns["text"]["text"].tolist() == ["spoken"] * 7
    assert source.columns["events"]["counts"].tolist() == [i % 2 for i in range(7)]


def test_channels_are_averaged_and_rates_converted(tmp_path):
    prepare("tfds:tiny_stereo", tmp_path, rate=RATE, sample_rate=2 * RATE)
    source = open_source("tfds_tiny_stereo", tmp_path)
    assert source.columns["length"].tolist() == [2 * len(tone(i)) for i in range(7)]
    for i, found in enumerate(source.signals(range(7))):
        np.testing.assert_allclose(found[::2][20:-20], tone(i)[20:-20] / 2, atol=200)
    assert values(source, "word")[:2] == WORDS


def test_invalid_sounds_are_skipped(tmp_path):
    summary = prepare("tfds:tiny_loud", tmp_path)
    assert "skipped: 2" in summary
    assert "train_000000: contradictory header" in summary
    assert "train_000001: empty" in summary


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("tfds:tiny_numbers", "tiny_numbers of TFDS cannot be used: it has 0 Audio features"),
        ("tfds:tiny_stereo", "TFDS does not know the rate of tiny_stereo: pass --rate"),
        ("tfds:no_such_sounds", "TFDS has no data set no_such_sounds"),
    ],
)
def test_data_sets_without_audio_are_refused(tmp_path, recipe, message):
    with pytest.raises(UserError, match=message):
        prepare(recipe, tmp_path)
