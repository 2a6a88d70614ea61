import dataclasses
import re

import pytest

from gru_audio.reports import wording
from gru_audio.reports.comparison import compare
from gru_audio.reports.results import read_results
from gru_audio.reports.statistics import Estimate
from gru_audio.tasks.metrics import ACCURACY, LOSS
from tests.reports.workdirs import Made, fail, write_workdir


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def compared(tmp_path, **made):
    return compare(read_results(write_workdir(tmp_path, Made(**made))))


def test_training_time_is_that_of_the_processor_where_all_runs_have_it(tmp_path):
    comparison = compared(tmp_path)
    assert wording.clock(comparison.results) == ("cpu_seconds", "CPU time")
    first, *others = comparison.results.runs
    for unknown in ({}, {"cpu_seconds": None}):
        result = {k: v for k, v in first.result.items() if k != "cpu_seconds"} | unknown
        runs = (dataclasses.replace(first, result=result), *others)
        results = dataclasses.replace(comparison.results, runs=runs)
        assert wording.clock(results) == ("seconds", "wall time")


def test_shares_are_in_percent_and_losses_as_they_are():
    share, loss = ACCURACY.scale, LOSS.scale
    assert plain(share.value(0.9814)) == "98.1 %"
    assert plain(share.difference(-0.0061, sign=True)) == "-0.6 points"
    assert plain(share.interval(Estimate(0, -0.001, 0.011))) == "[-0.1, 1.1]"
    assert plain(share.number(-0.0001, sign=True)) == "0.0"
    assert plain(loss.value(8.5437)) == "8.544"
    assert plain(loss.difference(0.0061, sign=True)) == "+0.0061"


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (0.1, "0.100"),
        (0.0995, "0.0995"),
        (0.012345, "0.0123"),
        (-0.00098765, "-0.000988"),
        (5.3e-5, "5.3e-5"),
        (5.321e-12, "0.000"),
        (0.0, "0.000"),
    ],
)
def test_small_losses_have_three_significant_digits(loss, text):
    assert plain(LOSS.scale.value(loss)) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.00099, "p < 0.001"),
        (0.00213, "p = 0.00213"),
        (0.0499, "p = 0.0499"),
        (0.0214, "p = 0.0214"),
        (0.5, "p = 0.50"),
        (1, "p = 1.00"),
    ],
)
def test_p_values(p, text):
    assert plain(wording.p_value(p)) == text
    assert f"p = {plain(wording.bare_p(p))}".replace("= <", "<") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.84, "0.8 s"), (41.3, "41 s"), (192, "3.2 min"), (9000, "2.5 h")],  # noqa: RUF001
)
def test_durations(seconds, text):
    assert plain(wording.duration(seconds)) == text


def test_settings_and_replicates():
    setting = {"optimizer.learning_rate": 0.003, "model.hidden": 96}
    assert wording.setting(setting) == "learning_rate 0.003, hidden 96"
    assert wording.setting({"data.hold_out": "speaker=theo"}) == "speaker=theo"
    assert wording.setting({}) == ""


def test_a_clear_win(tmp_path):
    comparison = compared(tmp_path, variants={"gru": 6.0, "lstm": 2.0}, speakers=60)
    (pair,) = comparison.pairs
    size = ACCURACY.scale.difference(pair.difference.value)
    assert wording.headline(comparison) == f"gru beats lstm by {size}"
    said = plain(wording.evidence(comparison))
    assert f"{plain(size)} [" in said and "above lstm (p = 0.00132)" in said
    assert "over 5 seeds" in said
    assert wording.pair(pair, ACCURACY.scale).startswith(f"gru is better by {size}")
    assert wording.cautions(comparison) == []
    assert "5 seeds and 60 speakers with all their examples" in wording.sampling(comparison)


def test_a_lower_loss_wins(tmp_path):
    comparison = compared(tmp_path, variants={"gru": 6.0, "lstm": 2.0}, speakers=60, metric="loss")
    (pair,) = comparison.pairs
    assert pair.difference.value < 0
    assert "below lstm" in wording.evidence(comparison)
    words = plain(wording.pair(pair, LOSS.scale))
    assert words.startswith("gru is better by 0.") and "-" not in words


def test_no_winner(tmp_path):
    comparison = compared(tmp_path, variants={"gru": 5.0, "lstm": 5.0}, seeds=3, speakers=0)
    first, second = (variant.name for variant in comparison.variants)
    assert wording.headline(comparison) == f"No difference shown between {first} and {second}"
    assert "no difference shown" in wording.evidence(comparison)
    (pair,) = comparison.pairs
    said = wording.pair(pair, ACCURACY.scale)
    expected = (
        f"a difference this large needs about {pair.needed} replicates"
        if pair.needed
        else "a difference this small needs a larger test set"
    )
    assert said == f"no difference shown; {expected}"
    assert wording.cautions(comparison) == []


def test_equivalence(tmp_path):
    made = {"variants": {"gru": 5.0, "lstm": 5.0}, "speakers": 0, "examples": 4000}
    comparison = compared(tmp_path, **made)
    first, second = (variant.name for variant in comparison.variants)
    said = plain(wording.headline(comparison))
    assert said == f"{first} and {second} are equivalent within 1.0 points"
    scale = ACCURACY.scale
    assert plain(wording.pair(comparison.pairs[0], scale)) == "equivalent within 1.0 points"


def test_two_seeds_are_too_few_for_a_verdict(tmp_path):
    comparison = compared(tmp_path, seeds=2, speakers=0)
    first, second = (variant.name for variant in comparison.variants)
    said = wording.headline(comparison)
    assert said == f"No verdict on {first} and {second}: a verdict needs 3 replicates"
    evidence = plain(wording.evidence(comparison))
    assert re.search(r"of 9\d\.\d % \(9\d\.\d to 9\d\.\d\) over 2 seeds", evidence)
    assert "p =" not in evidence and "[" not in evidence


def test_a_shared_lead(tmp_path):
    comparison = compared(tmp_path, variants={"gru": 5.0, "lstm": 5.0, "rnn": 1.0}, speakers=60)
    first, second, third = (variant.name for variant in comparison.variants)
    assert third == "rnn"
    said = wording.headline(comparison)
    assert said == f"{first} beats rnn; no difference shown between {first} and {second}"


def test_many_variants_are_counted(tmp_path):
    variants = {"gru": 7.0} | {f"worse{i}": 1.0 for i in range(5)}
    comparison = compared(tmp_path, variants=variants, speakers=60)
    assert wording.headline(comparison) == "gru beats all 5 other variants"


def test_one_variant_and_one_seed(tmp_path):
    comparison = compared(tmp_path, variants={"gru": 5.0}, seeds=1, speakers=0)
    assert wording.headline(comparison).startswith("gru reaches a test accuracy of 9")
    assert "over 1 seed." in wording.evidence(comparison)
    assert wording.cautions(comparison) == [
        "With 1 replicate there is no interval, no p-value and no verdict: at least 3 are needed."
    ]


def test_folds_of_one_speaker_are_the_replicates(tmp_path):
    comparison = compared(tmp_path, folds=6, examples=600)
    sampling = wording.sampling(comparison)
    assert sampling == (
        "The intervals account for chance in 6 replicates, each with its own test set of 100 test "
        "examples."
    )
    said = " ".join(wording.cautions(comparison))
    assert "has a single speaker" in said and "The 6 test sets show how speakers differ" in said


def test_few_speakers_are_said_to_be_few(tmp_path):
    said = wording.cautions(compared(tmp_path, speakers=3))
    assert said == ["With only 3 speakers in a test set, the intervals are rough."]


def test_missing_replicates_and_examples_are_said(tmp_path):
    write_workdir(tmp_path, Made(seeds=5))
    fail(tmp_path, "lstm-1")
    comparison = compare(read_results(tmp_path))
    sampled = dataclasses.replace(comparison.test_sets[0], dropped=7)
    comparison = dataclasses.replace(comparison, test_sets=(sampled,))
    said = wording.cautions(comparison)
    assert "lstm has 4 of 5 replicates." in said
    assert any("Up to 7 examples" in caution for caution in said)


def test_nothing_to_compare(tmp_path):
    write_workdir(tmp_path, Made(variants={"gru": 5.0}, seeds=1))
    fail(tmp_path, "gru-0")
    comparison = compare(read_results(tmp_path))
    assert wording.headline(comparison) == "No run has finished yet"
    assert wording.cautions(comparison) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("GRU", "GRU"),
        ("Li-GRU", "Li-GRU"),
        ("CRNN, GRU", "“CRNN, GRU”"),
        ("GRU and CNN", "“GRU and CNN”"),
        ("android", "android"),
        ("a - b", "“a - b”"),
    ],
)
def test_names_that_could_be_misread_are_quoted(name, said):
    assert wording.quoted(name) == said


def test_a_headline_tells_where_names_end(tmp_path):
    comparison = compared(tmp_path, variants={"CRNN, GRU": 6.0, "CNN": 2.0}, speakers=60)
    assert wording.headline(comparison).startswith("“CRNN, GRU” beats CNN by ")
    assert wording.pair_name(comparison.pairs[0]) == "“CRNN, GRU” \N{MINUS SIGN} CNN"
    assert wording.pair(comparison.pairs[0], ACCURACY.scale).startswith("“CRNN, GRU” is better by ")


def test_a_headline_names_three_level_variants_in_one_list(tmp_path):
    comparison = compared(tmp_path, variants={"gru": 5.0, "lstm": 5.0, "rnn": 4.9}, seeds=3)
    names = [variant.name for variant in comparison.variants]
    said = wording.headline(comparison)
    assert said == f"No difference shown between {names[0]}, {names[1]} and {names[2]}"
