import csv
import datetime
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gru_audio.reports.tables import escaped
from gru_audio.reports.write import write_figures, write_report
from gru_audio.tasks.metrics import LOSS
from tests.reports.workdirs import Made, fail, interrupt, remove, write_workdir

ROOT = Path(__file__).resolve().parents[1]
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Text and structure of a page; an unbalanced tag fails."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data.replace("\N{NO-BREAK SPACE}", " "))

    def __contains__(self, words):
        return words in re.sub(r"\s+", " ", "".join(self.text))


def report(workdir):
    index, comparison = write_report(workdir)
    return index, Page(index.read_text()), comparison


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    made = Made(variants={"gru": 6.0, "lstm": 5.0, "rnn": 1.0, "rnn <b>&": 2.0}, cost={"rnn": 9.0})
    return write_workdir(tmp_path_factory.mktemp("finished"), made)


@pytest.fixture(scope="module")
def reported(finished):
    return report(finished)


def test_the_page_of_twenty_runs_is_small_and_shows_nothing_from_elsewhere(reported):
    index, page, _ = reported
    source = index.read_text()
    assert len(source.encode()) < 600_000
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "srcset"):
            if tag == "a" and "download" in attributes:
                assert (index.parent / attributes["href"]).is_file()
            else:
                assert attributes.get(name, "#").startswith("#")
    assert "@import" not in source and not re.search(r"url\((?!#)", source)
    anchors = [a["href"][1:] for tag, a in page.tags if tag == "a" and "download" not in a]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert set(anchors) <= set(ids) and len(ids) == len(set(ids))
    assert anchors == [a["id"] for tag, a in page.tags if tag == "section"]  # the contents


def test_every_figure_can_be_downloaded(reported):
    index, page, _ = reported
    linked = {a["href"] for tag, a in page.tags if tag == "a" and "figures/" in a["href"]}
    written = {path.name for path in (index.parent / "figures").iterdir()}
    assert {f"figures/{name}" for name in written} == linked
    assert len(linked) == 2 * sum(tag == "svg" for tag, _ in page.tags)


def test_the_page_shows_what_was_found(reported):
    _, page, comparison = reported
    for variant in comparison.variants:
        assert variant.name in page
        assert f"{100 * variant.estimate.value:.1f} %" in page
        assert f"[{100 * variant.estimate.low:.1f}, {100 * variant.estimate.high:.1f}]" in page
    for words in (
        "41,482",
        "612 MB",
        "23.4 GFLOP/s (18 %)",
        "5 of 5",
        "adjusted for 6 comparisons by Holm's method",
        "python -m gru_audio.sweep --config experiments/made_up.py",
        "0123456789abcdef",
        "model.hidden",
        "train loss",
        "validation accuracy",
        "Training per run,CPU time",
        "training, CPU time",
        "Class by class",
    ):
        assert words in page, words
    assert sum(tag == "svg" for tag, _ in page.tags) == 2 + 3 + 1 + 1 + 4 + 3
    assert "What is missing" not in page


def test_examples_are_told_where_the_data_set_is_not_at_hand(reported):
    _, page, _ = reported
    assert "Where the variants disagree" in page
    assert "The examples cannot be shown: There is no data set" in page
    assert not {tag for tag, _ in page.tags} & {"audio", "img"}
    assert sum(tag == "article" for tag, _ in page.tags) == 6


def test_names_are_escaped(reported):
    _, page, _ = reported
    assert "rnn <b>&" in page
    assert not [tag for tag, _ in page.tags if tag == "b"]


def test_the_table_agrees_with_the_comparison(reported):
    index, _, comparison = reported
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (index.parent / "table.md").read_text().splitlines()
        if line.startswith("|") and "---" not in line
    ]
    variants = {row[0]: row for row in rows[1:5]}
    for variant in comparison.variants:
        assert variants[escaped(variant.name)][1].startswith(f"{100 * variant.estimate.value:.1f}")
        assert variants[escaped(variant.name)][-1] == "5"
    assert len(rows) == 1 + 4 + 1 + 6
    assert {len(row) for row in rows[:5]} == {6} and {len(row) for row in rows[5:]} == {5}


def test_the_csv_has_a_line_for_every_run(tmp_path):
    write_workdir(tmp_path, Made(trials={0.001: 0.0, 0.01: 3.0}, seeds=2))
    fail(tmp_path, "lstm-0.01-1")
    index, _, comparison = report(tmp_path)
    lines = list(csv.DictReader(io.StringIO((index.parent / "results.csv").read_text())))
    assert len(lines) == 8
    by_run = {line["run"]: line for line in lines}
    for variant in comparison.variants:
        for run, value in zip(variant.runs, variant.values, strict=True):
            assert by_run[run.name]["selected"] == "1"
            assert float(by_run[run.name]["test/accuracy"]) == pytest.approx(value)
    assert sum(line["selected"] == "1" for line in lines) == 4
    assert by_run["lstm-0.01-1"]["state"] == "failed" and not by_run["lstm-0.01-1"]["seconds"]


def test_an_unfinished_sweep_says_what_is_missing(tmp_path):
    write_workdir(tmp_path, Made(trials={0.001: 0.0, 0.01: 3.0}, seeds=2, speakers=0))
    fail(tmp_path, "lstm-0.01-1")
    interrupt(tmp_path, "gru-0.01-0")
    remove(tmp_path, "gru-0.01-1")
    (tmp_path / "runs" / "lstm-0.01-0" / "predictions" / "test.npz").unlink()
    _, page, _ = report(tmp_path)
    assert "5 of 8 runs have finished, 2 waiting, 1 failed." in page
    assert "FloatingPointError: the loss is not finite at step 1250" in page
    assert "Run lstm-0.01-0 is left out: its predictions are missing." in page
    assert "learning_rate 0.001" in page and "chosen from 1 of 2 trials" in page


def test_halving_is_told(tmp_path):
    write_workdir(tmp_path, Made(trials={0.001: 0.0, 0.01: 3.0, 0.1: 3.0}, seeds=2, speakers=0))
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    halving = {"rungs": [200, 1000], "keep": 0.5}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"halving": halving}))
    for path in tmp_path.glob("runs/*-0.01-*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"stopped_at_rung": 2}))
    for path in tmp_path.glob("runs/*-0.1-*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"stopped_at_rung": 1}))
    _, page, _ = report(tmp_path)
    told = "chosen from 3 trials; successive halving at steps 200 and 1,000 kept 1"
    assert told in page


def test_what_runs_now_is_told(tmp_path):
    write_workdir(tmp_path, Made(seeds=2))
    remove(tmp_path, "gru-1")
    status = {
        "state": "training",
        "host": "node7",
        "shard": "1/2",
        "heartbeat": datetime.datetime.now(datetime.UTC).isoformat(),
        "runs": [{"run": "gru-1", "step": 1200, "best": 0.5}],
    }
    (tmp_path / "groups" / "gru").mkdir(parents=True)
    (tmp_path / "groups" / "gru" / "status.json").write_text(json.dumps(status))
    index, page, _ = report(tmp_path)
    assert "3 of 4 runs have finished, 1 running." in page
    assert "step 1,200 of 3,000 on node7" in page
    assert "the replicates that all of them have; 1 more run left out." in page
    assert "3 of 4 runs have finished, 1 running." in (index.parent / "table.md").read_text()


def test_a_sweep_that_just_began_has_a_page(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    remove(tmp_path, "gru-0")
    remove(tmp_path, "lstm-0")
    index, page, _ = report(tmp_path)
    assert "No run has finished yet" in page and "0 of 2 runs" in page
    assert "No run has finished yet" in (index.parent / "table.md").read_text()


@pytest.mark.parametrize(
    "made", [Made(folds=4), Made(metric="loss"), Made(variants={"gru": 9}, seeds=1)]
)
def test_other_sweeps_have_pages_too(tmp_path, made):
    write_workdir(tmp_path, made)
    _, page, comparison = report(tmp_path)
    assert f"test {made.metric}" in page
    assert len(comparison.variants) == len(made.variants)


def test_a_task_without_classes_has_no_confusion(tmp_path):
    made = Made(variants={"gru": 6.0, "lstm": 5.0}, metric="loss", class_names=(), speakers=0)
    _, page, comparison = report(write_workdir(tmp_path, made))
    assert "Confusion" not in page and "Class by class" not in page and "classes" not in page
    assert "validation loss" in page and "accuracy" not in page
    for variant in comparison.variants:
        assert LOSS.scale.value(variant.estimate.value) in page


def test_the_same_workdir_gives_the_same_page(finished, tmp_path):
    first, _ = write_report(finished, tmp_path / "first")
    second, _ = write_report(finished, tmp_path / "second")
    assert first.read_text() == second.read_text()


def run_command(*arguments):
    command = [sys.executable, "-m", "gru_audio.report", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command_prints_the_verdict(finished, tmp_path):
    done = run_command(f"--workdir={finished}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "beats" in done.stdout and str(tmp_path / "out" / "index.html") in done.stdout
    assert "\nData set: made_up, 10 classes (digit); 300 test examples.\n" in done.stdout
    assert "\nBaselines are not computed: " in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "figures",
        "index.html",
        "results.csv",
        "table.md",
        "table.tex",
    }


def test_the_command_says_what_it_needs():
    done = run_command()
    assert done.returncode == 2
    assert "Name a workdir by --workdir" in done.stderr and "Traceback" not in done.stderr


def test_the_command_refuses_a_folder_without_a_sweep(tmp_path):
    done = run_command(f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert "sweep.json is missing" in done.stderr and "Traceback" not in done.stderr


def test_figures_alone_in_the_formats_of_papers(finished, tmp_path):
    _, comparison = write_report(finished, tmp_path / "report")
    written = write_figures(comparison, tmp_path / "paper", ("svg", "pdf", "png"))
    assert {path.name for path in written} == {p.name for p in (tmp_path / "paper").iterdir()}
    starts = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}
    for path in written:
        assert path.read_bytes().startswith(starts[path.suffix])
