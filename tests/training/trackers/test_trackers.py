"""Weights & Biases offline, and MLflow with a database: every point once, also after a resume."""

import pytest

from gru_audio.command import load_experiment
from gru_audio.config import default_config, override
from gru_audio.settings import UserError
from gru_audio.training.trackers import TRACKERS, Library, Trackers, check_trackers
from tests.golden_configs import package_tables
from tests.training.trackers.points import FIRST, NOW, OF_A, SECOND, tracked
from tests.training.trackers.stores import identifier, mlflow_points, wandb_points

DONE = {"test/accuracy": 0.75, "test/loss": float("nan")}
OF_B = [(50, "train/loss", 7.5)]


def start(name, folder, records):
    def fail(message):
        raise AssertionError(message)

    trackers = Trackers((name,), tracked(folder, "a", "b"), fail)
    trackers.reset(records)
    return trackers


def finish(trackers, records):
    for run in "ab":
        trackers.finish(run, [record for record in records if record["run"] == run], DONE)
    trackers.close()


@pytest.fixture
def offline(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("offline")
def test_wandb_shows_every_point_once(tmp_path):
    first = start("wandb", tmp_path, [])
    first.add(FIRST)
    first.add(SECOND)  # after the last checkpoint
    first.close()
    again = start("wandb", tmp_path, FIRST)
    again.add(SECOND)
    finish(again, FIRST + SECOND)
    for run, expected in (("a", OF_A), ("b", OF_B)):
        (file,) = tmp_path.glob(f"wandb/offline-run-*/*{identifier(tmp_path / run)}.wandb")
        points, summary = wandb_points(file)
        assert sorted(points) == expected
        assert summary["test/accuracy"] == "0.75"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An MLflow database; making one takes seconds."""
    pytest.importorskip("mlflow")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def test_mlflow_shows_every_point_once(tmp_path, database, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    start("mlflow", tmp_path, []).add(FIRST + SECOND)
    again = start("mlflow", tmp_path, FIRST)
    again.add(SECOND)
    again.close()
    client = MlflowClient(database)
    experiment = client.get_experiment_by_name("tones").experiment_id
    assert {run.info.status for run in client.search_runs([experiment])} == {"KILLED"}
    finish(start("mlflow", tmp_path, FIRST + SECOND), FIRST + SECOND)
    assert sorted(mlflow_points(database, "a")) == sorted([*OF_A, (150, "test/accuracy", 0.75)])
    assert sorted(mlflow_points(database, "b")) == sorted([*OF_B, (50, "test/accuracy", 0.75)])
    (run,) = client.search_runs([experiment], "attributes.run_name = 'a'")
    assert run.info.status == "FINISHED"
    assert run.data.params["model.layers"] == "[8, 8]"
    (point,) = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert point.timestamp == 1000 * (NOW + 2)


def test_a_tracker_that_is_unknown_or_missing_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r'Unknown tracker "wand".*Did you mean "wandb"'):
        check_trackers(["tensorboard", "wand"])
    monkeypatch.setitem(TRACKERS, "absent", Library("absent", "Absent"))
    with pytest.raises(UserError, match=r'absent cannot be .*pip install "gru-audio\[absent\]"'):
        check_trackers(["absent"])


def test_an_experiment_may_bring_its_own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from gru_audio.training.trackers import Tracker\n"
        "class Steps(Tracker):\n"
        "    def update(self, records):\n"
        "        steps = ' '.join(str(record['step']) for record in records)\n"
        "        (self.run.folder / 'steps').write_text(steps)\n"
        "TRACKERS = {'steps': Steps}\n"
    )
    config = override(default_config(), {"log.trackers": "steps, tensorboard"}, typed=True)
    with package_tables():
        load_experiment(path)
        check_trackers(config.log.trackers)
        (tmp_path / "a").mkdir()
        said = []
        trackers = Trackers(config.log.trackers, tracked(tmp_path, "a", "b"), said.append)
        trackers.add(FIRST)
        trackers.add(SECOND)
    assert (tmp_path / "a" / "steps").read_text() == "50 50 100 150 150"
    assert (tmp_path / "a" / "tensorboard").is_dir()
    assert (tmp_path / "b" / "tensorboard").is_dir()
    assert len(said) == 1 and said[0].startswith("b: Steps: ")  # once, for the missing folder
