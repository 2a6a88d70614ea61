"""The notes beside the verdicts, and the LaTeX tables."""

import json
import re

import pytest

from gru_audio.reports import context, tables
from gru_audio.reports.baselines import Baseline, Baselines
from gru_audio.reports.comparison import compare
from gru_audio.reports.results import read_results
from tests.reports.workdirs import Made, write_workdir

VALUES = {'{"seed": 0}': 0.2, '{"seed": 1}': 0.4, '{"seed": 2}': 0.3}
TRIVIAL = Baseline("majority class", "", ("gru", "lstm"), dict.fromkeys(VALUES, 0.1))
LINEAR = Baseline("linear model", "logistic regression", ("gru", "lstm"), VALUES)


def compared(workdir, made, baselines):
    return compare(read_results(write_workdir(workdir, made)), baselines)


def test_chance_level_and_linear_model_are_named(tmp_path):
    found = compared(tmp_path, Made(seeds=3), Baselines(TRIVIAL, (LINEAR,)))
    chance, linear = context.notes(found)
    assert "Chance level (majority class): a test accuracy of 10.0\N{NO-BREAK SPACE}%" in chance
    assert "30.0\N{NO-BREAK SPACE}% (logistic regression)." in linear
    assert found.baseline == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "."), (2.0, "; no variant is better."), (None, "; lstm is not better.")],
)
def test_variants_that_a_linear_model_beats_are_named(tmp_path, value, said):
    made = Made(variants={"gru": 6.0, "lstm": 2.0}, seeds=3)
    best, worst = compared(tmp_path / "a", made, Baselines()).variants
    between = (best.estimate.value + worst.estimate.value) / 2
    values = dict.fromkeys(VALUES, between if value is None else value)
    linear = Baseline("linear model", "logistic regression", ("gru", "lstm"), values)
    found = compared(tmp_path / "b", made, Baselines(TRIVIAL, (linear,)))
    assert context.notes(found)[1].endswith(f"(logistic regression){said}")


def test_of_a_loss_less_is_better(tmp_path):
    made = Made(metric="loss", class_names=(), seeds=3)
    linear = Baseline("linear model", "as", ("gru", "lstm"), dict.fromkeys(VALUES, 1e-9))
    found = compared(tmp_path, made, Baselines(TRIVIAL, (linear,)))
    assert context.notes(found)[1].endswith("no variant is better.")


def test_models_of_different_features_are_told_apart(tmp_path):
    mel = Baseline("linear model", "of mel", ("gru",), VALUES)
    mfcc = Baseline("linear model", "of MFCC", ("lstm",), VALUES)
    found = compared(tmp_path, Made(seeds=3), Baselines(TRIVIAL, (mel, mfcc)))
    about = [context.about(found, each) for each in context.baselines(found)]
    assert about == ["ignores its input: chance level", "of mel; for gru", "of MFCC; for lstm"]


def test_what_could_not_be_computed_is_said(tmp_path):
    found = compared(tmp_path, Made(seeds=3), Baselines(missing="The data set is gone."))
    assert context.notes(found) == ["Baselines are not computed: The data set is gone."]
    assert context.baselines(found) == []


def test_the_data_set_is_described(tmp_path):
    write_workdir(tmp_path, Made(folds=4, examples=302))
    for i, path in enumerate(sorted(tmp_path.glob("runs/*/result.json"))):
        result = json.loads(path.read_text())
        examples = {"train": 1200 + i % 2, "validation": 50, "test": 75}
        path.write_text(json.dumps(result | {"examples": examples}))
    found = compare(read_results(tmp_path))
    assert context.data(found) == (
        "Data set: made_up, 10 classes (digit); 1,200 to 1,201 training, 50 validation and "
        "75 to 76 test examples in each of 4 folds."
    )


@pytest.mark.parametrize("examples", [None, {}, [], 3, {"train": "x", "validation": []}])
def test_results_may_lack_sizes_of_splits(tmp_path, examples):
    write_workdir(tmp_path, Made(seeds=1, class_names=(), metric="loss"))
    for path in tmp_path.glob("runs/*/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"examples": examples}))
    found = compare(read_results(tmp_path))
    assert context.data(found) == "Data set: made_up; 300 test examples."


def test_training_that_was_cut_short_is_told(tmp_path):
    write_workdir(tmp_path, Made(seeds=3, steps=3000))
    for run in (tmp_path / "runs").iterdir():
        lines = [{"step": s, "validation/loss": 3 - s / 2000} for s in range(200, 3001, 200)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"steps": 3000}))
    (note,) = context.notes(compare(read_results(tmp_path)))
    assert "stopped while validation loss was improving: try more steps" in note
    assert "gru" in note and "lstm" in note


def test_latex_escapes_names():
    assert tables.escaped_in_latex(r"a_b & 50% {x} #1 $2 ~^\ <>|") == (
        r"a\_b \& 50\% \{x\} \#1 \$2 \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}\textgreater{}\textbar{}"
    )
    assert tables.escaped_in_latex("\N{MINUS SIGN}1\N{NO-BREAK SPACE}% [a]\n\\\\") == (
        r"$-$1~\% {[}a{]} \textbackslash{}\textbackslash{}"
    )


def test_latex_tables_have_all_rows(tmp_path):
    made = Made(variants={"CRNN, GRU & x_1": 6.0, "lstm": 4.0, "50% off \\": 2.0}, seeds=3)
    names = tuple(made.variants)
    linear = Baseline("linear model", "as", names, VALUES)
    text = tables.latex_tables(compared(tmp_path, made, Baselines(TRIVIAL, (linear,))))
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines.count(r"\toprule") == lines.count(r"\bottomrule") == 2
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 1 + 3 + 2 + 1 + 3
    for row in rows:
        # Unescaped: columns, and in numbers the minus sign.
        columns = len(re.findall(r"(?<!\\)&", row))
        assert columns == (5 if rows.index(row) < 6 else 3)
        assert not re.search(r"(?<!\\)[%#_]|\$(?!-\$)(?<!\$-\$)", row.removesuffix(r"\\"))
    assert r"``CRNN, GRU \& x\_1'' $-$ lstm" in text
    assert "Majority class & 10.0" in text and "Linear model & 30.0" in text
