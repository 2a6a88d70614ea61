import math

import pytest

from experiments.tables.published import (
    Kind,
    Published,
    Verdict,
    judge,
    judge_in_kind,
    kind,
    smallest_difference,
)
from gru_audio.settings import UserError

TOLERANCE = 0.1


@pytest.mark.parametrize(
    ("published", "interval", "higher_is_better", "verdict"),
    [
        # The interval contains the value and lies within the tolerance around it.
        (8.54, (8.50, 8.60), False, "reproduced"),
        (8.54, (8.54, 8.54), False, "reproduced"),
        (8.54, (8.54, 8.60), True, "reproduced"),
        # The whole interval lies on one side of the value, however near.
        (8.54, (8.50, 8.53), False, "better"),
        (8.54, (8.55, 8.56), False, "worse"),
        (0.90, (0.94, 0.96), True, "better"),
        (0.90, (0.84, 0.86), True, "worse"),
        # A noisy run reproduces nothing: it reaches beyond the tolerance on one side or on both.
        (8.54, (8.40, 8.60), False, "undecided"),
        (8.54, (8.50, 8.70), False, "undecided"),
        (8.54, (-math.inf, math.inf), False, "undecided"),
        # Nor does a run that diverged, or one of too few seeds.
        (10.0, (math.nan, math.nan), False, "undecided"),
        (10.0, None, False, "too few replicates"),
    ],
)
def test_the_rule(published, interval, higher_is_better, verdict):
    found = judge(published, interval, TOLERANCE, higher_is_better=higher_is_better)
    assert found == verdict


def test_the_ends_of_the_tolerance_are_not_within_it():
    for interval, verdict in (((-0.5, 0.0), "undecided"), ((-0.499, 0.499), "reproduced")):
        assert judge(0.0, interval, 0.5, higher_is_better=False) == verdict


def test_no_interval_reproduces_two_values_that_a_paper_tells_apart():
    published = Published("A paper", "nats", {"": {"GRU": 8.43, "LSTM": 8.45, "TCN": 8.10}})
    for interval in ((8.42, 8.46), (8.43, 8.45), (8.435, 8.445), (8.429, 8.431)):
        verdicts = [
            judge(value, interval, published.tolerance("", variant), higher_is_better=False)
            for variant, value in published.values[""].items()
        ]
        assert verdicts.count(Verdict.REPRODUCED) <= 1


def test_the_tolerance():
    values = {
        "near": {"GRU": 8.54, "LSTM": 8.67, "tanh RNN": 9.10},
        "far": {"GRU": 1.0, "LSTM": 2.0},
        "equal": {"LSTM": 6.23, "tanh RNN": 6.23},
        "stated": {"GRU": 1.0, "LSTM": 2.0},
        "stated too far": {"GRU": 1.0, "LSTM": 2.0},
    }
    stated = {"stated": 0.3, "stated too far": 0.7}
    published = Published("A paper", "nats", values, tolerances=stated)
    expected = {
        "near": 0.065,  # half of 8.67 - 8.54
        "far": 0.02,  # 2 % of the value
        "equal": 0.02 * 6.23,  # the paper tells of no difference
        "stated": 0.3,
        "stated too far": 0.5,  # half of the difference
    }
    for part, tolerance in expected.items():
        variant = next(iter(values[part]))
        assert published.tolerance(part, variant) == pytest.approx(tolerance)


def test_smallest_difference():
    assert smallest_difference([3.0, 1.0, 1.0, 1.5]) == 0.5
    assert smallest_difference([2.0, 2.0]) == smallest_difference([]) == math.inf


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (0.0, Kind.SOLVED),
        (0.099, Kind.SOLVED),
        (0.1, Kind.PARTLY),
        (0.9, Kind.PARTLY),
        (0.901, Kind.AT_THE_FLOOR),
        (3.0, Kind.AT_THE_FLOOR),
        (math.nan, Kind.AT_THE_FLOOR),
    ],
)
def test_kinds(loss, expected):
    assert kind(loss, floor=1.0) is expected


def test_kinds_scale_with_the_floor():
    floor = 10 * math.log(8) / 1020  # of copying with T = 1000
    assert str(kind(0.0197, floor)) == "at the floor"
    assert str(kind(3.5e-5, floor)) == "solved"


@pytest.mark.parametrize(
    ("published", "losses", "verdict"),
    [
        (5.3e-5, [4e-4, 1e-3, 2e-4], Verdict.IN_KIND),  # all solved, though eight times as large
        (0.164, [0.17, 0.18, 0.165], Verdict.IN_KIND),
        (0.164, [0.1, 1e-4, 0.1], Verdict.BETTER),
        (5.3e-5, [0.1, 0.17, 0.17], Verdict.WORSE),
        (0.1, [0.17, 0.17, math.nan], Verdict.WORSE),
        # One seed of three fails, which a mean may hide: here it is solved.
        (5.3e-5, [1e-5, 1e-5, 0.04], Verdict.UNDECIDED),
        (0.1, [0.17, 0.1, 1e-4], Verdict.UNDECIDED),
        (5.3e-5, [4e-4, 1e-3], Verdict.TOO_FEW),
    ],
)
def test_values_with_a_floor_are_compared_in_kind_by_every_replicate(published, losses, verdict):
    assert judge_in_kind(published, losses, floor=0.1767) is verdict


def test_a_mistyped_field_of_published_is_named():
    fields = {"source": "a paper", "measure": "nats", "floor": {"": 1.0}}
    with pytest.raises(UserError, match=r'bai: PUBLISHED has no field "floor".*"floors"'):
        Published.from_dict("bai", fields)
    with pytest.raises(UserError, match="bai: PUBLISHED needs a source and a measure"):
        Published.from_dict("bai", {"source": "a paper"})
