"""Metrics of events, compared with sed_eval 0.2.1 and psds_eval 0.5.3, whose values are stored.

Both need packages that are no longer maintained, so they are not installed for the tests.
"""

import csv
import io
import tarfile

import numpy as np
import pytest

from gru_audio.events.decode import Events
from gru_audio.events.metrics import (
    GREEDY,
    OPTIMAL,
    Counts,
    Psds,
    Tolerance,
    active,
    event_counts,
    merged,
    segment_counts,
)
from tests import sounds
from tests.events.tables import CLASSES, of, random_pair


def summed(results: list[tuple[Counts, int]]) -> tuple[float, ...]:
    """F1, macro-F1, macro error rate, error rate, substitutions per reference."""
    counts = [count for count, _ in results]
    hits, reference, system = (sum(count[i] for count in counts) for i in range(3))
    units = reference.sum()
    f1 = 2 * hits.sum() / (units + system.sum())
    macro_f1 = np.mean(2 * hits / (reference + system))
    macro_error_rate = np.mean((reference + system - 2 * hits) / reference)
    errors = sum(error for _, error in results)
    substitutions = sum(count.substitutions for count in counts)
    return f1, macro_f1, macro_error_rate, errors / units, substitutions / units


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (
            1.0,
            (
                0.8678160919540231,
                0.8676929315015057,
                0.2656932732181125,
                0.2254335260115607,
                0.04046242774566474,
            ),
        ),
        (
            0.5,
            (
                0.8057553956834532,
                0.8055946055946056,
                0.3881639194139194,
                0.3309352517985612,
                0.05755395683453238,
            ),
        ),
    ],
)
def test_segments_are_counted_as_by_sed_eval(seconds, expected):
    pairs = [random_pair(seed) for seed in range(20)]
    found = summed([segment_counts(*pair, CLASSES, seconds) for pair in pairs])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        (
            Tolerance(0.2, 0.2, 0.5, GREEDY),
            (
                0.5152224824355972,
                0.5151149558534908,
                0.9912324864379659,
                0.8333333333333334,
                0.1523809523809524,
            ),
        ),
        (
            Tolerance(0.25, None, 0.5, GREEDY),
            (
                0.6604215456674473,
                0.6595514868296286,
                0.6902528977871443,
                0.5428571428571428,
                0.14761904761904762,
            ),
        ),
        (
            Tolerance(0.2, 0.2, 0.5, OPTIMAL),
            (
                0.5199063231850117,
                0.5196811658991528,
                0.9809760761815557,
                0.8238095238095238,
                0.1523809523809524,
            ),
        ),
        (
            Tolerance(0.25, None, 0.5, OPTIMAL),
            (
                0.674473067915691,
                0.6737795326240831,
                0.6614779690122156,
                0.5238095238095238,
                0.1380952380952381,
            ),
        ),
    ],
)
def test_events_are_matched_as_by_sed_eval(tolerance, expected):
    pairs = [random_pair(seed) for seed in range(20)]
    found = summed([event_counts(*pair, CLASSES, tolerance) for pair in pairs])
    # Several pairings may be optimal, and they may leave different substitutions.
    exact = 5 if tolerance.matching == GREEDY else 3
    np.testing.assert_allclose(found[:exact], expected[:exact], rtol=1e-12)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_optimal_matching_finds_a_pair_that_greedy_matching_takes_away():
    reference, system = of((1.0, 2, 0), (1.3, 2, 0)), of((1.15, 2, 0), (0.9, 2, 0))
    hits = [
        event_counts(reference, system, 1, Tolerance(0.2, None, matching=matching))[0].hits[0]
        for matching in (GREEDY, OPTIMAL)
    ]
    assert hits == [1, 2]


def test_errors_of_a_segment_by_hand():
    """Reference A, B, C and output A, D: one substitution and one deletion."""
    reference = of((0, 1, 0), (0.2, 0.5, 1), (0, 1, 2))
    counts, errors = segment_counts(reference, of((0, 1, 0), (0.1, 0.2, 3)), 4)
    assert (counts.hits.tolist(), counts.substitutions, errors) == ([1, 0, 0, 0], 1, 2)
    assert counts.reference.tolist() == [1, 1, 1, 0] and counts.system.tolist() == [1, 0, 0, 1]


def test_no_events():
    nothing = of()
    for counts, errors in (
        segment_counts(nothing, nothing, 2),
        event_counts(nothing, nothing, 2, Tolerance(matching=OPTIMAL)),
    ):
        assert errors == 0 and not counts.reference.any()
    assert event_counts(nothing, of((0, 1, 1)), 2, Tolerance())[1] == 1
    assert np.isnan(Psds().score(np.zeros((1, 2, 3)), np.zeros(2), np.zeros(2), 1.0))


def test_frames_of_events():
    """An event is active in the frames whose centres it contains."""
    events = of((0.1, 0.3, 0), (0.24, 0.26, 1), (0.3, 0.5, 0), (0.11, 0.12, 2))
    rows = active(events, 3, 6, 0.1)
    assert rows[:, 0].tolist() == [False, True, True, True, True, False]
    assert rows[:, 1].tolist() == [False, False, True, False, False, False]
    assert not rows[:, 2].any()
    np.testing.assert_array_equal(active(events, 3, 3, 0.1, 0.3), rows[3:])


def test_overlapping_events_are_merged_within_classes():
    found = merged(of((2, 3, 0), (0, 1, 0), (0.5, 1.5, 0), (0.6, 0.7, 0), (1, 2, 1), (3, 4, 0)))
    assert found.times.tolist() == [[0, 1.5], [2, 4], [1, 2]]
    assert found.classes.tolist() == [0, 0, 1]


def test_intersections_by_hand():
    reference = of((0, 2, 0), (4, 5, 1))
    # Covers half of the first event; lies in the second class; and in nothing.
    system = of((0, 1, 0), (4, 5, 0), (8, 9, 1))
    assert Psds().counts(reference, system, 2).tolist() == [[1, 1, 1], [0, 0, 1]]
    assert Psds(gtc=0.6).counts(reference, system, 2).tolist() == [[0, 1, 1], [0, 0, 1]]


def test_a_perfect_system_has_a_psds_of_one():
    reference = of((0, 1, 0), (2, 3, 1))
    counts = Psds().counts(reference, reference, 2)[None]
    assert Psds(alpha_ct=1, alpha_st=1).score(counts, np.ones(2), np.ones(2), 10) == 1


def test_psds_of_the_dcase_2019_baseline():
    """Values of psds_eval 0.5.3 for ten thresholds."""
    archive = sounds.archive("sed-metric-fixtures/sed-metric-fixtures.tar.gz")
    with tarfile.open(archive) as tar:
        folder = "sed-metric-fixtures/psds_eval"

        def table(name: str) -> list[dict[str, str]]:
            text = io.TextIOWrapper(tar.extractfile(f"{folder}/{name}.csv"))
            return list(csv.DictReader(text, delimiter="\t"))

        meta, annotations = table("dcase2019t4_meta"), table("dcase2019t4_gt")
        outputs = [table(f"baseline_{threshold / 10}") for threshold in range(1, 11)]
    names = sorted({row["event_label"] for row in annotations} - {""})

    def by_file(rows: list[dict[str, str]]) -> dict[str, Events]:
        files: dict[str, list] = {}
        for row in rows:
            if row["event_label"]:
                event = (float(row["onset"]), float(row["offset"]), names.index(row["event_label"]))
                files.setdefault(row["filename"], []).append(event)
        return {file: merged(of(*events)) for file, events in files.items()}

    reference = by_file(annotations)
    counts = np.array(
        [
            sum(
                Psds().counts(reference.get(file, of()), system, len(names))
                for file, system in by_file(rows).items()
            )
            + np.zeros((len(names), len(names) + 1))
            for rows in outputs
        ]
    )
    events = sum(np.bincount(each.classes, minlength=len(names)) for each in reference.values())
    seconds = sum(
        np.bincount(each.classes, np.diff(each.times)[:, 0], len(names))
        for each in reference.values()
    )
    total = sum({row["filename"]: float(row["duration"]) for row in meta}.values())
    assert events.sum() == 4224
    for costs, expected in (((0, 0), 0.40914), ((1, 0), 0.28129), ((0, 1), 0.24208)):
        psds = Psds(alpha_ct=costs[0], alpha_st=costs[1])
        assert psds.score(counts, events, seconds, total) == pytest.approx(expected, abs=5e-6)
