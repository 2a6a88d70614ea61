"""The commands where clips have texts."""

import json
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from gru_audio.sweeps.workdir import Workdir
from tests.commands import ROOT, leavings, run
from tests.spelled import COUNTS, write_manifest
from tests.tones import RATE

EXPERIMENT = '''"""Spelled texts."""

from gru_audio.sweeps.sweep import Sweep
from tests.spelled import config


def get_config():
    return config(**{"train.steps": 6, "train.eval_every": 3})


def get_sweep(config):
    return Sweep({"GRU": {}})
'''


@pytest.fixture(scope="module")
def workdir(speller, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    speller.save(Workdir(epath.Path(folder)).model("one"))
    return folder


@pytest.fixture(scope="module")
def spelling(environment, spelled_folder):
    """The environment of commands on the spelled texts."""
    return environment | {"GRU_AUDIO_DATA": str(spelled_folder)}


def test_evaluate_searches_with_a_language_model_that_predict_takes(
    spelling, workdir, spelled_folder, tmp_path
):
    arpa = tmp_path / "words.arpa"
    flags = ["--workdir", workdir, "--beam=8", "--lm=train", "--save_lm", arpa, "--lexicon"]
    found = json.loads(run(spelling, "evaluate", *flags, "--json").stdout)
    assert found["metrics"]["wer"] <= 0.1
    assert [row["unit"] for row in found["classes"]] == ["characters", "words"]
    search = found["search"]
    assert search.items() >= {"beam": 8, "lm": "train", "lexicon": True}.items()
    assert {"lm_weight", "word_bonus"} <= search.keys()
    assert found["parts"]["beam search"]["metrics"]["wer"] <= 0.1
    (unseen,) = (name for name in found["parts"] if name.startswith("beam search, "))
    count = int(unseen.split()[2])
    assert 0 < count < COUNTS["test"] and unseen.endswith("sentences that training lacks")
    clip = spelled_folder / "0.wav"
    text = (spelled_folder / "texts.csv").read_text().splitlines()[1].split(",")[1]
    given = ["--workdir", workdir, "--beam=8", "--lm", arpa, "--lm_weight=0.1", clip]
    assert run(spelling, "predict", *given).stdout == f"{clip}\t{text}\n"


def test_evaluate_names_characters_that_the_model_does_not_know(spelling, workdir, tmp_path):
    rows = [("test", "AB QQ"), ("test", "CA"), ("train", "B")]
    manifest = ["--manifest", write_manifest(tmp_path, rows), "--text=text"]
    there = ["--sample_rate", RATE, "--data_dir", spelling["GRU_AUDIO_DATA"]]
    run(spelling, "prepare", "manifest", "--name=other", *manifest, *there)
    shown = run(spelling, "evaluate", "--workdir", workdir, "--data=other")
    assert 'no token for these characters, so each is an error: "Q" (2 times)' in shown.stderr
    assert "one on other, test: cer 0." in shown.stdout


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("evaluate", ["--lm=train"], "--lm needs a beam search: add --beam 16"),
        ("predict", ["--top_k=2"], "--top_k does not apply: one predicts text"),
    ],
)
def test_flags_that_do_not_apply_are_refused(
    spelling, spelled_folder, workdir, command, flags, message
):
    files = [spelled_folder / "0.wav"] if command == "predict" else []
    shown = run(spelling, command, "--workdir", workdir, *flags, *files, code=2)
    assert message in shown.stderr


@pytest.mark.reliability  # for its length
def test_two_processes_give_the_numbers_of_one(spelling, tmp_path):
    experiment = tmp_path / "spelled.py"
    experiment.write_text(EXPERIMENT)
    for count in (1, 2):
        launcher = [sys.executable, ROOT / "launch" / "local.py", "--devices=1", "--wait=100"]
        command = [sys.executable, "-m", "gru_audio.sweep", "--config", experiment]
        own = ["--workdir", tmp_path / f"{count}", f"--config.parallel.data={count}"]
        started = [*launcher, f"--processes={count}", "--", *command, *own]
        subprocess.run([str(part) for part in started], cwd=ROOT, env=spelling, check=True)
    (one,), (two,) = (leavings(tmp_path / f"{count}").values() for count in (1, 2))
    for record, other in zip(one["metrics"], two["metrics"], strict=True):
        assert record == pytest.approx(other, rel=1e-4)
    np.testing.assert_array_equal(
        one["predictions"]["hypothesis"], two["predictions"]["hypothesis"]
    )
    page = (tmp_path / "1" / "report" / "index.html").read_text()
    assert "<h2>Transcripts</h2>" in page and "Where the transcripts differ" in page
    assert "<del>" in page and "Most frequent transcript" in page
