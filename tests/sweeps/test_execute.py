"""Executing a sweep: failures stay isolated, and finished runs are not changed."""

import contextlib
import datetime
import json
import math
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from gru_audio.data.split import SCORED, select
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports.results import read_results
from gru_audio.settings import UserError
from gru_audio.sweeps.execute import execute
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.status import FINISHED, WAITING, read_run_states, read_sweep
from gru_audio.sweeps.sweep import Sweep, folds
from gru_audio.sweeps.workdir import Workdir
from tests.commands import CIRCUMSTANCES, leavings
from tests.tones import CLASSES, SPEAKERS, TAKES, tiny

SEEDS = [{"seed": 0}, {"seed": 1}]
SWEEP = Sweep({"GRU": {}, "RNN": {"model.cell": "rnn"}}, replicates=SEEDS)


def planned(data_dir, sweep=SWEEP, **changes):
    config = tiny({"data.dir": str(data_dir), "data.train_scored": 6} | changes)
    return plan(config, sweep, "tones", "About tones.", "the command")


@pytest.mark.parametrize("key", ["data.target", "data.cluster", "data.name"])
def test_variants_that_learn_something_else_are_refused(data_dir, key):
    other = Sweep({"first": {}, "second": {key: "other"}})
    with pytest.raises(UserError, match=f"second-seed0 changes config.{key}"):
        planned(data_dir, other)


def test_a_sweep_is_compared_by_any_metric_of_its_task(data_dir):
    by_default, chosen = (
        planned(data_dir, Sweep({"GRU": {}}, metric=metric)).description["metric"]
        for metric in (None, "macro_f1")
    )
    assert (by_default, chosen) == ("accuracy", "macro_f1")
    with pytest.raises(UserError, match='Did you mean "macro_f1"'):
        planned(data_dir, Sweep({"GRU": {}}, metric="macro_f"))


def test_epochs_give_the_number_of_steps(data_dir, source):
    ready = planned(data_dir, **{"train.epochs": 2.5})
    examples = len(select(source, ready.runs[0].config.data, 0)["train"])
    assert {run.config.train.steps for run in ready.runs} == {math.ceil(2.5 * examples / 8)}
    assert planned(data_dir).runs[0].config.train.steps == 20


def test_epochs_count_the_training_examples_of_the_first_fold(data_dir, source):
    sweep = Sweep({"GRU": {}}, replicates=folds("group", SPEAKERS))
    everything = {"data.train": "train+validation+test", "train.epochs": 2}
    ready = planned(data_dir, sweep, **everything)
    examples = len(select(source, ready.runs[0].config.data, 0)["train"])
    assert examples == TAKES * len(CLASSES) * (len(SPEAKERS) - 2)
    assert {run.config.train.steps for run in ready.runs} == {math.ceil(2 * examples / 8)}


def result(workdir, run):
    found = json.loads((workdir.run(run) / "result.json").read_text())
    return {name: value for name, value in found.items() if name not in CIRCUMSTANCES}


@pytest.fixture(scope="module")
def done(data_dir, tmp_path_factory):
    """A finished sweep of four runs, in a workdir with a relative path."""
    with contextlib.chdir(tmp_path_factory.mktemp("here")):
        workdir, ready = Workdir("runs/done"), planned(data_dir)
        assert execute(ready, workdir) == []
    return ready, workdir


def test_processor_time_is_shared_by_steps_and_leaves_out_compilation(data_dir, tmp_path):
    began = time.process_time()
    workdir = Workdir(tmp_path)
    ready = planned(data_dir, Sweep({"GRU": {}}, replicates=SEEDS))
    execute(ready, workdir)
    spent = time.process_time() - began
    found = [json.loads((workdir.run(run.name) / "result.json").read_text()) for run in ready.runs]
    seconds = [each["cpu_seconds"] for each in found]
    assert seconds[0] == seconds[1]  # of one group, and as many steps
    assert 0 < sum(seconds) < spent / 2  # most of it goes into compiling these small programs


def test_a_sweep_tells_what_it_is(done):
    ready, workdir = done
    told = json.loads(workdir.sweep_file.read_text())
    assert (told["experiment"], told["command"]) == ("tones", "the command")
    assert told["variants"] == {"GRU": {}, "RNN": {"model.cell": "rnn"}}
    assert told["replicates"] == SEEDS
    assert told["class_names"] == ["high", "low", "middle"]
    assert told["cluster_names"] == ["ann", "ben", "cid", "dot", "eve", "fay"]
    assert told["data_fingerprint"] == ready.source.fingerprint
    assert [entry["run"] for entry in told["runs"]] == [run.name for run in ready.runs]
    assert told["environment"]["devices"] == 8


def test_every_run_has_its_files(done):
    ready, workdir = done
    for run in ready.runs:
        folder = workdir.run(run.name)
        config = json.loads((folder / "config.json").read_text())
        assert config["seed"] == run.config.seed
        steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()]
        assert steps == sorted(steps)
        assert steps[-1] == 20
        assert list((folder / "tensorboard").iterdir())


def test_results_predictions_and_models_agree(done):
    ready, workdir = done
    source = ready.source
    for run in ready.runs:
        found = result(workdir, run.name)
        assert (found["variant"], found["replicate"]) == (run.variant, dict(run.replicate))
        assert (found["steps"], found["members"], found["stopped_early"]) == (20, 2, False)
        with np.load(workdir.run(run.name) / "predictions" / "test.npz") as saved:
            predictions = dict(saved)
        ids = predictions["example"]
        assert set(source.columns["split"][ids]) == {"test"}
        np.testing.assert_array_equal(predictions["label"], source.columns["label"][ids])
        np.testing.assert_array_equal(predictions["cluster"], source.columns["group"][ids])
        correct = predictions["probabilities"].argmax(axis=1) == predictions["label"]
        assert found["metrics"]["test"]["accuracy"] == correct.mean()
        assert found["metrics"]["test"]["loss"] == predictions["loss"].mean(dtype=np.float64)

        trained = TrainedModel.load(workdir.model(run.name))
        scores = trained.scores(source.signals(ids), predictions["label"])
        np.testing.assert_allclose(scores["loss"], predictions["loss"], rtol=1e-5, atol=1e-5)
        scored = select(source, run.config.data, run.config.seed)[SCORED]
        losses = trained.scores(source.signals(scored), source.columns["label"][scored])["loss"]
        assert len(scored) == 6
        assert found["metrics"]["train"]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        sizes = [np.size(leaf) for leaf in jax.tree.leaves(trained.weights.params)]
        assert found["parameters"]["total"] == sum(sizes)
        assert 0 < found["parameters"]["recurrent"] < sum(sizes)


def test_what_is_finished_is_not_touched(done):
    ready, workdir = done
    files = [path for path in Path(workdir.root).rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert execute(ready, workdir) == []
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["lock"]


def test_only_what_is_missing_is_done_again(done):
    ready, workdir = done
    first, second = (run.name for run in ready.groups[0].runs)
    before = result(workdir, second)
    result_of_first = Path(workdir.run(first) / "result.json")
    its_time = result_of_first.stat().st_mtime_ns
    (workdir.run(second) / "result.json").unlink()
    assert execute(ready, workdir) == []
    assert result(workdir, second) == before
    assert result_of_first.stat().st_mtime_ns == its_time


def test_a_group_that_fails_does_not_stop_the_others(done, data_dir, tmp_path, capsys):
    """A file blocks the folder of the first group's checkpoints."""
    _, other = done
    ready, workdir = planned(data_dir), Workdir(tmp_path)
    obstacle = workdir.group(ready.groups[0].name)
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("")
    assert execute(ready, workdir) == ["GRU-seed0", "GRU-seed1"]
    assert "GRU" in capsys.readouterr().err
    failure = json.loads((workdir.run("GRU-seed0") / "failure.json").read_text())
    assert failure["type"] == "NotADirectoryError"
    for run in ("RNN-seed0", "RNN-seed1"):
        assert result(workdir, run) == result(other, run)
    obstacle.unlink()  # then the same command finishes it
    assert execute(ready, workdir) == []
    assert result(workdir, "GRU-seed1") == result(other, "GRU-seed1")
    assert not (workdir.run("GRU-seed0") / "failure.json").exists()


def test_a_run_that_fails_does_not_stop_its_group(done, data_dir, tmp_path):
    _, other = done
    trials = [{"optimizer.learning_rate": rate} for rate in (0.01, 3e38)]
    workdir = Workdir(tmp_path)
    failed = execute(planned(data_dir, Sweep({"GRU": {}}, trials, SEEDS[:1])), workdir)
    assert failed == ["GRU-learning_rate3e+38-seed0"]
    failure = json.loads((workdir.run(failed[0]) / "failure.json").read_text())
    assert failure["type"] == "FloatingPointError"
    assert "not finite at step" in failure["error"]
    assert not workdir.model(failed[0]).exists()
    found = result(workdir, "GRU-learning_rate0.01-seed0")
    assert found["metrics"] == result(other, "GRU-seed0")["metrics"]


def test_another_config_is_refused(done, data_dir):
    _, workdir = done
    with pytest.raises(UserError, match=r"config\.model\.hidden: 8 -> 9"):
        execute(planned(data_dir, **{"model.hidden": 9}), workdir)


def test_a_finished_sweep_goes_on_to_more_steps(done, data_dir, tmp_path, capsys):
    """Then it is as if it had had them from the beginning."""
    _, whole = done
    workdir, sweep = Workdir(tmp_path), Sweep({"GRU": {}}, replicates=SEEDS)
    shorter = planned(data_dir, sweep, **{"train.steps": 10})
    assert execute(shorter, workdir) == []
    longer = planned(data_dir, sweep)
    workdir.claim(longer.description)  # and is killed
    assert "config.train.steps is raised from 10 to 20" in capsys.readouterr().err

    def run_states():
        now = datetime.datetime.now(datetime.UTC)
        found = read_run_states(workdir.root, read_sweep(workdir.root), now)
        return {(each.state, each.step, each.steps) for each in found}

    assert run_states() == {(WAITING, 10, 20)}
    assert not any(run.result for run in read_results(workdir.root).runs)
    assert execute(longer, workdir) == []
    assert run_states() == {(FINISHED, 20, 20)}
    found, expected = leavings(tmp_path), leavings(Path(whole.root))
    for run in longer.runs:
        np.testing.assert_equal(found[run.name], expected[run.name])
    with pytest.raises(UserError, match=r"train\.steps: 20 -> 10"):
        execute(shorter, workdir)
