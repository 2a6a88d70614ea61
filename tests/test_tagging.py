"""The commands where a clip has several tags, or none."""

import json

import numpy as np
import pytest
import soundfile

from tests.commands import run
from tests.sounds import encode
from tests.tones import RATE

PITCHES = {"high": 1600.0, "low": 400.0}  # Hz
LABELS = ("none", "high", "low", "high+low")
CLIPS = {"train": 12, "validation": 4, "test": 6}  # of each label

EXPERIMENT = '''"""Which tones sound at once?"""

from gru_audio.sweeps.sweep import Sweep
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
    manifest = ["--manifest", folder / "chords.csv", "--tags", "label", "--sample_rate", RATE]
    run(environment, "prepare", "manifest", "--name", "chords", *manifest)
    experiment, workdir = folder / "tagging.py", folder / "workdir"
    experiment.write_text(EXPERIMENT)
    run(environment, "sweep", "--config", experiment, "--workdir", workdir)
    return environment, folder, workdir


def test_the_tags_are_learnt_and_the_arms_compared(swept):
    _, _, workdir = swept
    for variant in ("GRU", "RNN"):
        result = json.loads((workdir / "runs" / f"{variant}-seed0" / "result.json").read_text())
        assert result["metrics"]["test"]["map"] > 0.9
        assert result["metrics"]["test"]["eer"] < 0.1
    page = (workdir / "report" / "index.html").read_text()
    assert "test mAP" in page and "Tag by tag" in page
    assert "What is taken for what" not in page  # no class is the one right answer


@pytest.mark.reliability  # for its length
def test_what_is_not_defined_on_a_split_ends_no_run(swept, tmp_path):
    """No validation clip has a tag: there is a loss, but no average precision."""
    environment, folder, _ = swept
    lines = (folder / "chords.csv").read_text().splitlines()
    tagless = [line for line in lines if ",validation" not in line or ",none," in line]
    (folder / "tagless.csv").write_text("\n".join(tagless))
    manifest = ["--manifest", folder / "tagless.csv", "--tags", "label", "--sample_rate", RATE]
    run(environment, "prepare", "manifest", "--name", "tagless", *manifest)
    flags = ["--config", folder / "tagging.py", "--config.data.name=tagless"]
    short = ["--config.train.steps=2", "--config.train.eval_every=1"]
    by_loss = ["--config.train.select=validation/loss", "--workdir", tmp_path / "loss"]
    run(environment, "train", *flags, *short, *by_loss)
    (result,) = (tmp_path / "loss" / "runs").glob("*/result.json")
    assert json.loads(result.read_text())["best_step"] == 2
    failed = run(environment, "train", *flags, *short, "--workdir", tmp_path / "map", code=1)
    assert "validation/map is not finite at step 1" in failed.stderr


def test_evaluate_tells_tag_by_tag(swept):
    environment, _, workdir = swept
    flags = ["--workdir", workdir, "--run", "GRU-seed0", "--json"]
    shown = run(environment, "evaluate", *flags)
    assert "warning" not in shown.stderr
    told = json.loads(shown.stdout)
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


def test_evaluate_takes_other_sets_of_the_tags_that_the_model_knows(swept, tmp_path):
    environment, folder, workdir = swept
    lines = [line.replace(",high+low,", ",low+high,") for line in _rows(folder, "test")]
    _prepare(environment, tmp_path, folder, "turned", lines)
    flags = ["--workdir", workdir, "--run", "GRU-seed0", "--json"]
    told = json.loads(run(environment, "evaluate", *flags, "--data", "turned").stdout)
    own = json.loads((workdir / "runs" / "GRU-seed0" / "result.json").read_text())
    assert told["metrics"] == pytest.approx(own["metrics"]["test"], rel=1e-5)
    lines = [line.replace(",low,", ",shrill,") for line in lines]
    _prepare(environment, tmp_path, folder, "strange", lines)
    refused = run(environment, "evaluate", *flags, "--data", "strange", code=2)
    assert "does not know these tags of strange: shrill." in refused.stderr


def test_evaluate_notices_that_the_data_was_prepared_anew(swept, tmp_path):
    environment, folder, workdir = swept
    elsewhere = environment | {"GRU_AUDIO_DATA": str(tmp_path / "data")}
    fewer = _rows(folder, "train")[1:] + _rows(folder, "validation") + _rows(folder, "test")
    _prepare(elsewhere, tmp_path, folder, "chords", fewer)
    warned = run(elsewhere, "evaluate", "--workdir", workdir, "--run", "GRU-seed0").stderr
    assert "chords has changed since GRU-seed0 was trained on it" in warned


def test_predict_gives_each_tag_its_stretches(swept, tmp_path):
    environment, folder, workdir = swept
    parts = [soundfile.read(folder / f"test_{label}_0.wav")[0] for label in ("high", "high+low")]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), RATE)
    flags = ["--workdir", workdir, "--run", "GRU-seed0", "--window=0.3", "--hop=0.3"]
    shown = run(environment, "predict", *flags, tmp_path / "long.wav").stdout
    rows = [line.split()[:3] for line in shown.splitlines()[2:]]
    assert rows == [["0:00:00.00", "0:00:00.60", "high"], ["0:00:00.30", "0:00:00.60", "low"]]


def _rows(folder, split):
    lines = (folder / "chords.csv").read_text().splitlines()[1:]
    return [line for line in lines if line.endswith(f",{split}")]


def _prepare(environment, scratch, folder, name, rows):
    manifest = scratch / f"{name}.csv"
    manifest.write_text("\n".join(["file,label,split", *rows]))
    options = ["--name", name, "--folder", folder, "--tags", "label", "--sample_rate", RATE]
    run(environment, "prepare", "manifest", "--manifest", manifest, *options)
