import json

import numpy as np
import pytest
import sklearn.metrics

from gru_audio.reports.results import read_results
from gru_audio.settings import UserError
from gru_audio.sweeps.status import FAILED, FINISHED, WAITING
from gru_audio.tasks.metrics import ACCURACY, LOSS, UAR
from tests.reports.workdirs import DIGITS, Made, fail, interrupt, remove, rewrite, write_workdir


def test_a_finished_sweep_is_read_whole(tmp_path):
    results = read_results(write_workdir(tmp_path, Made(seeds=2)))
    assert results.variants == ("gru", "lstm")
    assert results.metric is ACCURACY and results.task.output_names == DIGITS
    assert results.config["data.name"] == "made_up"
    assert results.first <= results.last
    assert [run.run_state.state for run in results.runs] == [FINISHED] * 4
    run = results.runs[0]
    assert run.replicate == {"seed": 0} and run.config["model.cell"] == "gru"
    correct = run.predictions["probabilities"].argmax(axis=1) == run.predictions["label"]
    assert run.metric("test/accuracy") == pytest.approx(correct.mean())
    assert run.metric("test/nothing") is None and run.metric("nothing/loss") is None
    curve = run.curves["validation/accuracy"]
    assert curve.steps[:2].tolist() == [200, 400] and curve.values.dtype == np.float64


def test_states_of_an_unfinished_sweep(tmp_path):
    write_workdir(tmp_path, Made(seeds=3))
    fail(tmp_path, "gru-0")
    interrupt(tmp_path, "gru-1")
    remove(tmp_path, "gru-2")
    failed, interrupted, missing, *finished = read_results(tmp_path).runs
    assert failed.run_state.state == FAILED and failed.run_state.failure.startswith(
        "FloatingPointError: the loss"
    )
    assert interrupted.run_state.state == WAITING and interrupted.curves["train/loss"].steps[-1] > 0
    assert missing.run_state.state == WAITING and not missing.curves
    assert [run.run_state.state for run in finished] == [FINISHED] * 3
    assert all(r.predictions["example"].size == 0 for r in (failed, interrupted, missing))


def test_predictions_come_sorted_by_example(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    path = tmp_path / "runs" / "gru-0" / "predictions" / "test.npz"
    with np.load(path) as arrays:
        order = np.random.default_rng(0).permutation(arrays["example"].size)
        shuffled = {name: arrays[name][order] for name in arrays}
        labels = dict(zip(arrays["example"], arrays["label"], strict=True))
    np.savez(path, **shuffled)
    predictions = read_results(tmp_path).runs[0].predictions
    assert np.all(np.diff(predictions["example"]) > 0)
    assert [labels[i] for i in predictions["example"]] == predictions["label"].tolist()


def test_sequences_without_classes_are_read(tmp_path):
    write_workdir(tmp_path, Made(seeds=1, metric="loss", class_names=()))
    run = read_results(tmp_path).runs[0]
    assert run.predictions.keys() == {"example", "cluster", "loss", "weight"}
    loss, weight = run.predictions["loss"], run.predictions["weight"]
    assert weight.size == 300 and np.unique(weight).size > 1
    assert run.metric("test/loss") == pytest.approx((loss * weight).sum() / weight.sum())


def test_metrics_that_were_not_stored_come_from_the_predictions(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    results = read_results(tmp_path, "uar")
    assert results.metric is UAR
    run = results.runs[0]
    label, answer = run.predictions["label"], run.predictions["probabilities"].argmax(axis=1)
    expected = sklearn.metrics.balanced_accuracy_score(label, answer)
    assert run.metric("test/uar") == pytest.approx(expected)
    with pytest.raises(UserError, match='Did you mean "uar"'):
        read_results(tmp_path, "uaf")


def test_tags_are_read(tmp_path):
    write_workdir(tmp_path, Made(seeds=1, metric="map", class_names=("a", "b"), tags=True))
    run = read_results(tmp_path).runs[0]
    assert run.damage is None and run.predictions["tags"].shape == (300, 2)


def test_tags_of_an_earlier_version_have_a_loss(tmp_path):
    """An earlier version stored neither the names of the tags nor the tags of an example."""
    write_workdir(tmp_path, Made(seeds=1, metric="loss", class_names=("a", "b"), tags=True))
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"class_names": []}))
    rewrite(tmp_path, "gru-0", lambda arrays: dropped(arrays, "tags"), metrics=False)
    run = read_results(tmp_path).runs[0]
    assert run.damage is None
    assert LOSS.value(run.predictions) == pytest.approx(run.metric("test/loss"))


@pytest.mark.parametrize("change", [{"task.name": "unheard_of"}, {"task.unheard_of": 1}])
def test_a_task_that_is_not_known_is_refused(tmp_path, change):
    write_workdir(tmp_path, Made(seeds=1))
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    sweep["config"] |= change
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    with pytest.raises(UserError, match="a task that this version does not know"):
        read_results(tmp_path)


def dropped(arrays, name):
    return {each: array for each, array in arrays.items() if each != name}


@pytest.mark.parametrize("missing", ["weight", "loss"])
def test_predictions_that_lack_a_part_count_as_none(tmp_path, missing):
    write_workdir(tmp_path, Made(seeds=1, metric="loss", class_names=()))
    path = tmp_path / "runs" / "gru-0" / "predictions" / "test.npz"
    with np.load(path) as arrays:
        kept = dropped(arrays, missing)
    np.savez(path, **kept)
    assert read_results(tmp_path).runs[0].predictions["example"].size == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_unreadable_predictions_count_as_none(tmp_path, content):
    write_workdir(tmp_path, Made(seeds=1))
    (tmp_path / "runs" / "gru-0" / "predictions" / "test.npz").write_bytes(content)
    run = read_results(tmp_path).runs[0]
    assert run.run_state.state == FINISHED and run.predictions["example"].size == 0


def test_a_result_cut_short_is_not_a_result(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    path = tmp_path / "runs" / "gru-0" / "result.json"
    path.write_text(path.read_text()[:100])
    assert read_results(tmp_path).runs[0].run_state.state == WAITING


def test_values_that_were_not_finite_are_left_out(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    path = tmp_path / "runs" / "gru-0" / "metrics.jsonl"
    records = [{"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": None}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    curve = read_results(tmp_path).runs[0].curves["train/loss"]
    assert curve.steps.tolist() == [1] and curve.values.tolist() == [2.0]


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"sweep\.json is missing"):
        read_results(tmp_path)
