"""The first minutes on a chip: limits, results as they come, continuing, and the page."""

import json
import sys
import time
from html.parser import HTMLParser

import pytest

from benchmarks import accelerator, accelerator_page
from benchmarks.accelerator import PARTS, Part, run
from benchmarks.harness import Contestant, compete_in_turn
from gru_audio.settings import UserError

HOST = {
    "processor": "a",
    "cores": 2,
    "platform": "cpu",
    "device": "chip",
    "devices": 1,
    "python": "3.12",
    "versions": {"jax": "1"},
}
CHILD = """
import json, sys, time
from pathlib import Path
file, host, rows = Path(sys.argv[1]), json.loads(sys.argv[2]), []
for row in range(int(sys.argv[3])):
    rows.append({"table": "t", "contestant": f"c{row}"})
    file.write_text(json.dumps({"host": host, "rows": rows}))
time.sleep(float(sys.argv[4]))
sys.exit(int(sys.argv[5]))
"""


def children(host=HOST, **of_parts):
    """Commands of children that write rows, then wait, then exit with a code."""
    calls = []

    def command(part, file, seconds):
        calls.append(part.name)
        words = map(str, of_parts[part.name])
        return [sys.executable, "-S", "-c", CHILD, str(file), json.dumps(host), *words]

    command.calls = calls
    return command


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(accelerator, "_POLL", 0.05)


def states(result):
    return {name: part["state"] for name, part in result["parts"].items()}


def test_a_part_that_hangs_costs_its_limit_only(tmp_path):
    """Its results so far are kept, and a second call continues with what is missing."""
    file = tmp_path / "r.json"
    parts = [Part("quick", 4), Part("hangs", 4), Part("fails", 4), Part("long", 1e4)]
    command = children(quick=(2, 0, 0), hangs=(1, 1e3, 0), fails=(0, 0, 3))
    began = time.monotonic()
    result = run(0.5, str(file), command, parts)
    assert time.monotonic() - began < 25
    assert states(result) == {"quick": "done", "hangs": "stopped after 6 s", "fails": "failed"}
    assert [len(result["parts"][name]["rows"]) for name in ("quick", "hangs")] == [2, 1]
    assert json.loads(file.read_text()) == result
    assert command.calls == ["quick", "hangs", "fails"]
    assert "long: missing" in file.with_suffix(".html").read_text()
    again = children(hangs=(2, 0, 0), fails=(1, 0, 0))
    result = run(0.5, str(file), again, parts)
    assert set(states(result).values()) == {"done"} and again.calls == ["hangs", "fails"]


def test_another_device_is_refused(tmp_path):
    file = str(tmp_path / "r.json")
    run(0.5, file, children(a=(1, 0, 0)), [Part("a", 5)])
    before = (tmp_path / "r.json").read_text()
    other = children(HOST | {"versions": {"jax": "2"}}, b=(1, 0.3, 0))
    with pytest.raises(UserError, match=r"versions.*give another --json"):
        run(0.5, file, other, [Part("b", 5)])
    assert (tmp_path / "r.json").read_text() == before


@pytest.mark.parametrize("text", ["", "[]", '{"parts": 3}'])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UserError, match="no results of this command"):
        run(0.5, str(tmp_path / "r.json"), children(), [])


def test_rows_come_one_by_one_and_late_ones_are_left_out():
    def late():
        time.sleep(0.5)
        return Contestant(lambda _: None)

    makers = {
        "late": late,
        "peer": lambda: Contestant(lambda _: time.sleep(0.002)),
        "none": lambda: [][0],
        "ours": lambda: Contestant(lambda _: time.sleep(0.001), work=3.0),
    }
    rows = compete_in_turn(makers, 0.0, ["peer"], patience=0.2)
    first, second, *others = rows
    assert first["contestant"] == "peer" and first["speed"]["peer"]["median"] == 1
    assert second["contestant"] == "ours" and second["speed"]["peer"]["median"] > 3
    assert [row["failed"] for row in others] == ["list index out of range", "not compiled in 0.2 s"]


def row(contestant, case, linen, cudnn):
    speed = {"linen": linen, "PyTorch": cudnn}
    spread = {peer: dict.fromkeys(("q1", "median", "q3"), value) for peer, value in speed.items()}
    return {"table": "gru", "contestant": contestant, "case": case, "speed": spread}


def verdicts(rows):
    return [target["verdict"] for target in accelerator_page.targets(rows)]


def test_targets_are_met_or_missed():
    """The fastest of ours counts at each size; 4 and 2.25 have the geometric mean 3."""
    assert verdicts([]) == ["not measured"] * 4
    rows = [
        row("loop", "small", 1.0, 0.2),
        row("pallas_gpu", "small", 4.0, 0.8),
        row("loop", "large", 2.26, 0.9),
        row("linen", "large", 9.0, 9.0),
        {"table": "t", "contestant": "64 runs", "times_of_one": 5.9},
        {"table": "c", "contestant": "loop", "passed": True},
    ]
    assert verdicts(rows) == ["met", "missed", "met", "met"]
    rows[-2]["times_of_one"], rows[-1]["passed"] = 6.1, False
    assert verdicts(rows) == ["met", "missed", "missed", "missed"]


def test_the_page_is_whole_and_needs_nothing_else():
    rows = [
        row("<b>", "small & large", 1.0, 2.0),
        {"table": "gru", "contestant": "none", "failed": "why"},
    ]
    text = accelerator_page.page(
        {"host": HOST, "parts": {"a": {"state": "done", "rows": rows, "seconds": 3.0}}}, ["a", "b"]
    )
    HTMLParser().feed(text)
    assert "&lt;b&gt;" in text and "<b>" not in text.replace('<b class="', "")
    assert not any(word in text for word in ("http", "src=", "<script", "<link"))
    assert "a: done, 3 s" in text and "b: missing" in text
    assert "gru_audio on ? x ?" in accelerator_page.page({"host": None, "parts": {}}, [])


def test_every_part_is_known():
    from benchmarks import accelerator_parts

    kinds = {part.name.split()[0] for part in PARTS}
    assert kinds == set(accelerator_parts.KINDS)
    assert len({part.name for part in PARTS}) == len(PARTS)
