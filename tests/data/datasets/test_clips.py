"""The behaviour that all builders share."""

import tracemalloc

import numpy as np
import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio
from gru_audio.data.datasets import BUILDERS
from gru_audio.data.datasets.clips import SPLITS, Clip, ClipBuilder
from gru_audio.data.datasets.folder import Folder
from gru_audio.data.datasets.tts_digits import TtsDigits
from gru_audio.data.fields import classes, natural
from gru_audio.data.index import UNKNOWN_LICENCE
from gru_audio.data.source import open_source
from tests import sounds
from tests.data.datasets.making import build, folder_builder


def test_natural_order():
    assert sorted(["10", "9", "a10", "a9", "b"], key=natural) == ["9", "10", "a9", "a10", "b"]
    assert sorted({"a1", "a", "a01", "a001"}, key=natural) == ["a", "a001", "a01", "a1"]


class Noise(ClipBuilder):
    """Large generated clips."""

    VERSION = tfds.core.Version("1.0.0")
    fields = classes("label")

    def __init__(self, *, data_dir, count: int, samples: int):
        self._count, self._samples = count, samples
        super().__init__(data_dir=data_dir, sample_rate=16000, on_bad_file="skip")

    def clips(self, scratch, downloads):
        return [Clip(str(i), "train", {"label": "x"}, self._read) for i in range(self._count)]

    def _read(self, rate: int) -> Audio:
        return Audio(np.ones(self._samples, np.int16), rate, rate)


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    builder = Noise(data_dir=tmp_path, count=200, samples=500_000)  # 200 MB
    tracemalloc.start()
    build(builder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_progress_counts_every_clip(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 5})
    (tmp_path / "sounds" / "cat" / "bad").write_text("x")
    builder = folder_builder(tmp_path)
    seen = []
    builder.progress = lambda done, total: seen.append((done, total))
    build(builder)
    assert seen == [(i, 6) for i in range(1, 7)]


def test_tfds_reads_what_we_write_without_tensorflow(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 10, "dog": 10})
    builder = folder_builder(tmp_path)
    _, columns = build(builder)
    again = tfds.builder_from_directory(builder.data_dir)
    assert again.info.features["label"].names == ["cat", "dog"]
    assert again.info.file_format.value == "array_record"
    clips = [clip for split in SPLITS for clip in again.as_data_source(split=split)]
    assert [len(clip["audio"]) for clip in clips] == columns["length"].tolist()
    assert [clip["label"] for clip in clips] == columns["label"].tolist()


def test_preparing_twice_gives_one_fingerprint_and_a_changed_sample_another(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 5, "dog": 5})
    options = {"name": "mine", "folder": tmp_path / "sounds"}
    prints = [build(Folder(data_dir=tmp_path / name, **options))[0]["fingerprint"] for name in "ab"]
    assert prints[0] == prints[1]
    path = tmp_path / "sounds" / "cat" / "0.wav"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert build(Folder(data_dir=tmp_path / "c", **options))[0]["fingerprint"] != prints[0]


def test_every_name_has_a_builder():
    assert all(issubclass(builder, ClipBuilder) for builder in BUILDERS.values())
    assert BUILDERS["tts_digits"] is TtsDigits


def test_the_licence_is_stored_with_the_data(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 3})
    description, _ = build(folder_builder(tmp_path))
    assert description["licence"] == UNKNOWN_LICENCE  # of the user's own data
    builder = Noise(data_dir=tmp_path, count=1, samples=100)
    builder.licence = "CC0 1.0"
    build(builder)
    assert open_source("noise", tmp_path).licence == "CC0 1.0"
