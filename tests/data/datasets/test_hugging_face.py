"""Data sets of Hugging Face on disk; they are made without torchcodec."""

import numpy as np
import pytest

from gru_audio.data.source import open_source
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from tests.sounds import encode

datasets = pytest.importorskip("datasets")

RATE, CLIPS = 8000, 12


@pytest.fixture(scope="module", autouse=True)
def quiet():
    datasets.disable_progress_bars()


def sound(i):
    return 0.3 * np.sin(np.arange(800 + 10 * i) * (0.1 + 0.05 * i))


def made(folder):
    """Sounds in bytes, save the second, which is a file beside the data set."""
    (folder / "one.wav").write_bytes(encode(sound(1), RATE))
    sounds = [{"bytes": encode(sound(i), RATE), "path": f"{i}.wav"} for i in range(CLIPS)]
    sounds[1] = {"bytes": None, "path": str(folder / "one.wav")}
    data = datasets.Dataset.from_dict(
        {
            "audio": sounds,
            "label": [i % 2 if i != 4 else -1 for i in range(CLIPS)],
            "tags": [[0, 1], [0], []] * (CLIPS // 3),
            "sentence": [f"sentence number {i}" for i in range(CLIPS)],
            "speaker_id": [i // 3 for i in range(CLIPS)],
            "age": [20.5 + i for i in range(CLIPS)],
            "file": [f"{i}.wav" for i in range(CLIPS)],
        }
    )
    features = data.features.copy()
    features["audio"] = datasets.Audio()
    features["label"] = datasets.ClassLabel(names=["no", "yes"])
    features["tags"] = datasets.List(datasets.ClassLabel(names=["loud", "noisy"]))
    return data.cast(features)


def test_columns_become_fields_and_splits_stay(tmp_path):
    data = made(tmp_path)
    parts = {"train": data.select(range(8)), "validation": data.select(range(8, 10))}
    splits = datasets.DatasetDict(parts | {"test": data.select(range(10, 12))})
    splits.save_to_disk(tmp_path / "saved")
    said = prepare("hf", tmp_path, name="mine", path=tmp_path / "saved", sample_rate=RATE)
    assert "file (another type)" in said
    source = open_source("mine", tmp_path)
    assert source.columns["split"].tolist() == ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    assert source.values("label").tolist() == [0, 1, 0, 1, -1, 1, 0, 1, 0, 1, 0, 1]
    assert source.columns["length"].tolist() == [800 + 10 * i for i in range(CLIPS)]
    signals = source.signals([0, 1])
    for i in range(2):
        np.testing.assert_allclose(signals[i] / 2**15, sound(i), atol=1e-4)
    for name, kind in (
        ("label", "Class"),
        ("tags", "Tags"),
        ("sentence", "Text"),
        ("speaker_id", "Class"),
        ("age", "Number"),
    ):
        assert type(source.field(name)).__name__ == f"{kind}Field"


def test_splits_are_drawn_by_a_column(tmp_path):
    made(tmp_path).save_to_disk(tmp_path / "saved")
    options = {"path": tmp_path / "saved", "sample_rate": RATE, "split_by": "speaker_id"}
    prepare("hf", tmp_path, name="mine", fractions=[50, 25, 25], **options)
    source = open_source("mine", tmp_path)
    speakers = {
        split: set(source.columns["speaker_id"][source.columns["split"] == split].tolist())
        for split in ("train", "validation", "test")
    }
    assert [len(found) for found in speakers.values()] == [2, 1, 1]
    assert len(set.union(*speakers.values())) == 4


def test_what_is_no_data_set_of_sound(tmp_path):
    with pytest.raises(UserError, match="is no data set that save_to_disk"):
        prepare("hf", tmp_path, name="mine", path=tmp_path)
    made(tmp_path).remove_columns("audio").save_to_disk(tmp_path / "silent")
    with pytest.raises(UserError, match="0 columns of type Audio"):
        prepare("hf", tmp_path, name="mine", path=tmp_path / "silent")
    made(tmp_path).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match='no column "nobody"'):
        prepare("hf", tmp_path, name="mine", path=tmp_path / "saved", split_by="nobody")
