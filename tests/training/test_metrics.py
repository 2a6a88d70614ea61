"""Metrics: running means, log segments, and their files."""

import json

import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.training.logging import LogSegments, RunningMeans, write_run_metrics

SERIES = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32)


def in_windows(calls):
    """Returns the records of `SERIES` for calls of these lengths."""
    windows, ended, start = RunningMeans(7, 2, ("loss",)), [], 0
    for count in calls:
        ended += windows.add(start, {"loss": SERIES[:, start : start + count]})
        start += count
    return [(step, means["loss"].tolist()) for step, means in ended]


def test_windows_are_means():
    ended = in_windows([40])
    assert [step for step, _ in ended] == [7, 14, 21, 28, 35]
    for step, means in ended:
        expected = SERIES[:, step - 7 : step].astype(np.float64).mean(axis=1)
        np.testing.assert_allclose(means, expected, rtol=1e-12)


@given(st.lists(st.integers(1, 12), max_size=12).filter(lambda calls: sum(calls) < 40))
def test_windows_do_not_depend_on_calls(calls):
    assert in_windows([*calls, 40 - sum(calls)]) == in_windows([40])


@pytest.mark.parametrize("kill", [1, 7, 10])
def test_windows_continue_from_a_checkpoint(kill):
    before = RunningMeans(7, 2, ("loss",))
    ended = before.add(0, {"loss": SERIES[:, :kill]})
    state = json.loads(json.dumps(before.state()))
    after = RunningMeans(7, 2, ("loss",))
    after.restore(state)
    ended += after.add(kill, {"loss": SERIES[:, kill:]})
    assert [(step, means["loss"].tolist()) for step, means in ended] == in_windows([40])


def records(start, stop):
    steps = range(start + 1, stop + 1)
    return [{"run": "a", "step": step, "train/loss": 1 / step} for step in steps]


def test_segments_are_read_in_order(tmp_path):
    segments = LogSegments(epath.Path(tmp_path), pytest.fail)
    for start, stop in ((90, 1200), (0, 90)):
        segments.write(start, stop, records(start, stop))
    assert list(LogSegments(epath.Path(tmp_path), pytest.fail).records()) == records(0, 1200)


def test_rewinding_drops_what_is_past_a_checkpoint(tmp_path):
    segments = LogSegments(epath.Path(tmp_path / "metrics"), pytest.fail)
    segments.rewind(0)  # nothing yet
    for start, stop in ((0, 10), (10, 20), (20, 30)):
        segments.write(start, stop, records(start, stop))
    segments.rewind(20)
    assert list(segments.records()) == records(0, 20)
    segments.write(20, 25, records(20, 25))
    assert list(segments.records()) == records(0, 25)
    segments.rewind(0)
    assert not list(segments.records())


@pytest.fixture
def three(tmp_path):
    """Returns three log segments, their files, and the messages."""
    messages: list[str] = []
    segments = LogSegments(epath.Path(tmp_path), messages.append)
    for start, stop in ((0, 10), (10, 20), (20, 30)):
        segments.write(start, stop, records(start, stop))
    return segments, sorted(tmp_path.iterdir()), messages


def damages(content):
    """Yields damaged versions of a file: truncated, empty, with a flipped bit, without a line."""
    yield from (content[:-1], content[: len(content) // 2], b"", b"\xff" * 9)
    for at in range(0, len(content), 7):
        yield content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
    lines = content.splitlines(keepends=True)
    yield b"".join(lines[:3] + lines[4:])


def test_a_damaged_segment_is_detected_and_skipped(three):
    segments, files, messages = three
    content = files[1].read_bytes()
    for damaged in damages(content):
        files[1].write_bytes(damaged)
        if damaged == content[:-1]:  # the last line feed carries no information
            assert segments.whole_until() == 30
            continue
        assert segments.whole_until() == 10
        assert list(segments.records()) == records(0, 10) + records(20, 30)
    segments.rewind(30)
    segments.rewind(10)  # an earlier checkpoint allows this
    start = "the metrics of steps 11 to 20 are damaged and "
    assert messages == [f"{start}lost", f"{start}computed again"]
    segments.write(10, 30, records(10, 30))
    assert list(segments.records()) == records(0, 30)
    assert segments.whole_until() == 30


def test_a_missing_segment_is_detected(three):
    segments, files, _ = three
    files[0].unlink()
    assert segments.whole_until() == 0
    files[2].unlink()
    assert segments.whole_until() == 0


def test_whole_segments_reach_to_the_last(three):
    assert three[0].whole_until() == 30
    three[0].write(30, 30, [])  # a second save of the same step
    assert three[0].whole_until() == 30


def test_what_is_not_finite_is_null(tmp_path):
    segments = LogSegments(epath.Path(tmp_path), pytest.fail)
    segments.write(0, 1, [{"run": "a", "step": 1, "train/loss": float("nan")}])
    text = next(tmp_path.glob("*.jsonl")).read_text()
    record = json.loads(text.splitlines()[0], parse_constant=pytest.fail)
    assert record == {"run": "a", "step": 1, "train/loss": None}


def test_a_run_can_be_read_by_people(tmp_path):
    run = [
        {"run": "a", "step": 50, "train/loss": 2.5, "seconds": 1.0},
        {"run": "a", "step": 150, "train/loss": None, "seconds": 4.0},
    ]
    for _ in range(2):  # the second replaces the first
        write_run_metrics(epath.Path(tmp_path), run)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) | {"run": "a"} for line in lines] == run
