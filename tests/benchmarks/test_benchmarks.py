"""The benchmarks give all their numbers, and the numbers agree with one another. Not speeds."""

import io
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from benchmarks import (
    cells,
    convolution,
    frontend,
    kernels,
    memory,
    recurrence,
    scaling,
    step,
    sweep,
)
from benchmarks.recurrence_case import Case, error, make_problem
from benchmarks.recurrence_jax import ours
from benchmarks.timing import interleave, speed, spread
from gru_audio.rnn.kernels.gpu import PallasGpu
from tests.commands import run, write_experiment
from tests.tones import tiny


def test_contestants_take_turns():
    turns = []
    times = interleave({name: lambda i, n=name: turns.append((i, n)) for name in "abc"}, 0.0)
    rounds = [turns[i : i + 3] for i in range(0, len(turns), 3)]
    for number, taken in enumerate(rounds):
        assert {i for i, _ in taken} == {number}
        assert sorted(n for _, n in taken) == ["a", "b", "c"]
    assert len({taken[0][1] for taken in rounds}) == 3, "nobody is always the first"
    assert {len(values) for values in times.values()} == {len(rounds) - 1}


def test_spread_is_median_and_quartiles():
    assert spread(np.array([4.0, 0.0, 1.0, 3.0, 2.0])) == {"q1": 1.0, "median": 2.0, "q3": 3.0}


def test_speed_is_compared_round_by_round():
    """A machine that slows down for some rounds slows both, and changes nothing."""
    slowness = np.array([1.0, 1.0, 8.0, 2.0])
    assert speed(2 * slowness, 3 * slowness) == {"q1": 1.5, "median": 1.5, "q3": 1.5}


@pytest.fixture(scope="module")
def result(data_dir):
    config = tiny({"data.dir": str(data_dir), "data.buckets": 1})
    return step.measure(config, 0.0, larger={})  # one size: compiling a second tells nothing new


def check_spreads(tree):
    """Every median and quartile in a result is positive and in order."""
    if isinstance(tree, dict) and tree.keys() == {"q1", "median", "q3"}:
        assert 0 < tree["q1"] <= tree["median"] <= tree["q3"]
    elif isinstance(tree, dict | list):
        for leaf in tree.values() if isinstance(tree, dict) else tree:
            check_spreads(leaf)


def test_input(result):
    check_spreads(result)
    assert [row["size"] for row in result["input"]] == ["hidden 8, batch 8"]
    for row in result["input"]:
        assert len(row["padded_lengths"]) == 1
        assert row["rounds"] >= 8
        for kind in ("resident", "streamed"):
            assert row[f"{kind}_compile_seconds"] > 0
            assert row[f"{kind}_device_bytes"] > 0
        assert row["resident_device_bytes"] > row["streamed_device_bytes"]
        assert row["peak_host_bytes"] >= row["host_bytes_before"] > 0


def test_pytorch(result):
    pytest.importorskip("torch")
    rows = result["pytorch"]
    assert [(row["cell"], row["from"]) for row in rows] == [
        ("gru", "features"),
        ("gru", "sound"),
        ("lstm", "features"),
        ("lstm", "sound"),
    ]
    for row in rows:
        assert 0 <= row["loss_difference"] <= 1e-4
        others = [ms["median"] for name, ms in row["step_ms"].items() if name != "gru_audio"]
        assert row["step_ms"][row["peer"]]["median"] == min(others)
        assert 0 < row["mean_valid_frames"] <= row["frames"]


def test_what_is_shown(result):
    console = Console(record=True, width=140, file=io.StringIO())
    step.show(json.loads(json.dumps(result)), console)
    shown = console.export_text()
    for word in ("cores", "resident", "streamed", "constant, one a call", "steps/s", "jax"):
        assert word in shown


@pytest.mark.reliability  # for its length
def test_memory():
    size = {"seconds": 3, "model.hidden": 32, "train.batch_size": 8}
    config = tiny({"frontend.hop_ms": 10.0, "model.recurrent_init": "uniform"})
    ways = ["none", "rematerialised", memory.HALF]
    result = memory.measure(config, 0.0, run=size, counted=size, ways=ways)
    check_spreads(result)
    plain, rematerialised = result["rows"]  # no bfloat16 on a CPU
    assert rematerialised["run_bytes"] < plain["run_bytes"]
    console = Console(record=True, width=140, file=io.StringIO())
    memory.show(json.loads(json.dumps(result)), console)
    shown = console.export_text()
    for word in ("cores", "rematerialised", "model.remat_frames=100", "GiB", "time ratio"):
        assert word in shown


@pytest.mark.reliability  # for its length
def test_scaling(data_dir):
    """Where the devices are virtual, what counts is that the losses do not depend on them."""
    config = tiny({"data.dir": str(data_dir), "model.recurrent_init": "uniform"})
    result = scaling.measure(config, 0.0, most=2)
    check_spreads(result)
    (row,) = result["measured"]
    assert row["devices"] == 2
    assert 0 <= row["loss_difference"] < 1e-5
    console = Console(record=True, width=140, file=io.StringIO())
    scaling.show(json.loads(json.dumps(result)), console)
    shown = console.export_text()
    for word in ("share the cores", "losses differ", "NVLink", "chips"):
        assert word in shown


def test_sharing_a_batch_pays_until_the_fixed_part_or_the_reduction_outweighs_it():
    free, slow = scaling.Link(1e30, 0.0), scaling.Link(1e9, 0.0)
    assert scaling.efficiency(1, 1.0, 3.0, 10**9, slow) == 1
    assert scaling.efficiency(8, 0.0, 1.0, 10**9, free) == 1  # nothing fixed, nothing to reduce
    # Half of the time is fixed: on two devices (1 + 1) / (2 (1 + 1/2)).
    assert scaling.efficiency(2, 1.0, 1.0, 10**9, free) == pytest.approx(2 / 3)
    assert scaling.pays_to(1.0, 1.0, 10**9, free) == 2  # at four devices 2 / 5
    # A gigabyte over 1 GB/s between two: 2 (1/2) 1 s beside half a second of work.
    assert scaling.efficiency(2, 0.0, 1.0, 10**9, slow) == pytest.approx(1 / 3)
    assert scaling.pays_to(0.0, 1.0, 10**9, slow) == 1


@pytest.mark.reliability  # for its length
def test_sweep(data_dir):
    config = tiny({"data.dir": str(data_dir), "model.recurrent_init": "uniform"})
    result = sweep.measure(config, 0.0, sizes=[2])
    check_spreads(result)
    for rows in result["blocks"].values():
        alone, together, *peers = rows
        assert (alone["runs"], together["runs"], len(peers)) == (1, 2, len(rows) - 2)
        times, ratio = together["times_as_fast"]["median"], together["time_of_one"]["median"]
        assert times == pytest.approx(2 / ratio, rel=0.5)  # of medians, not quite each other's
        assert together["memory_bytes"] > 0
    console = Console(record=True, width=140, file=io.StringIO())
    sweep.show(json.loads(json.dumps(result)), console)
    shown = console.export_text()
    for word in ("times as fast", "alone", "2 together", "the experiment"):
        assert word in shown


@pytest.fixture(scope="module")
def layers():
    size = (4, 12, 6, 8)
    cases = [
        Case("gru", *size),
        Case("gru", *size, ragged=True),
        Case("min_gru", *size),
    ]
    return recurrence.measure(0.0, cases)


def test_recurrence(layers):
    check_spreads(layers["rows"])
    rows = {(r["cell"], r["ragged"], r["contestant"]): r for r in layers["rows"]}
    for cell, ragged, name in [
        *[("gru", ragged, n) for ragged in (False, True) for n in ("linen", "scan", "loop")],
        *[("min_gru", False, name) for name in ("scan", "loop", "associative")],
    ]:
        row = rows[cell, ragged, name]
        assert 0 < row["error"] < 1e-5
        assert row["compile_seconds"] > 0
        assert row["temporary_bytes"] > 0
        assert row["us_a_step"] == pytest.approx(row["both_ms"]["median"] * 1e3 / 12)
    assert rows["gru", False, "linen"]["speed"]["linen"]["median"] == 1
    assert {row["contestant"] for row in layers["means"]} >= {"linen", "scan", "loop"}


def test_recurrence_with_pytorch(layers):
    pytest.importorskip("torch")
    errors = [row["error"] for row in layers["rows"] if row["contestant"] == "PyTorch"]
    assert len(errors) == 2
    assert max(errors) < 1e-5
    (ours,) = [row for row in layers["means"] if row["contestant"] == "loop"]
    assert ours["speed"]["PyTorch"] > 0


def test_recurrence_over_two_devices():
    """In a process of its own, where the cores are devices."""
    ended = subprocess.run(
        [sys.executable, "-c", SHARED], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 1e-5


SHARED = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
from benchmarks.recurrence import _error
from benchmarks.recurrence_case import Case, make_problem
from benchmarks.recurrence_jax import shared
problem = make_problem(Case("gru", 4, 9, 5, 6, ragged=True))
print(_error(shared(problem, "auto"), problem.truth()))
"""


def test_a_contestant_that_fails_is_told_and_left_out():
    problem = make_problem(Case("lstm", 2, 3, 4, 5))
    ready, failed = recurrence.made({"loop": lambda: ours(problem, "loop"), "no": lambda: [][0]})
    assert list(ready) == ["loop"]
    assert failed == {"no": "list index out of range"}


def test_recurrence_is_shown_and_drawn(layers, tmp_path):
    console = Console(record=True, width=180, file=io.StringIO())
    recurrence.show(json.loads(json.dumps(layers)), console)
    shown = console.export_text()
    for word in ("cores", "loop", "associative", "us a step", "geometric mean", "memory / linen"):
        assert word in shown
    recurrence.plot(layers, str(tmp_path / "speed.svg"))
    assert "times as fast as linen" in (tmp_path / "speed.svg").read_text()


def test_checks_tell_right_from_wrong():
    """The yardstick of --check: float64 itself passes, a part in a thousand does not."""
    problem = make_problem(Case("gru", 3, 5, 4, 6))
    truth = problem.truth()
    assert error(truth, truth) == 0
    wrong = jax.tree.map(lambda a: a * 1.001, truth)
    assert error(wrong, truth) == pytest.approx(1e-3)
    assert recurrence.TOLERANCES["float32"] < 1e-3


def test_products_are_counted_by_the_cell():
    """By hand: 2 flops, forward once and backward twice; 5 x 7 frames of 3 features, 4 units."""
    frames = 3 * 2 * 5 * 7
    assert Case("gru", 5, 7, 3, 4).matmul_flops == frames * 3 * (3 + 4) * 4
    assert Case("lstm", 5, 7, 3, 4, bidirectional=True).matmul_flops == frames * 4 * 7 * 4 * 2
    assert Case("gru_reset_before", 5, 7, 3, 4).matmul_flops == frames * 3 * (3 + 4) * 4
    assert Case("min_gru", 5, 7, 3, 4).matmul_flops == frames * 2 * 3 * 4


def test_cells():
    result = cells.measure("", 0.0, sizes=[(2, 3, 4, 5)], cells=("lstm", "rnn"))
    check_spreads(result)
    rows = {row["cell"]: row for row in result["rows"]}
    assert rows.keys() == {"lstm", "rnn"}
    assert rows["lstm"]["speed"] == {"q1": 1.0, "median": 1.0, "q3": 1.0}
    assert all(row["temporary_bytes"] > 0 for row in rows.values())
    console = Console(file=io.StringIO(), width=120)
    cells.show(result, console)
    assert all(cell in console.file.getvalue() for cell in rows)


def test_convolution():
    result = convolution.measure("", 0.0, sizes=[(2, 12, 9)], blocks=["3 3x3 stride 2x2", "2 3x3"])
    check_spreads(result)
    assert [row["where"] for row in result["rows"]] == ["alone", "in a loop"]
    console = Console(file=io.StringIO(), width=120)
    convolution.show(result, console)
    assert "2 x 12 x 9" in console.file.getvalue()


def test_frontend():
    config = tiny({"frontend.mels": 20})
    result = frontend.measure(config, 0.0, clips=3)
    check_spreads(result)
    rows = {row["contestant"]: row for row in result["rows"]}
    assert rows.keys() >= {"ours, fft", "ours, matmul", "jax.scipy.signal.stft", "SciPy"}
    assert all(row["error"] < 1e-4 for row in rows.values())
    console = Console(record=True, width=140, file=io.StringIO())
    frontend.show(json.loads(json.dumps(result)), console)
    assert "ours, matmul" in console.export_text()


def test_kernels():
    """The loop against the kernel for GPUs in the interpreter, and one that cannot be."""
    tried = {"interpreted": PallasGpu(interpret=True), "on a CPU": PallasGpu()}
    result = kernels.measure(0.0, [Case("gru", 3, 5, 4, 6)], tried)
    check_spreads(result)
    rows = {row["setting"]: row for row in result["rows"]}
    assert rows["loop"]["ratio"]["median"] == 1
    assert rows["interpreted"]["us_a_step"]["median"] > 0
    assert "CPU" in rows["on a CPU"]["failed"]
    console = Console(record=True, width=160, file=io.StringIO())
    kernels.show(json.loads(json.dumps(result)), console)
    assert "interpreted" in console.export_text()


def test_kernels_need_an_accelerator(environment):
    ended = run(environment, "bench", "kernels", "--device=cpu", code=2)
    assert "nothing to set on a CPU" in ended.stderr
    assert len(kernels.settings("gpu")) == 12
    assert len(kernels.settings("tpu")) == 9


def test_a_device_that_is_not_there(environment):
    ended = run(environment, "bench", "recurrence", "--device=tpu", code=2)
    assert "There is no tpu here" in ended.stderr


def test_an_unknown_benchmark_is_refused(tmp_path, environment):
    experiment = write_experiment(tmp_path / "tones.py", "")
    ended = run(environment, "bench", "stepp", "--config", experiment, code=2)
    assert 'Did you mean "step"?' in ended.stderr
