import csv
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest

from experiments.tables.kept import POINTS, keep, read_kept, write_kept
from gru_audio.reports.comparison import compare
from gru_audio.reports.results import read_results
from gru_audio.reports.write import write_report
from gru_audio.settings import UserError
from tests.reports.workdirs import Made, fail, interrupt, write_workdir

MADE = Made(
    variants={"gru": 5.2, "lstm": 3.0}, trials={0.001: 0.0, 0.01: 3.0}, seeds=2, metric="loss"
)


def compared(workdir):
    return compare(read_results(workdir))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    made = dataclasses.replace(MADE, class_names=())
    return compared(write_workdir(tmp_path_factory.mktemp("kept"), made))


@pytest.fixture
def results(comparison, tmp_path):
    write_kept(comparison, tmp_path)
    return tmp_path


def significant(value, digits):
    return float(f"{value:.{digits}g}")


def test_what_is_read_is_what_was_kept(comparison, results):
    assert {path.name for path in results.iterdir()} == {
        "made_up.csv",
        "made_up.pairs.csv",
        "made_up.curves.csv",
    }
    assert read_kept(results, "made_up") == keep(comparison)


def test_a_sweep_that_went_on_elsewhere_tells_of_both(tmp_path):
    workdir = write_workdir(tmp_path, dataclasses.replace(MADE, class_names=()))
    path = next(workdir.glob("runs/*/result.json"))
    environment = {"commit": "89abcdef" * 5, "jax": "0.10.2"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"environment": environment}))
    kept = keep(compared(workdir))
    assert (kept.jax, kept.commit) == ("0.10.2", "0123456789ab and 89abcdef89ab")


def test_runs_are_those_of_the_sweep(comparison, results):
    kept = read_kept(results, "made_up")
    assert (kept.metric, kept.higher_is_better) == ("loss", False)
    assert (kept.jax, kept.device, kept.commit) == ("0.10.2", "cpu", "0123456789ab")
    for run, line in zip(comparison.results.runs, kept.runs, strict=True):
        assert (line.run, line.variant, line.trial) == (run.name, run.variant, run.trial)
        assert line.replicate == run.replicate
        assert line.state == "finished" and line.step_cap == 3000
        assert line.metrics["test/loss"] == significant(run.metric("test/loss"), 6)
        assert line.seconds == significant(run.result["seconds"], 4)
        assert line.cpu_seconds == significant(run.result["cpu_seconds"], 4)
        assert line.dropped_at is None
        assert line.steps == run.result["steps"] and line.total_parameters == 41_482
    chosen = {run.name for variant in comparison.variants for run in variant.runs}
    assert {line.run for line in kept.runs if line.selected} == chosen


def test_a_run_that_halving_ended_tells_at_which_step(tmp_path):
    workdir = write_workdir(tmp_path, dataclasses.replace(MADE, class_names=()))
    path = next(workdir.glob("runs/*-0.01-*/result.json"))
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"steps": 400, "stopped_at_rung": 1}))
    at = {run.run: run.dropped_at for run in keep(compared(workdir)).runs}
    assert at.pop(path.parent.name) == 400
    assert set(at.values()) == {None}


def test_verdicts_of_the_comparison_follow_from_what_was_kept(tmp_path):
    made = dataclasses.replace(MADE, class_names=(), seeds=4)
    comparison = compared(write_workdir(tmp_path / "run", made))
    write_kept(comparison, tmp_path)
    (kept,), (pair,) = read_kept(tmp_path, "made_up").conclude(), comparison.pairs
    assert (kept.first, kept.second, kept.replicates) == (pair.first, pair.second, 4)
    assert kept.verdict is pair.verdict and kept.better == pair.better
    for name in ("value", "low", "high"):
        expected = getattr(pair.difference, name)
        assert getattr(kept.difference, name) == pytest.approx(expected, rel=1e-4)
    assert kept.p == pytest.approx(pair.p, rel=1e-3)


def test_a_damaged_run_is_not_kept(tmp_path):
    workdir = write_workdir(tmp_path, dataclasses.replace(MADE, class_names=()))
    comparison = compared(workdir)
    run = comparison.variants[0].runs[0].name
    (workdir / "runs" / run / "predictions" / "test.npz").unlink()
    with pytest.raises(UserError, match=f"Run {run} cannot be kept: its predictions are missing"):
        write_kept(compared(workdir), tmp_path)


def test_curves_are_thinned_and_tell_the_time_of_a_run(comparison, results):
    kept = read_kept(results, "made_up")
    for variant in comparison.variants:
        for run in variant.runs:
            points = [point for point in kept.curves if point.run == run.name]
            curve, train = run.curves["validation/loss"], run.curves["train/loss"]
            assert [point.step for point in points] == curve.steps.tolist()
            for point, value in zip(points, curve.values, strict=True):
                assert point.metrics["validation/loss"] == significant(value, 5)
                logged = train.values[train.steps == point.step][0]
                assert point.metrics["train/loss"] == significant(logged, 5)
                share = run.result["seconds"] * point.step / run.result["steps"]
                assert point.seconds == pytest.approx(share, rel=1e-4)
    assert {point.run for point in kept.curves} == {run.run for run in kept.runs if run.selected}


def test_long_curves_keep_their_ends(tmp_path):
    workdir = write_workdir(tmp_path, Made(variants={"gru": 5.0}, seeds=1, steps=30_000))
    comparison = compared(workdir)
    (run,) = comparison.variants[0].runs
    steps = [point.step for point in keep(comparison).curves]
    looked = run.curves["validation/loss"].steps
    assert looked.size > POINTS == len(steps)
    assert (steps[0], steps[-1]) == (looked[0], looked[-1])
    assert np.all(np.isin(steps, looked)) and np.all(np.diff(steps) > 0)


def test_a_run_that_never_validates_keeps_its_training_loss(tmp_path):
    workdir = write_workdir(tmp_path, Made(variants={"gru": 5.0}, seeds=1))
    path = workdir / "runs" / "gru-0" / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines() if "validation" not in line]
    path.write_text("\n".join(lines))
    curves = keep(compared(workdir)).curves
    assert curves and all(point.metrics.keys() == {"train/loss"} for point in curves)


def test_the_same_workdir_gives_the_same_bytes(comparison, results, tmp_path):
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    write_kept(comparison, results)
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before


def test_nothing_tells_where_it_ran(comparison, results):
    text = "".join(path.read_text() for path in results.iterdir())
    for trace in ("/", "host", "python"):
        told = text.replace("test/", "").replace("train/", "").replace("validation/", "")
        assert trace not in told, trace


def test_an_unfinished_sweep_is_kept_as_far_as_it_is(tmp_path):
    workdir = write_workdir(tmp_path / "run", dataclasses.replace(MADE, metric="accuracy"))
    fail(workdir, "lstm-0.01-1")
    interrupt(workdir, "gru-0.01-0")
    write_kept(compared(workdir), tmp_path)
    kept = read_kept(tmp_path, "made_up")
    by_run = {run.run: run for run in kept.runs}
    assert len(by_run) == 8 and kept.higher_is_better
    assert by_run["lstm-0.01-1"].state == "failed" and not by_run["lstm-0.01-1"].metrics
    assert by_run["gru-0.01-0"].state == "unfinished" and by_run["gru-0.01-0"].steps is None
    assert sum(run.state == "finished" for run in kept.runs) == 6


def test_a_sweep_of_which_nothing_has_finished_is_kept(tmp_path):
    workdir = write_workdir(tmp_path / "run", Made(variants={"gru": 5.0}, seeds=1))
    fail(workdir, "gru-0")
    write_kept(compared(workdir), tmp_path)
    kept = read_kept(tmp_path, "made_up")
    assert [run.state for run in kept.runs] == ["failed"]
    assert kept.pairs == kept.curves == ()


def test_what_was_never_kept_is_none(tmp_path):
    assert read_kept(tmp_path, "made_up") is None


def change_cell(path, line, column, value):
    rows = list(csv.reader(io.StringIO(path.read_text())))
    rows[line][rows[0].index(column)] = value
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    path.write_text(file.getvalue())


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("made_up.csv", lambda p: p.write_text(""), "it is not from made_up"),
        ("made_up.csv", lambda p: p.write_text(p.read_text()[:-9]), "cannot be used"),
        ("made_up.csv", lambda p: p.write_text("a,b\n1,2\n"), "no column 'run'"),
        ("made_up.csv", lambda p: p.write_bytes(b"\xff\xfe\x00"), "cannot be used"),
        ("made_up.csv", lambda p: change_cell(p, 1, "steps", "many"), "many"),
        ("made_up.csv", lambda p: change_cell(p, 1, "trial", "{"), "cannot be used"),
        ("made_up.csv", lambda p: change_cell(p, 1, "experiment", "other"), "not from made_up"),
        ("made_up.csv", lambda p: change_cell(p, 1, "commit", "other"), "from several sweeps"),
        ("made_up.csv", lambda p: change_cell(p, 1, "test/loss", ""), "has no test/loss"),
        ("made_up.pairs.csv", lambda p: p.unlink(), "made_up.pairs.csv cannot be used"),
        ("made_up.pairs.csv", lambda p: change_cell(p, 1, "first", "rnn"), "from another sweep"),
        ("made_up.curves.csv", lambda p: change_cell(p, 1, "run", "rnn-0"), "from another sweep"),
        ("made_up.curves.csv", lambda p: change_cell(p, 1, "step", ""), "cannot be used"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(results, name, damage, message):
    damage(results / name)
    with pytest.raises(UserError, match=f"{message}.*experiments.tables --keep WORKDIR"):
        read_kept(results, "made_up")


ODD = (
    "=1+1",
    "+sum(A1)",
    "-2",
    "@cmd",
    "'=quoted",
    "a|b",
    "`c`\n**d**",
    "<e>\t#",
    '"f",g',
    "$h$ $\\frac{$",
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A sweep whose variants have names with special characters of tables and pages."""
    made = dataclasses.replace(MADE, variants={name: 5.0 - i / 9 for i, name in enumerate(ODD)})
    made = dataclasses.replace(made, trials={0.001: 0.0}, class_names=(), examples=40)
    workdir = tmp_path_factory.mktemp("odd")
    names = {name: f"variant{i}" for i, name in enumerate(ODD)}
    write_workdir(
        workdir, dataclasses.replace(made, variants={names[n]: s for n, s in made.variants.items()})
    )
    sweep = json.loads((workdir / "sweep.json").read_text())
    back = {variant: name for name, variant in names.items()}
    sweep["variants"] = {back[variant]: changes for variant, changes in sweep["variants"].items()}
    for entry in sweep["runs"]:
        entry["variant"] = back[entry["variant"]]
    (workdir / "sweep.json").write_text(json.dumps(sweep))
    return workdir


def test_names_that_are_formulas_come_back_and_are_none(odd, tmp_path):
    comparison = compared(odd)
    write_kept(comparison, tmp_path)
    kept = read_kept(tmp_path, "made_up")
    assert kept == keep(comparison)
    assert set(kept.variants) == set(ODD)
    for path in tmp_path.iterdir():
        with path.open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        texts = [cell for cell in cells if not _is_number(cell)]
        assert not [text for text in texts if text.startswith(("=", "+", "-", "@"))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_names_do_not_break_the_tables_and_the_page(odd, tmp_path):
    page, comparison = write_report(odd, tmp_path)
    rows = [
        re.split(r"(?<!\\)\|", line)[1:-1]
        for line in (tmp_path / "table.md").read_text().splitlines()
        if line.startswith("|")
    ]
    widths = [len(row) for row in rows]
    variants, pairs = len(ODD) + 2, len(comparison.pairs) + 2
    assert widths == [widths[0]] * variants + [widths[variants]] * pairs
    shown = [row[0].strip() for row in rows[2:variants]]
    plain = [re.sub(r"\\(.)", r"\1", name) for name in shown]
    assert sorted(plain) == sorted(" ".join(name.split()) for name in ODD)
    html = page.read_text()
    assert "<e>" not in html
    assert "&lt;e&gt;" in html


@pytest.mark.parametrize("planted", ["report", "report/index.html", "report/.index.html.part"])
def test_links_in_a_workdir_do_not_lead_the_report_elsewhere(odd, tmp_path, planted):
    workdir, outside = tmp_path / "workdir", tmp_path / "outside"
    shutil.copytree(odd, workdir)
    outside.mkdir()
    (outside / "file").write_text("mine")
    (workdir / planted).parent.mkdir(exist_ok=True)
    (workdir / planted).symlink_to(outside if planted == "report" else outside / "file")
    with pytest.raises(UserError, match="is a link to"):
        write_report(workdir)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("file", "mine")]


def test_links_where_results_are_kept_are_replaced(comparison, tmp_path):
    victim, results = tmp_path / "victim", tmp_path / "results"
    victim.write_text("mine")
    results.mkdir()
    (results / "made_up.csv").symlink_to(victim)
    write_kept(comparison, results)
    assert victim.read_text() == "mine"
    assert read_kept(results, "made_up") == keep(comparison)
