"""The commands as people type them, from sound files to labels."""

import csv
import io
import json
import time

import numpy as np
import pytest

from gru_audio.reports.results import read_results
from tests.commands import (
    Killed,
    assert_same_leavings,
    leavings,
    reading_only,
    run,
    running,
    write_experiment,
)
from tests.songs import SONGS
from tests.tones import CLASSES, NAME, SPLIT_BY

ODD = "lr[1e-3]*? é"  # a folder may have any name
RUNS = ["GRU-seed0", "GRU-seed1", "RNN-seed0", "RNN-seed1"]


@pytest.fixture(scope="module")
def prepared(environment, tones_folder, tmp_path_factory):
    """An environment in which the `prepare` command has prepared the tones."""
    folder = tmp_path_factory.mktemp("prepared") / ODD
    environment = environment | {"GRU_AUDIO_DATA": str(folder)}
    options = ["--name", NAME, "--folder", tones_folder, "--split_by", SPLIT_BY]
    shown = run(environment, "prepare", "folder", *options, "--sample_rate=8000").stdout
    assert "72" in shown
    assert all(label in shown for label in CLASSES)
    return environment


@pytest.fixture(scope="module")
def sweep(prepared, tmp_path_factory):
    """Experiment file, workdir, and what the sweep printed."""
    folder = tmp_path_factory.mktemp("sweep")
    experiment = write_experiment(folder / "tones.py", "'train.steps': 150, 'parallel.member': 0")
    flags = ["--config", experiment, "--workdir", folder / ODD]
    plan = run(prepared, "sweep", *flags, "--plan").stdout
    assert "4 runs in 2 programs" in plan
    assert not (folder / ODD).exists()
    return experiment, folder / ODD, run(prepared, "sweep", *flags).stdout


def test_a_sweep_ends_in_a_report(sweep):
    experiment, workdir, shown = sweep
    assert str(workdir / "report" / "index.html") in shown
    told = json.loads((workdir / "sweep.json").read_text())
    assert told["command"].startswith(f"python -m gru_audio.sweep --config {experiment}")
    page = (workdir / "report" / "index.html").read_text()
    assert "Tones: GRU against tanh RNN" in page
    table = (workdir / "report" / "table.md").read_text()
    assert "GRU" in table
    assert "RNN" in table
    rows = list(csv.DictReader(io.StringIO((workdir / "report" / "results.csv").read_text())))
    assert sorted(row["run"] for row in rows) == RUNS
    for name in RUNS:
        with (workdir / "runs" / name / "metrics.jsonl").open() as file:
            steps = [json.loads(line)["step"] for line in file]
        assert (steps[0], steps[-1]) == (5, 150)
    assert all(run.curves for run in read_results(workdir).runs)


@pytest.mark.reliability  # for its length
def test_the_same_command_again_skips_what_is_done(sweep, prepared):
    experiment, workdir, _ = sweep
    before = {path: path.stat().st_mtime_ns for path in (workdir / "runs").rglob("*")}
    again = run(prepared, "sweep", "--config", experiment, "--workdir", workdir)
    assert {path: path.stat().st_mtime_ns for path in (workdir / "runs").rglob("*")} == before
    assert "compiling" not in again.stderr


@pytest.mark.reliability
def test_two_shards_at_once_give_the_same_and_tell_where_they_are(sweep, prepared, tmp_path):
    experiment, whole, _ = sweep
    flags = ["sweep", "--config", experiment, "--workdir", tmp_path]
    with running(prepared, *flags, "--shard=1/2") as first:
        run(prepared, *flags, "--shard=2/2")
        assert first.wait() == 0
    assert_same_leavings(tmp_path, leavings(whole))
    shown = run(prepared, "sweep", "--status", tmp_path, "--json").stdout
    told = {each["run"]: each for each in json.loads(shown)}
    assert {each["state"] for each in told.values()} == {"finished"}
    assert (told["GRU-seed0"]["shard"], told["RNN-seed1"]["shard"]) == ("1/2", "2/2")
    assert "finished" not in run(prepared, "report", "--workdir", tmp_path).stdout


@pytest.mark.reliability  # for its length
def test_the_report_of_one_shard_says_what_is_missing(sweep, prepared, tmp_path):
    experiment, _, _ = sweep
    flags = ["sweep", "--config", experiment, "--workdir", tmp_path]
    shown = run(prepared, *flags, "--shard=2/2").stdout
    assert "2 of 4 runs have finished, 2 waiting." in shown
    assert "2 of 4 runs have finished, 2 waiting." in (tmp_path / "report/index.html").read_text()
    assert "No run of GRU has finished." in (tmp_path / "report/table.md").read_text()
    assert "4 runs: 2 waiting, 2 finished" in run(prepared, "sweep", "--status", tmp_path).stdout
    refused = run(prepared, *flags, "--shard=3/2", code=2)
    assert '--shard "3/2" must be I/N' in refused.stderr


def test_another_config_is_refused_with_the_difference(sweep, prepared):
    experiment, workdir, _ = sweep
    flags = ["--config", experiment, "--workdir", workdir, "--config.model.hidden=9"]
    refused = run(prepared, "sweep", *flags, code=2)
    assert "config.model.hidden: 8 -> 9" in refused.stderr


def test_evaluate_gives_what_the_sweep_gave(sweep, prepared):
    _, workdir, _ = sweep
    flags = ["--workdir", workdir, "--run", "GRU-seed0", "--json"]
    result = json.loads((workdir / "runs" / "GRU-seed0" / "result.json").read_text())
    shown = json.loads(run(prepared, "evaluate", *flags).stdout)
    assert shown["metrics"]["accuracy"] == result["metrics"]["test"]["accuracy"]
    assert shown["metrics"]["loss"] == pytest.approx(result["metrics"]["test"]["loss"], rel=1e-5)
    assert sum(row["examples"] for row in shown["classes"]) == 12
    hits = sum(row["recall"] * row["examples"] for row in shown["classes"])
    assert hits / 12 == pytest.approx(shown["metrics"]["accuracy"])


def test_evaluate_shows_a_table_and_names_what_there_is(sweep, prepared):
    _, workdir, _ = sweep
    shown = run(prepared, "evaluate", "--workdir", workdir, "--run=RNN-seed1", "--split=train")
    assert all(label in shown.stdout for label in CLASSES)
    refused = run(prepared, "evaluate", "--workdir", workdir, code=2)
    assert "choose one by --run" in refused.stderr


def test_predict_labels_sounds_and_names_what_is_none(sweep, prepared, tones_folder, tmp_path):
    _, workdir, _ = sweep
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    sounds = sorted(tones_folder.rglob("fay_*.wav"))
    rest = ["--workdir", workdir, "--run", "GRU-seed0", "--json", "--top_k", "2"]
    shown = run(prepared, "predict", *rest, *sounds, tmp_path / "broken.wav", code=1)
    assert "broken.wav: not audio" in shown.stderr
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(sound) for sound in sounds]
    hits = [line["labels"][0]["label"] in line["file"] for line in lines]
    assert np.mean(hits) > 0.6  # chance is a third
    for line in lines:
        first, second = (label["probability"] for label in line["labels"])
        assert 0 <= second <= first <= 1


def test_predict_searches_folders_and_needs_no_data_set(sweep, environment, tones_folder, tmp_path):
    _, workdir, _ = sweep
    bare = environment | {"GRU_AUDIO_DATA": str(tmp_path)}
    shown = run(bare, "predict", "--workdir", workdir, "--run=GRU-seed0", tones_folder / "low")
    assert shown.stdout.count(".wav") == 24
    refused = run(bare, "predict", "--workdir", workdir, "--run=GRU-seed0", code=2)
    assert "Pass the files" in refused.stderr


@pytest.mark.reliability  # for its length
def test_a_second_process_on_a_workdir_is_refused(prepared, tmp_path):
    experiment = write_experiment(tmp_path / "tones.py", "'train.steps': 100_000")
    rest = ["train", "--config", experiment, "--workdir", tmp_path / "workdir"]
    with running(prepared, *rest) as process:
        lock = tmp_path / "workdir" / "lock"
        while not (lock.exists() and lock.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        refused = run(prepared, *rest, code=2)
        assert f"in use by process {process.pid}" in refused.stderr
        assert process.poll() is None


@pytest.mark.usefixtures("songs")
@pytest.mark.parametrize(
    "changes",
    [{}, pytest.param(dict(SONGS), marks=pytest.mark.reliability)],
    ids=["classes", "events"],
)
def test_killed_and_resumed_to_the_same_bits(environment, tmp_path, changes):
    experiment = write_experiment(
        tmp_path / "tones.py",
        f"**{changes}, 'model.dropout': 0.2, 'augment.time_shift_ms': 20.0, 'train.steps': 100, "
        "'train.log_every': 7, 'train.eval_every': 30, 'checkpoint.every_steps': 10",
    )
    command = ["train", "--config", experiment]
    run(environment, *command, "--workdir", tmp_path / "whole")
    whole = leavings(tmp_path / "whole")
    killed = Killed(reading_only(environment), command, whole, mean_seconds=2)
    assert len(killed.times(1, tmp_path, seed=0)) == 1
