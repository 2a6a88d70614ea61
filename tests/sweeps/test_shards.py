"""Shards and halving on real sweeps: any division and any kill give the same bits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gru_audio.settings import UserError
from gru_audio.sweeps.execute import execute
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.shard import WHOLE, Shard
from gru_audio.sweeps.sweep import Sweep
from gru_audio.sweeps.workdir import Workdir
from tests.commands import leavings
from tests.tones import assert_same, tiny

RATES = (0.03, 0.0001, 0.01, 0.001)
TRIALS = [{"optimizer.learning_rate": rate} for rate in RATES]
SEEDS = [{"seed": 0}, {"seed": 1}]
VARIANTS = {"less": {"model.dropout": 0.1}, "more": {"model.dropout": 0.5}}  # one program
PLACE = {"group", "members", "peak_memory_bytes"}  # of a result: where it was made


def ready(data_dir, shard=WHOLE, halving=None, **changes):
    steps = {"train.steps": 20, "train.eval_every": 5, "checkpoint.every_steps": 3}
    config = tiny({"data.dir": str(data_dir), "checkpoint.keep": 10} | steps | changes)
    sweep = Sweep(VARIANTS, TRIALS, SEEDS, halving)
    return plan(config, sweep, "tones", "About tones.", "the command", shard)


def comparable(workdir):
    found = leavings(workdir)
    for its in found.values():
        its["result"] = {k: v for k, v in its["result"].items() if k not in PLACE}
    return found


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, its in found.items():
        for part in ("model", "predictions"):
            assert_same(its[part], expected[name][part])
        for part in ("metrics", "result", "config"):
            assert its[part] == expected[name][part], (name, part)


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """The results of the sweep in one shard, without halving."""
    workdir = tmp_path_factory.mktemp("whole")
    assert execute(ready(data_dir), Workdir(workdir)) == []
    return comparable(workdir)


def test_shards_give_what_the_whole_gives(data_dir, whole, tmp_path):
    workdir = Workdir(tmp_path)
    for i in (2, 1):
        assert execute(ready(data_dir, Shard(i, 2)), workdir) == []
    assert_equal(comparable(tmp_path), whole)
    told = json.loads(workdir.sweep_file.read_text())
    assert sorted(entry["run"] for entry in told["runs"]) == sorted(whole)
    groups = {json.loads(f.read_text())["group"] for f in tmp_path.glob("runs/*/result.json")}
    assert len(groups) == 2
    assert {path.name for path in tmp_path.glob("groups/*")} == groups


def test_another_number_of_shards_leaves_what_is_finished(data_dir, whole, tmp_path, capsys):
    workdir = Workdir(tmp_path)
    assert execute(ready(data_dir, Shard(1, 2)), workdir) == []
    results = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")}
    assert len(results) == 8
    half_done, *_ = results  # as a kill would have left it
    half_done.unlink()
    del results[half_done]
    assert execute(ready(data_dir), workdir) == []
    assert "1 of its runs start again" in capsys.readouterr().err
    assert_equal(comparable(tmp_path), whole)
    assert all(path.stat().st_mtime_ns == time for path, time in results.items())


def test_an_empty_shard_does_nothing(data_dir, tmp_path):
    planned = ready(data_dir, Shard(40, 40))
    assert planned.runs == []
    assert execute(planned, Workdir(tmp_path)) == []


HALVING = Halving(rungs=(5, 10), keep=1 / 2)


@pytest.fixture(scope="module")
def halved(data_dir, tmp_path_factory):
    """The workdir of the sweep with halving."""
    workdir = tmp_path_factory.mktemp("halved")
    assert execute(ready(data_dir, halving=HALVING), Workdir(workdir)) == []
    return workdir


def expected_ends(whole):
    """Returns the step at which each run should end, from its values without halving."""
    ends = {}
    for variant in VARIANTS:
        left = list(RATES)
        for rung in HALVING.rungs:
            lost = {}
            for rate in left:
                runs = [whole[f"{variant}-learning_rate{rate:g}-seed{s}"] for s in (0, 1)]
                best = [
                    min(
                        record["validation/loss"]
                        for record in run["metrics"]
                        if "validation/loss" in record and record["step"] <= rung
                    )
                    for run in runs
                ]
                lost[rate] = np.mean(best)
            kept = sorted(left, key=lost.get)[: len(left) // 2]
            ends |= {(variant, rate): rung for rate in left if rate not in kept}
            left = kept
        ends |= {(variant, rate): 20 for rate in left}
    return {
        f"{variant}-learning_rate{rate:g}-seed{seed}": end
        for (variant, rate), end in ends.items()
        for seed in (0, 1)
    }


def test_the_better_half_goes_on(halved, whole):
    ends = expected_ends(whole)
    assert sorted(ends.values()) == [5] * 8 + [10] * 4 + [20] * 4
    found = comparable(halved)
    assert {name: its["result"]["steps"] for name, its in found.items()} == ends
    rungs = {5: 1, 10: 2, 20: None}
    for name, its in found.items():
        assert its["result"]["stopped_at_rung"] == rungs[ends[name]]
        assert its["result"]["stopped_early"] == (ends[name] < 20)


def test_until_then_a_run_is_as_without_halving(halved, whole):
    ends = expected_ends(whole)
    for name, its in comparable(halved).items():
        until = [record for record in whole[name]["metrics"] if record["step"] <= ends[name]]
        assert its["metrics"] == until
        if ends[name] == 20:
            for part in ("model", "predictions"):
                assert_same(its[part], whole[name][part])


@pytest.mark.parametrize("step", [3, 5, 6, 10])
def test_halving_resumes_to_the_same_bits(data_dir, halved, tmp_path, step):
    """Resumes from before a rung, at the rung, and after it."""
    workdir = tmp_path / "resumed"
    shutil.copytree(halved, workdir)
    shutil.rmtree(workdir / "runs")
    for path in workdir.glob("groups/*/checkpoints/*"):
        if int(path.name) > step:
            shutil.rmtree(path)
    assert execute(ready(data_dir, halving=HALVING), Workdir(workdir)) == []
    assert_equal(comparable(workdir), comparable(halved))


def test_sharded_variants_are_halved_alike(data_dir, halved, tmp_path):
    for i in (1, 2):
        planned = ready(data_dir, Shard(i, 2), HALVING)
        assert len({run.variant for run in planned.runs}) == 1
        assert execute(planned, Workdir(tmp_path)) == []
    assert_equal(comparable(tmp_path), comparable(halved))


def test_halving_belongs_to_the_sweep(data_dir, halved):
    with pytest.raises(UserError, match=r"halving: .*'rungs': \[5, 10\].* -> None"):
        execute(ready(data_dir), Workdir(halved))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.validation": ""}, "Halving needs a validation split"),
        ({"train.eval_every": 4}, "rung 5 must be a multiple"),
        ({"train.steps": 10}, "must be below"),
    ],
)
def test_sweeps_that_cannot_be_halved(data_dir, changes, message):
    with pytest.raises(UserError, match=message):
        ready(data_dir, halving=HALVING, **changes)


def test_trials_of_other_structure_cannot_be_halved(data_dir):
    sweep = Sweep({"one": {}}, [{"model.hidden": 8}, {"model.hidden": 9}], SEEDS, HALVING)
    config = tiny({"data.dir": str(data_dir), "train.eval_every": 5})
    with pytest.raises(UserError, match="the runs of variant one differ in more than numbers"):
        plan(config, sweep, "tones", "", "")


def test_every_shard_says_where_it_is(halved):
    status = json.loads(next(Path(halved).glob("groups/*/status.json")).read_text())
    assert (status["state"], status["shard"], status["step"]) == ("finished", "1/1", 20)
    for run in status["runs"]:
        result = json.loads((halved / "runs" / run["run"] / "result.json").read_text())
        assert run["step"] == result["steps"]
        assert run["best"] == pytest.approx(result["metrics"]["validation"]["loss"], rel=1e-6)
        assert not run["alive"]
