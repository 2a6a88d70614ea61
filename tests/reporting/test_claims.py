"""Claims: how comparisons are made of kept results, and what they say together."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.stats

from gru_audio.config import UserError
from gru_audio.reporting import readme
from gru_audio.reporting.claims import (
    Claim,
    Evidence,
    Finding,
    compared,
    judge,
    paired,
    read_benchmark,
    updates_to_equal_score,
)
from gru_audio.reporting.kept import Kept, KeptPair, KeptPoint, KeptRun
from gru_audio.reporting.statistics import Estimate, components_of_values

GRU, LSTM = [0.31, 0.28, 0.30, 0.35], [0.40, 0.33, 0.31, 0.41]  # by seed


def kept_run(arm, seed, loss, selected=True):
    return KeptRun(
        run=f"{arm}-{seed}-{selected}",
        arm=arm,
        draw={},
        replicate={"seed": seed},
        state="finished",
        selected=selected,
        total_parameters=10,
        recurrent_parameters=8,
        steps=400,
        step_cap=400,
        best_step=400,
        seconds=1.0,
        steps_per_second=400.0,
        compile_seconds=1.0,
        peak_memory_bytes=1,
        metrics={"test/loss": loss},
    )


def made_up(curves=()):
    """Two arms, whose replicates come in different orders, and a draw that was not chosen."""
    gru = [kept_run("GRU", seed, loss) for seed, loss in enumerate(GRU)]
    lstm = [kept_run("LSTM", seed, loss) for seed, loss in enumerate(LSTM)]
    others = [kept_run("GRU", 0, 99.0, selected=False)]
    runs = (*gru, *others, *reversed(lstm))
    return Kept("x", "loss", False, 0.01, None, "c0ffee", "cpu", "0.10.2", runs, (), tuple(curves))


def evidence(low, high, expected=1, neutral=0.0, p=None):
    middle = Estimate((low + high) / 2, low, high)
    return Evidence("somewhere", ("GRU", 1.0), ("LSTM", 2.0), middle, expected, neutral, p)


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
def test_evidence_without_a_p_value_speaks_if_all_of_its_interval_lies_on_one_side(
    low, high, expected, neutral, speaks
):
    assert evidence(low, high, expected, neutral).speaks == speaks


@pytest.mark.parametrize(
    ("middle", "expected", "p", "speaks"),
    [(0.1, 1, 0.049, 1), (0.1, -1, 0.049, -1), (-0.1, -1, 0.0, 1), (0.1, 1, 0.051, 0)],
)
def test_evidence_with_a_p_value_speaks_if_it_is_below_a_twentieth(middle, expected, p, speaks):
    assert evidence(middle - 1, middle + 1, expected, p=p).speaks == speaks


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
        ([AGAINST, NOTHING], Finding.DOES_NOT_HOLD),
        ([AGAINST], Finding.DOES_NOT_HOLD),
    ],
)
def test_what_the_evidence_says_together(tests, finding):
    assert judge(tests) == finding


def test_pairs_are_of_one_replicate_and_of_chosen_runs():
    (found,) = paired(
        made_up(),
        "GRU",
        "LSTM",
        lambda run: run.metrics["test/loss"],
        setting="here",
        expected=-1,
    )
    test = scipy.stats.ttest_rel(GRU, LSTM)
    reference = test.confidence_interval(0.95)
    assert found.first == ("GRU", pytest.approx(np.mean(GRU)))
    assert found.second == ("LSTM", pytest.approx(np.mean(LSTM)))
    assert found.difference.value == pytest.approx(np.mean(GRU) - np.mean(LSTM))
    assert found.difference.low == pytest.approx(reference.low, abs=1e-7)
    assert found.difference.high == pytest.approx(reference.high, abs=1e-7)
    assert found.p == pytest.approx(test.pvalue)


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
    assert not paired(kept, "GRU", "TCN", lambda run: 0.0, setting="", expected=1)
    assert not updates_to_equal_score(kept, "GRU", "TCN", setting="", expected=1)


def test_updates_are_counted_to_the_worse_of_the_best_losses():
    def curve(arm, seed, losses):
        return [
            KeptPoint(f"{arm}-{seed}-True", step, 0.0, {"validation/loss": loss})
            for step, loss in zip((100, 200, 300, 400), losses, strict=True)
        ]

    points = []
    for seed in range(4):
        points += curve("GRU", seed, (0.9, 0.5, 0.4, 0.45))
        points += curve("LSTM", seed, (0.9, 0.8, 0.7, 0.5 + 0.01 * seed))
    (found,) = updates_to_equal_score(made_up(points), "GRU", "LSTM", setting="", expected=-1)
    assert found.first == ("GRU", 200)  # where it first is at 0.5 and below, the LSTM's best
    assert found.second == ("LSTM", 400)
    assert found.difference.value == pytest.approx(0.5)
    assert math.isclose(found.difference.low, 0.5)  # the same ratio in every replicate
    assert found.speaks == 1


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
