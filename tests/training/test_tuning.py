"""The choice of implementations by measuring, with interpreted kernels and planted candidates."""

import dataclasses
import functools
import json
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from gru_audio.nn.kernels import choice
from gru_audio.nn.kernels.choice import LOOP, RUNS, Choice, Problem, candidates
from gru_audio.nn.kernels.measuring import measure
from gru_audio.training import compilation, tuning
from gru_audio.training.tuning import Tuning
from tests.tones import assert_same, fresh, make_loader, tiny
from tests.training.outcome import Outcome

PROBLEM = Problem("rnn", 4, 3, "float32", True, False)
SMALL = Problem("rnn", 2, 3, "float32", False, False)
KERNEL = Choice("pallas_gpu", {"interpret": True})
SLOW, WRONG, WRONG_GRADIENT, BROKEN = map(Choice, ("slow", "wrong", "wrong gradient", "broken"))


def slow(*arguments):
    """The loop, after a wait of 50 ms."""
    cell, params, (first, *others), *rest = arguments

    def wait(a):
        time.sleep(0.05)
        return np.zeros_like(a)

    zeros = jax.pure_callback(wait, first, jax.lax.stop_gradient(first))
    return LOOP.run(cell, params, (first + zeros, *others), *rest)


def wrong(*arguments):
    outputs, carry = LOOP.run(*arguments)
    return 1.1 * outputs, carry


def wrong_gradient(*arguments):
    """Right values, and gradients of the outputs that are too large."""
    outputs, carry = LOOP.run(*arguments)
    return outputs + 0.1 * (outputs - jax.lax.stop_gradient(outputs)), carry


def broken(*arguments):
    raise RuntimeError("the compiler gave up\nwith many lines")


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    for one in (slow, wrong, wrong_gradient, broken):
        monkeypatch.setitem(RUNS, one.__name__.replace("_", " "), lambda one=one: one)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache of measurements."""
    monkeypatch.setattr(compilation, "folder", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache" / "recurrences"


def tuning_of(*tried, say=print):
    return Tuning(say, lambda problem, members, platform: [LOOP, *tried], ("cpu",))


def tuned(loader, tuning):
    """A loader like this one that measures its recurrences."""
    return dataclasses.replace(
        loader, placement=dataclasses.replace(loader.placement, tuning=tuning)
    )


@pytest.mark.parametrize("members", [1, 2])
def test_wrong_candidates_are_left_out(members):
    tried = [LOOP, WRONG, WRONG_GRADIENT, BROKEN, KERNEL]
    rows = measure(PROBLEM, 5, members, tried, {}, 0.0)
    found = {Choice(**row["choice"]).implementation: row for row in rows}
    assert {name for name, row in found.items() if "us" in row} == {"loop", "pallas_gpu"}
    assert found["loop"]["error"] < 1e-5 and found["pallas_gpu"]["error"] < 1e-5
    assert found["wrong"]["error"] == pytest.approx(0.1, rel=0.1)
    assert "differs by" in found["wrong gradient"]["failed"]
    assert found["broken"]["failed"] == "RuntimeError: the compiler gave up"
    assert [row["us"] for row in rows[:2]] == sorted(row["us"] for row in rows[:2])


@pytest.mark.parametrize("cell", ["lstm_peephole", "min_lstm"])
def test_other_cells_reversed_and_in_bfloat16(cell):
    problem = Problem(cell, 4, 3, "bfloat16", False, True)
    others = [Choice("associative")] if cell == "min_lstm" else []
    rows = measure(problem, 4, 1, [LOOP, KERNEL, *others], {}, 0.0)
    assert all("us" in row and row["error"] < 5e-2 for row in rows)


def test_the_slow_one_is_not_chosen():
    rows = measure(PROBLEM, 5, 1, [SLOW, LOOP], {}, 0.0)
    assert [row["choice"]["implementation"] for row in rows] == ["loop", "slow"]
    assert rows[1]["us"] > 50_000


def test_without_the_loop_nothing_is_chosen(monkeypatch):
    monkeypatch.setitem(RUNS, "loop", lambda: broken)
    lines = []
    assert noted(tuning_of(BROKEN, say=lines.append), members=2) is None
    assert lines[-1].endswith("1 members could not be measured: the compiler gave up")


@pytest.fixture(scope="module")
def configs():
    return [tiny({"seed": seed, "train.batch_size": 8}) for seed in range(2)]


def test_a_program_has_the_choices_of_its_recurrences(source, configs, monkeypatch):
    """The kernel is in the program of training and not in that of scoring."""
    lines = []
    monkeypatch.setattr(tuning, "measure", functools.partial(first_fastest, [KERNEL]))
    one = tuning_of(KERNEL, BROKEN, say=lines.append)
    plain = make_loader(source, configs)
    loader = tuned(plain, one)
    state, metrics = loader.train(fresh(loader, configs), np.ones(2, bool), 0, 3)
    (record,) = one.records()
    assert Choice(**record["choice"]) == KERNEL
    assert (
        record["problem"]["batch"] == 8 and record["problem"]["hidden"] == configs[0].model.hidden
    )
    assert any("without broken: RuntimeError" in line for line in lines)
    assert "pallas_gpu, interpret=True is the fastest" in lines[-1]
    _, expected = plain.train(fresh(plain, configs), np.ones(2, bool), 0, 3)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-4)
    assert not (metrics["loss"] == expected["loss"]).all(), "the kernel rounds otherwise"
    scores = loader.score(state.weights, state.normalisation, "validation")
    assert_same(scores, plain.score(state.weights, state.normalisation, "validation"))


def first_fastest(order, *arguments):
    """Measures, and then puts some choices first, because speeds of interpreters say nothing."""
    rows = measure(*arguments, seconds=0.0)
    names = [choice.to_json() for choice in order]
    return sorted(rows, key=lambda row: row["choice"] not in names)


def test_on_a_cpu_nothing_is_measured(source, configs):
    loader = tuned(make_loader(source, configs), Tuning(pytest.fail))
    _, metrics = loader.train(fresh(loader, configs), np.ones(2, bool), 0, 2)
    assert loader.placement.tuning.records() == []
    plain = make_loader(source, configs)
    assert_same(metrics, plain.train(fresh(plain, configs), np.ones(2, bool), 0, 2)[1])


def noted(tuning, problem=SMALL, frames=4, members=2):
    """Measures one recurrence."""

    def trace():
        asked = choice._chooser.get()
        for count in (frames - 2, frames):
            asked(problem, count)

    tuning.measure(trace, members, {})
    return tuning.choice(problem, frames)


def test_a_measurement_is_cached(cache):
    lines = []
    first = noted(tuning_of(BROKEN, say=lines.append))
    assert "measuring 2 ways" in lines[0] and len(list(cache.iterdir())) == 1
    lines.clear()
    assert noted(tuning_of(BROKEN, say=lines.append)) == first
    assert len(lines) == 1 and "fastest" in lines[0]
    noted(tuning_of(BROKEN), frames=5)
    noted(tuning_of(BROKEN), members=1)
    noted(tuning_of(WRONG))
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("damage", ["", "[{", "[]", '{"us": 1}', '[{"choice": {"a": 1}}]', "[1]"])
def test_a_damaged_entry_is_measured_again(cache, damage):
    noted(tuning_of(BROKEN))
    (entry,) = cache.iterdir()
    entry.write_text(damage)
    lines = []
    noted(tuning_of(BROKEN, say=lines.append))
    assert "measuring" in lines[0]
    assert len(json.loads(entry.read_text())) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(compilation, "folder", lambda: str(tmp_path / "file"))
    assert noted(tuning_of())
    monkeypatch.setattr(compilation, "folder", lambda: None)
    assert noted(tuning_of())


def test_choices_are_restored_on_the_same_kind_of_device_only():
    one = tuning_of(BROKEN)
    noted(one)
    records = json.loads(json.dumps(one.records()))
    other = Tuning(pytest.fail, candidates, ("cpu",))
    other.restore(records)
    assert noted(other) == one.choice(SMALL, 4)
    other = Tuning(print)
    other.restore([record | {"device": "another"} for record in records])
    assert other.records() == []


def test_a_resumed_group_takes_the_stored_choice(source, tmp_path, monkeypatch, cache):
    """Even if the cache is gone and the kernel would not be chosen now."""
    monkeypatch.setattr(tuning, "measure", functools.partial(first_fastest, [KERNEL]))
    made = functools.partial(tuning_of, KERNEL)
    monkeypatch.setattr("tests.training.outcome.make_loader", tuned_loader(made))
    short, long = {"train.steps": 10}, {"train.steps": 20}
    common = {"train.eval_every": 10, "optimizer.schedule": "constant"}
    whole = Outcome(source, tmp_path / "whole", long, **common)
    first = Outcome(source, tmp_path / "parts", short, **common)
    assert Choice(**first.memory.recurrences[0]["choice"]) == KERNEL
    for entry in cache.iterdir():
        entry.unlink()
    monkeypatch.setattr(tuning, "measure", lambda *_: pytest.fail("it measured"))
    second = Outcome(source, tmp_path / "parts", long, **common)
    assert_same(second.state, whole.state)
    assert second.memory.recurrences == first.memory.recurrences


def tuned_loader(make):
    return lambda source, configs: tuned(make_loader(source, configs), make())


def test_candidates_suit_the_problem(monkeypatch):
    monkeypatch.setattr(choice.gpu, "shared_memory", lambda capability=None: 227 * 1024)
    gru, lstm = (Problem(cell, 32, 128, "float32", True, False) for cell in ("gru", "lstm"))
    assert candidates(gru, 1, "gpu")[0] == LOOP
    found = [str(each) for each in candidates(gru, 1, "gpu")]
    assert "pallas_gpu, rows=8, warps=8, stages=3, resident=True" in found
    assert any("command_buffer" in each for each in found)
    assert "cudnn" in map(str, candidates(lstm, 1, "gpu"))
    assert "cudnn" not in map(str, candidates(lstm, 2, "gpu"))
    assert "cudnn" not in found
    small = dataclasses.replace(gru, batch=8)
    assert not any("rows=16" in str(each) for each in candidates(small, 1, "gpu"))
    wide = dataclasses.replace(gru, hidden=512)
    assert {each.implementation for each in candidates(wide, 1, "gpu")} == {"loop"}
    linear = Problem("min_gru", 32, 128, "float32", True, False)
    assert {e.implementation for e in candidates(linear, 1, "tpu")} == {
        "loop",
        "associative",
        "pallas_tpu",
    }


SCRIPT = """
import json, sys
import jax
rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=rank)
from gru_audio.nn.kernels.choice import LOOP, Choice
from gru_audio.training import compilation, tuning
from tests.training import test_tuning as tests
compilation.folder = lambda: None
if rank:
    tuning.measure = None  # only process 0 measures
one = tests.tuning_of(tests.BROKEN)
tests.noted(one)
print(json.dumps(one.records()))
"""


def test_two_processes_agree(environment, tmp_path):
    with socket.socket() as free_port:
        free_port.bind(("localhost", 0))
        port = str(free_port.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), port, str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        texts = [process.communicate(timeout=300)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    first, second = (json.loads(text.splitlines()[-1]) for text in texts)
    assert first == second and first[0]["choice"]
