import math

import pytest

from gru_audio.reporting.published import (
    Kind,
    Verdict,
    judge,
    judge_in_kind,
    kind,
    name_with_part,
)


@pytest.mark.parametrize(
    ("published", "mean", "interval", "higher_is_better", "verdict"),
    [
        # Within the interval, however far from the mean.
        (8.54, 8.90, (8.50, 9.30), False, "reproduced"),
        (8.54, 8.54, (8.54, 8.54), False, "reproduced"),
        (8.50, 8.90, (8.50, 9.30), False, "reproduced"),
        # Within 2 % of the published value, on either side.
        (10.0, 10.2, (10.19, 10.21), False, "reproduced"),
        (10.0, 9.8, (9.79, 9.81), False, "reproduced"),
        # Beyond both: on the good side or on the bad one.
        (10.0, 9.79, (9.78, 9.80), False, "better"),
        (10.0, 10.21, (10.20, 10.22), False, "not reproduced"),
        (0.90, 0.95, (0.94, 0.96), True, "better"),
        (0.90, 0.85, (0.84, 0.86), True, "not reproduced"),
        # A run that diverged has reproduced nothing.
        (10.0, math.nan, (math.nan, math.nan), False, "not reproduced"),
        (0.9, math.nan, (math.nan, math.nan), True, "not reproduced"),
    ],
)
def test_the_rule(published, mean, interval, higher_is_better, verdict):
    assert judge(published, mean, interval, higher_is_better=higher_is_better) == verdict


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
    ("published", "mean", "verdict"),
    [
        (5.3e-5, 4e-4, Verdict.REPRODUCED),  # both solved, though eight times as large
        (0.164, 0.17, Verdict.REPRODUCED),
        (0.164, 0.1, Verdict.BETTER),
        (0.164, 1e-4, Verdict.BETTER),
        (5.3e-5, 0.1, Verdict.NOT_REPRODUCED),
        (5.3e-5, 0.17, Verdict.NOT_REPRODUCED),
        (0.1, 0.17, Verdict.NOT_REPRODUCED),
    ],
)
def test_values_with_a_floor_are_compared_in_kind(published, mean, verdict):
    assert judge_in_kind(published, mean, floor=0.1767) is verdict


def test_names():
    assert name_with_part("chung2014", "") == "chung2014"
    assert name_with_part("chung2014", "jsb_chorales") == "chung2014-jsb_chorales"
