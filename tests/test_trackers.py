"""A sweep whose runs trackers show, killed and resumed: they show every point once."""

import json
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import run, running, wait, write_experiment
from tests.training.trackers.stores import identifier, mlflow_points, wandb_points

CHANGES = (
    "'train.steps': 30, 'train.eval_every': 10, 'checkpoint.every_steps': 10, "
    "'log.trackers': ('tensorboard', 'wandb', 'mlflow')"
)


def points(folder):
    """The points (step, name, value) that the workdir has of a run."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return sorted(
        (record["step"], name, value)
        for record in records
        for name, value in record.items()
        if "/" in name
    )


@pytest.mark.reliability
def test_a_killed_sweep_shows_every_point_once(environment, tmp_path):
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    database = f"sqlite:///{tmp_path}/mlflow.db"
    environment = environment | {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": database,
    }
    experiment, workdir = write_experiment(tmp_path / "tones.py", CHANGES), tmp_path / "sweep"
    command = ["sweep", "--config", experiment, "--workdir", workdir]
    with running(environment, *command) as process:
        wait(process, lambda: len(list(workdir.glob("groups/*/metrics/*.jsonl"))) >= 2)
        time.sleep(0.05)
        process.kill()
    run(environment, *command)
    folders = sorted((workdir / "runs").iterdir())
    assert len(folders) == 4
    began = (workdir / "sweep.json").stat().st_mtime - 60
    for folder in folders:
        expected = points(folder)
        tested = json.loads((folder / "result.json").read_text())["metrics"]["test"]
        results = [(30, f"test/{name}", value) for name, value in tested.items()]
        assert sorted(mlflow_points(database, folder.name)) == sorted(expected + results)
        (file,) = tmp_path.glob(f"wandb/offline-run-*/*{identifier(folder)}.wandb")
        shown, summary = wandb_points(file)
        assert sorted(shown) == expected
        assert json.loads(summary["test/loss"]) == tested["loss"]
        board = EventAccumulator(str(folder / "tensorboard")).Reload()
        for name in board.Tags()["scalars"]:
            events = board.Scalars(name)
            there = [(e.step, name, pytest.approx(e.value)) for e in events]
            assert [each for each in expected + results if each[1] == name] == there
            assert all(began < event.wall_time < time.time() for event in events)
