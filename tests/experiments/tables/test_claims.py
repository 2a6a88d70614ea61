"""Claims: comparisons of kept results, and their joint finding."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import scipy.stats

from experiments.tables import readme
from experiments.tables.claims import (
    Basis,
    Claim,
    Evidence,
    Finding,
    compared,
    counted,
    judge,
    read_benchmark,
    updates_to_equal_score,
    validation_at_equal_training_loss,
)
from experiments.tables.kept import Kept, KeptPair, KeptPoint
from gru_audio.reports.results_csv import RunRecord
from gru_audio.reports.statistics import Estimate, components_of_values
from gru_audio.settings import UserError

GRU, LSTM = [0.31, 0.28, 0.30, 0.35], [0.40, 0.33, 0.31, 0.41]  # by seed


def kept_run(variant, seed, loss, selected=True):
    return RunRecord(
        run=f"{variant}-{seed}-{selected}",
        variant=variant,
        trial={},
        replicate={"seed": seed},
        state="finished",
        selected=selected,
        total_parameters=10,
        recurrent_parameters=8,
        steps=400,
        step_cap=400,
        best_step=400,
        dropped_at=None,
        seconds=1.0,
        cpu_seconds=1.0,
        steps_per_second=400.0,
        compile_seconds=1.0,
        peak_memory_bytes=1,
        metrics={"test/loss": loss},
    )


def made_up(curves=()):
    """Two variants with replicates in different orders, and a trial that was not chosen."""
    gru = [kept_run("GRU", seed, loss) for seed, loss in enumerate(GRU)]
    lstm = [kept_run("LSTM", seed, loss) for seed, loss in enumerate(LSTM)]
    others = [kept_run("GRU", 0, 99.0, selected=False)]
    runs = (*gru, *others, *reversed(lstm))
    return Kept("x", "loss", False, 0.01, None, "c0ffee", "cpu", "0.10.2", runs, (), tuple(curves))


def evidence(low, high, expected=1, neutral=0.0, p=None):
    """Evidence by a test if there is a p-value, else by the rounds of a benchmark."""
    middle, basis = Estimate((low + high) / 2, low, high), Basis.ROUNDS if p is None else Basis.TEST
    return Evidence("somewhere", ("GRU", 1.0), ("LSTM", 2.0), middle, expected, neutral, basis, p)


@pytest.mark.parametrize(
    ("low", "high", "expected", "neutral", "speaks"),
    [
        (0.1, 0.2, 1, 0.0, 1),
        (0.1, 0.2, -1, 0.0, -1),
        (-0.2, -0.1, -1, 0.0, 1),
        (-0.2, -0.1, 1, 0.0, -1),
        (-0.1, 0.1, 1, 0.0, 0),
        (0.0, 0.1, 1, 0.0, 0),
        (0.8, 0.9, -1, 1.0, 1),
        (0.8, 0.9, 1, 1.0, -1),
        (1.1, 1.2, 1, 1.0, 1),
        (0.9, 1.1, 1, 1.0, 0),
    ],
)
def test_rounds_of_a_benchmark_speak_if_both_quartiles_lie_on_one_side(
    low, high, expected, neutral, speaks
):
    assert evidence(low, high, expected, neutral).speaks == speaks


@pytest.mark.parametrize(
    ("middle", "expected", "p", "speaks"),
    [(0.1, 1, 0.049, 1), (0.1, -1, 0.049, -1), (-0.1, -1, 0.0, 1), (0.1, 1, 0.051, 0)],
)
def test_evidence_with_a_p_value_speaks_if_it_is_below_a_twentieth(middle, expected, p, speaks):
    assert evidence(middle - 1, middle + 1, expected, p=p).speaks == speaks


def test_a_test_with_too_few_replicates_for_a_p_value_shows_nothing():
    alike = Estimate(0.1, 0.1, 0.1)
    assert Evidence("", ("GRU", 1.0), ("LSTM", 2.0), alike, expected=1, p=None).speaks == 0


@pytest.mark.parametrize(("floor", "speaks"), [(None, 1), (1.05, 0), (2.0, 0), (2.2, 1)])
def test_two_that_learnt_nothing_show_nothing(floor, speaks):
    """1.9 and 2.0 are above nine tenths of a floor of 1.05 or 2, and only 2.0 of one of 2.2."""
    sure = dataclasses.replace(evidence(0.05, 0.15, p=1e-6), first=("GRU", 1.9), floor=floor)
    assert sure.speaks == speaks


def test_the_p_values_of_a_claim_are_adjusted_for_their_number():
    tests = [evidence(0, 1, p=0.02), evidence(1, 2), evidence(0, 1, p=0.9), evidence(0, 1, p=0.03)]
    claim = Claim("", "", lambda results: tests)
    adjusted = claim.evidence(None)
    assert [test.p for test in adjusted] == [pytest.approx(0.06), None, 0.9, pytest.approx(0.06)]
    assert [test.speaks for test in tests] == [1, 1, 0, 1]
    assert [test.speaks for test in adjusted] == [0, 1, 0, 0]


FOR, AGAINST, NOTHING = evidence(1, 2), evidence(-2, -1), evidence(-1, 1)


@pytest.mark.parametrize(
    ("tests", "finding"),
    [
        ([], Finding.NOT_RUN),
        ([FOR, FOR], Finding.HOLDS),
        ([FOR, NOTHING], Finding.HOLDS_IN_PART),
        ([FOR, AGAINST, NOTHING], Finding.MIXED),
        ([NOTHING], Finding.NOT_SHOWN),
        ([AGAINST, NOTHING], Finding.OPPOSITE_IN_PART),
        ([AGAINST, AGAINST], Finding.OPPOSITE),
    ],
)
def test_what_the_evidence_says_together(tests, finding):
    assert judge(tests) == finding


def test_the_opposite_of_a_claim_is_judged_by_the_same_rule():
    mirrored = {
        Finding.HOLDS: Finding.OPPOSITE,
        Finding.HOLDS_IN_PART: Finding.OPPOSITE_IN_PART,
        Finding.MIXED: Finding.MIXED,
        Finding.NOT_SHOWN: Finding.NOT_SHOWN,
    }
    mirrored |= {after: before for before, after in mirrored.items()}
    for tests in itertools.product((FOR, AGAINST, NOTHING), repeat=3):
        turned = [dataclasses.replace(test, expected=-test.expected) for test in tests]
        assert judge(turned) == mirrored[judge(tests)]


def test_counts_have_neither_interval_nor_p_value():
    runs = [
        dataclasses.replace(run, total_parameters=10 if run.variant == "GRU" else 13)
        for run in made_up().runs
    ]
    kept = dataclasses.replace(made_up(), runs=tuple(runs))
    (found,) = counted(kept, "GRU", "LSTM", lambda r: r.total_parameters, setting="", expected=-1)
    assert (found.first, found.second) == (("GRU", 10), ("LSTM", 13))
    assert (found.p, found.speaks) == (None, 1)
    text = readme.render([], [(Claim("", "", None), [found])])
    assert "|  | GRU: 10 | LSTM: 13 | \N{MINUS SIGN}3 | for |" in text

    differing = (dataclasses.replace(runs[0], total_parameters=11), *runs[1:])
    with pytest.raises(UserError, match="the runs of one variant have different counts"):
        counted(
            dataclasses.replace(kept, runs=differing),
            *("GRU", "LSTM"),
            lambda run: run.total_parameters,
            setting="size",
            expected=-1,
        )


@pytest.mark.parametrize(("first", "sign"), [("GRU", 1), ("LSTM", -1)])
def test_test_scores_are_compared_by_the_kept_differences(first, sign):
    values = np.subtract(LSTM, GRU)
    pair = KeptPair("LSTM", "GRU", **dataclasses.asdict(components_of_values(values)))
    kept = dataclasses.replace(made_up(), pairs=(pair,))
    test = scipy.stats.ttest_1samp(values, 0)
    low, high = test.confidence_interval(0.95)
    second = {"GRU": "LSTM", "LSTM": "GRU"}[first]
    (found,) = compared(kept, first, second, setting="", expected=-1)
    assert found.first == (first, pytest.approx(np.mean(GRU if first == "GRU" else LSTM)))
    assert found.difference.value == pytest.approx(-values.mean() * sign)
    expected = (-high, -low) if sign > 0 else (low, high)
    assert (found.difference.low, found.difference.high) == pytest.approx(expected, abs=1e-7)
    assert found.p == pytest.approx(test.pvalue)
    assert found.speaks == (sign if test.pvalue < 0.05 else 0)


@pytest.mark.parametrize("kept", [None, made_up()])
def test_what_was_not_run_is_no_evidence(kept):
    assert not compared(kept, "GRU", "TCN", setting="", expected=1)
    assert not counted(kept, "GRU", "TCN", lambda run: 0.0, setting="", expected=1)
    assert not updates_to_equal_score(kept, "GRU", "TCN", setting="", expected=1)
    assert not validation_at_equal_training_loss(kept, "GRU", "TCN", setting="", expected=1)


def curve(variant, seed, training, validation):
    """Losses after 100, 200, ... updates."""
    return [
        KeptPoint(f"{variant}-{seed}-True", 100 * i, 0.0, {"train/loss": t, "validation/loss": v})
        for i, (t, v) in enumerate(zip(training, validation, strict=True), 1)
    ]


def test_updates_are_counted_to_the_worse_of_the_best_losses():
    points, training = [], (0.0,) * 4
    for seed in range(4):
        points += curve("GRU", seed, training, (0.9, 0.5, 0.4, 0.45))
        points += curve("LSTM", seed, training, (0.9, 0.8, 0.7, 0.5 + 0.08 * seed))
    (found,) = updates_to_equal_score(made_up(points), "GRU", "LSTM", setting="", expected=-1)
    targets = [0.5, 0.58, 0.66, 0.7]  # of the last the best is 0.7, at update 300
    needed = np.interp(targets, [0.5, 0.9], [200, 100])
    at = np.array([400, 400, 400, 300])
    test = scipy.stats.ttest_1samp(np.log(needed / at), 0)
    assert found.first == ("GRU", pytest.approx(needed.mean()))
    assert found.second == ("LSTM", pytest.approx(at.mean()))
    assert found.difference.value == pytest.approx(scipy.stats.gmean(needed / at))
    assert found.p == pytest.approx(test.pvalue)
    assert found.speaks == 1


def test_one_that_learns_faster_is_compared_at_equal_training_loss():
    """The GRU follows the same losses twice as fast, so it overfits after equal updates."""
    path = [(1.0, 1.0), (0.8, 0.9), (0.6, 0.8), (0.4, 0.9), (0.2, 1.1), (0.1, 1.5)]
    points = []
    for seed in range(4):
        points += curve("GRU", seed, *zip(*path[::2], strict=True))
        points += curve("LSTM", seed, *zip(*path[:3], strict=True))
    kept = made_up(points)
    names = {"first": "GRU", "second": "LSTM", "setting": "", "expected": -1}
    (found,) = validation_at_equal_training_loss(kept, **names)
    assert found.difference.value == pytest.approx(0, abs=1e-9)
    assert found.speaks == 0


def test_one_that_generalises_less_at_equal_training_loss_is_found():
    points = []
    for seed in range(4):
        points += curve("GRU", seed, (1.0, 0.5), (1.0, 0.8 + 0.01 * seed))
        points += curve("LSTM", seed, (1.0, 0.3), (1.0, 0.6))
    kept = made_up(points)
    (found,) = validation_at_equal_training_loss(kept, "GRU", "LSTM", setting="", expected=-1)
    # At a training loss of 0.5, which the LSTM has at 5 / 7 of its way.
    at_equal = 1.0 - 0.4 * 5 / 7
    reference = scipy.stats.ttest_1samp(0.8 + 0.01 * np.arange(4) - at_equal, 0)
    assert found.first == ("GRU", pytest.approx(0.815))
    assert found.second == ("LSTM", pytest.approx(at_equal))
    assert found.p == pytest.approx(reference.pvalue)
    assert found.speaks == -1


def test_two_replicates_have_no_p_value():
    points = [
        point
        for seed in range(2)
        for variant, best in (("GRU", 0.5), ("LSTM", 0.7))
        for point in curve(variant, seed, (1.0, 0.5), (1.0, best + 0.01 * seed))
    ]
    two = [run for run in made_up().runs if run.replicate["seed"] < 2]
    kept = dataclasses.replace(made_up(points), runs=tuple(two))
    for compare in (updates_to_equal_score, validation_at_equal_training_loss):
        (found,) = compare(kept, "GRU", "LSTM", setting="", expected=-1)
        assert (found.p, found.speaks) == (None, 0)


def test_a_benchmark_that_is_missing_or_damaged(tmp_path):
    path = tmp_path / "cells.json"
    assert read_benchmark(path) == []
    path.write_text(json.dumps({"rows": [{"cell": "gru"}]}))
    assert read_benchmark(path) == [{"cell": "gru"}]
    path.write_text('{"rows": [')
    with pytest.raises(UserError, match=r"cells\.json"):
        read_benchmark(path)


def test_the_page_tells_claim_finding_and_numbers():
    claim = Claim("A GRU is green", "Looked at it.", lambda results: [])
    text = readme.render([], [(claim, [evidence(0.25, 0.75, p=0.013)]), (claim, [])])
    assert "| A GRU is green | holds | 1 | 0 | 1 |" in text
    assert "| A GRU is green | not run | 0 | 0 | 0 |" in text
    assert "**Holds.** Looked at it." in text
    assert "| somewhere | GRU: 1 | LSTM: 2 | 0.5 [0.25, 0.75] | 0.0130 | for |" in text
