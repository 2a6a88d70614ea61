"""Traces of training steps: what they contain, and that they change no result."""

import gzip
import json

import pytest

from gru_audio.sweeps.execute import execute
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.sweep import Sweep
from gru_audio.sweeps.workdir import Workdir
from gru_audio.training.profiling import Profiler
from tests.commands import assert_same_leavings, leavings
from tests.tones import tiny


def names_in(trace):
    """The names of all events."""
    with gzip.open(trace) as file:
        events = json.load(file)["traceEvents"]
    return {event.get("name", "") for event in events}


@pytest.mark.parametrize(
    ("loader", "program", "steps"),
    [("resident", "many_steps", "5 to 9"), ("streamed", "one_step", "2 to 6")],
)
def test_a_traced_run_has_the_same_results(data_dir, tmp_path, capfd, loader, program, steps):
    changes = {"train.steps": 14, "train.eval_every": 12, "data.loader": loader}
    config = tiny({"data.dir": str(data_dir)} | changes)
    for name, profile in (("whole", 0), ("traced", 5)):
        planned = plan(config, Sweep({"GRU": {}}), "tones", "", "")
        assert not execute(planned, Workdir(tmp_path / name), profile)
    said = capfd.readouterr().err
    assert_same_leavings(tmp_path / "traced", leavings(tmp_path / "whole"))
    assert not list((tmp_path / "whole").glob("groups/*/profile"))
    (trace,) = (tmp_path / "traced").glob("groups/*/profile/plugins/profile/*/*.trace.json.gz")
    assert f"trace of steps {steps} in {trace.parent}" in said and trace.name in said
    assert list(trace.parent.glob("*.xplane.pb"))
    names = names_in(trace)
    assert any(program in name for name in names)
    assert any("population.py" in name and name.endswith(" train") for name in names)


def test_a_short_window_is_traced_whole(tmp_path, monkeypatch):
    """Without JAX's part: which calls are traced."""
    monkeypatch.setattr("gru_audio.training.distributed.first", lambda: False)
    profiler = Profiler(tmp_path, 100, print)
    assert profiler.begin(0, 4, 20, 20) == 4 and not profiler.active  # not warm
    profiler.end(4, 20)
    assert profiler.begin(4, 20, 20, 20) == 20 and not profiler.active  # too little room
    profiler.end(20, 20)
    assert profiler.begin(20, 25, 40, 20) == 25 and profiler.active
    profiler.end(25, 40)
    assert profiler.active
    assert profiler.begin(25, 40, 40, 20) == 40
    profiler.end(40, 40)
    assert not profiler.active
    assert profiler.begin(40, 60, 60, 20) == 60 and not profiler.active  # once


def test_a_run_that_is_too_short_says_so(tmp_path):
    said = []
    profiler = Profiler(tmp_path, 5, said.append)
    profiler.begin(0, 4, 4, 20)
    profiler.end(4, 4)
    profiler.close()
    assert "no trace" in said[0]
