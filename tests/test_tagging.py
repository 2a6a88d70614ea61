"""The commands where a clip has several tags, or none."""

import json

import numpy as np
import pytest

from tests.commands import run
from tests.sounds import encode
from tests.tones import RATE

PITCHES = {"high": 1600.0, "low": 400.0}  # Hz
LABELS = ("none", "high", "low", "high+low")
CLIPS = {"train": 12, "validation": 4, "test": 6}  # of each label

EXPERIMENT = '''"""Which tones sound at once?"""

from gru_audio.sweeping.sweep import Sweep
from tests.tones import tiny


def get_config():
    return tiny(
        {
            "data.name": "chords",
            "data.cluster": "",
            "task.name": "tagging",
            "model.pooling": "mean",
            "train.steps": 80,
            "train.select": "validation/map",
        }
    )


def get_sweep(config):
    return Sweep({"GRU": {}, "RNN": {"model.cell": "rnn"}})
'''


def chord(label, rng):
    time = np.arange(int(0.3 * RATE)) / RATE
    sound = 0.02 * rng.standard_normal(len(time))
    for tag in set(label.split("+")) & PITCHES.keys():
        sound += 0.2 * np.sin(2 * np.pi * PITCHES[tag] * rng.uniform(0.9, 1.1) * time)
    return encode(sound, RATE)


@pytest.fixture(scope="module")
def swept(environment, tmp_path_factory):
    """An environment with the chords, their folder, and the workdir of a sweep on them."""
    folder, rng = tmp_path_factory.mktemp("chords"), np.random.default_rng(0)
    rows = ["file,label,split"]
    for split, count in CLIPS.items():
        for label in LABELS:
            for take in range(count):
                name = f"{split}_{label}_{take}.wav"
                (folder / name).write_bytes(chord(label, rng))
                rows.append(f"{name},{label},{split}")
    (folder / "chords.csv").write_text("\n".join(rows))
    environment = environment | {"GRU_AUDIO_DATA": str(tmp_path_factory.mktemp("prepared"))}
    manifest = ["--name", "chords", "--manifest", folder / "chords.csv", "--sample_rate", RATE]
    run(environment, "prepare", "manifest", *manifest)
    experiment, workdir = folder / "tagging.py", folder / "workdir"
    experiment.write_text(EXPERIMENT)
    run(environment, "sweep", "--config", experiment, "--workdir", workdir)
    return environment, folder, workdir


def test_the_tags_are_learnt_and_the_arms_compared(swept):
    _, _, workdir = swept
    for arm in ("GRU", "RNN"):
        result = json.loads((workdir / "runs" / f"{arm}-seed0" / "result.json").read_text())
        assert result["metrics"]["test"]["map"] > 0.9
        assert result["metrics"]["test"]["eer"] < 0.1
    page = (workdir / "report" / "index.html").read_text()
    assert "test loss" in page
    assert "What is taken for what" not in page  # no class is the one right answer


def test_evaluate_tells_tag_by_tag(swept):
    environment, _, workdir = swept
    flags = ["--workdir", workdir, "--run", "GRU-seed0", "--json"]
    told = json.loads(run(environment, "evaluate", *flags).stdout)
    assert [row["tag"] for row in told["classes"]] == ["high", "low"]
    assert all(row["examples"] == 2 * CLIPS["test"] for row in told["classes"])
    assert told["metrics"]["map"] == pytest.approx(
        np.mean([row["average precision"] for row in told["classes"]])
    )


def test_predict_gives_a_probability_to_each_tag(swept):
    environment, folder, workdir = swept
    files = [folder / f"test_{label}_0.wav" for label in ("high+low", "none")]
    flags = ["--workdir", workdir, "--run", "GRU-seed0", "--json"]
    both, none = map(json.loads, run(environment, "predict", *flags, *files).stdout.splitlines())
    assert {label["label"] for label in both["labels"]} == {"high", "low"}
    assert min(label["probability"] for label in both["labels"]) > 0.5
    assert max(label["probability"] for label in none["labels"]) < 0.5
