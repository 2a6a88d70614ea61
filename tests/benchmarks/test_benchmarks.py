"""Benchmarks yield all their rows, with consistent values. Speeds are not tested."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from benchmarks import (
    cells,
    convolution,
    frontend,
    harness,
    input,
    kernels,
    memory,
    recurrence,
    scaling,
    streaming,
    sweep,
)
from benchmarks.experiment import make_setting, plain, source_of
from benchmarks.harness import Contestant, Options, compete, interleave, speed, spread
from benchmarks.layers import Case
from gru_audio.nn.kernels.gpu import PallasGpu
from gru_audio.settings import UserError
from tests.commands import run_module
from tests.tones import tiny

QUICK = Options(seconds=0.0)


def rows_of(rows):
    """Returns all rows of a benchmark after JSON, with a check of all spreads."""
    rows = json.loads(json.dumps(list(rows)))
    check_spreads(rows)
    return rows


def check_spreads(tree):
    if isinstance(tree, dict) and tree.keys() == {"q1", "median", "q3"}:
        assert 0 < tree["q1"] <= tree["median"] <= tree["q3"]
    elif isinstance(tree, dict | list):
        for leaf in tree.values() if isinstance(tree, dict) else tree:
            check_spreads(leaf)


def printed(rows):
    console = Console(record=True, width=200, file=io.StringIO())
    harness.show({"host": harness.host(), "rows": rows}, console)
    return console.export_text()


def test_streaming():
    rows = rows_of(streaming.measure(QUICK, streams=(1,)))
    assert all("failed" not in row for row in rows)
    names = [row["contestant"] for row in rows]
    assert names[:2] == ["ours, Stream.push of sound", "ours, from sound"]
    for row in rows:
        assert row["error"] < 1e-5
        assert 0 < row["median_ms"] <= row["p99_ms"]
    assert "real time" in printed(rows)


def test_contestants_take_turns():
    turns = []
    times = interleave({name: lambda i, n=name: turns.append((i, n)) for name in "abc"}, 0.0)
    rounds = [turns[i : i + 3] for i in range(0, len(turns), 3)]
    for number, taken in enumerate(rounds):
        assert {i for i, _ in taken} == {number}
        assert sorted(n for _, n in taken) == ["a", "b", "c"]
    assert len({taken[0][1] for taken in rounds}) == 3, "no contestant is always the first"
    assert {len(values) for values in times.values()} == {len(rounds) - 1}


def test_spread_is_median_and_quartiles():
    assert spread(np.array([4.0, 0.0, 1.0, 3.0, 2.0])) == {"q1": 1.0, "median": 2.0, "q3": 3.0}


def test_speed_is_compared_round_by_round():
    """If the machine is slow for some rounds, the ratio does not change."""
    slowness = np.array([1.0, 1.0, 8.0, 2.0])
    assert speed(2 * slowness, 3 * slowness) == {"q1": 1.5, "median": 1.5, "q3": 1.5}


def test_speed_is_work_per_time_against_the_fastest_form_of_a_peer(monkeypatch):
    """4 units of work in 8 s / 2 steps, against 5 s and 6 s for one step."""
    taken = {("ours", ""): 8.0, ("PyTorch, packed", ""): 6.0, ("PyTorch, padded", ""): 5.0}
    monkeypatch.setattr(
        harness, "interleave", lambda turns, seconds: {k: np.full(3, taken[k]) for k in turns}
    )
    makers = {name: lambda: Contestant(print) for name, _ in taken}
    makers["ours"] = lambda: Contestant(print, steps=2, work=4.0)
    makers["none"] = lambda: [][0]
    first, packed, padded, none = compete(makers, 0.0, ["PyTorch", "linen"])
    assert first["ms"]["median"] == 4000
    assert first["speed"] == {"PyTorch": {"q1": 5.0, "median": 5.0, "q3": 5.0}}
    assert (packed["speed"]["PyTorch"]["median"], padded["speed"]["PyTorch"]["median"]) == (
        5 / 6,
        1,
    )
    assert none == {"contestant": "none", "failed": "list index out of range"}
    assert harness.judged(first, {"PyTorch": 4.9})["bar"] == "met (4.9 / PyTorch)"
    assert harness.judged(first, {"PyTorch": 5.1})["bar"] == "MISSED (5.1 / PyTorch)"


def test_the_file_contains_all_rows_so_far(tmp_path):
    path = tmp_path / "result.json"

    def rows():
        yield {"table": "a", "contestant": "x"}
        assert len(json.loads(path.read_text())["rows"]) == 1
        yield {"table": "a", "contestant": "y"}

    result = harness.record("cells", "python -m benchmarks cells", rows(), str(path))
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    assert result["host"]["cores"] > 0 and "jax" in result["host"]["versions"]


def test_input(data_dir):
    config = tiny({"data.dir": str(data_dir)})  # one size only, to save compilation
    *steps, host = rows_of(input.measure(Options(0.0, config), larger={}))
    assert {row["case"] for row in steps} == {"hidden 8, batch 8"}
    found = {row["contestant"]: row for row in steps}
    for kind, peers in input.PEERS.items():
        assert found[kind]["compile_seconds"] > 0 and found[kind]["speed"].keys() == peers.keys()
    assert found["resident"]["device_bytes"] > found["streamed"]["device_bytes"] > 0
    assert len(host["padded_lengths"]) == 1
    assert host["peak_bytes"] >= host["before_bytes"] > 0
    text = printed([*steps, host])
    for word in ("cores", "resident", "streamed", "constant, one a call", "jax"):
        assert word in text


def test_a_step_has_the_loss_of_pytorch(data_dir):
    """Before the first update, with packed and with padded clips."""
    pytest.importorskip("torch")
    from benchmarks import step
    from benchmarks.pytorch import training_steps

    config = plain(tiny({"data.dir": str(data_dir), "data.buckets": 1}))
    setting = make_setting(config, source_of(config))
    stacked, state = setting.start()
    ours, _ = step.our_step(setting, state, (stacked,))
    losses = [ours(), *(step() for step in training_steps(setting).values())]
    assert len(losses) == 3
    assert max(losses) - min(losses) < step.SAME_LOSS


@pytest.mark.reliability  # for its length
def test_step(data_dir):
    pytest.importorskip("torch")
    from benchmarks import step

    rows = rows_of(
        step.measure(Options(0.0, tiny({"data.dir": str(data_dir)})), larger={}, cells=("gru",))
    )
    mine = [row for row in rows if row["contestant"] == step.OURS]
    assert len(mine) == 2 and len(rows) == 6  # two forms of PyTorch beside each of ours
    for row in mine:
        assert 0 <= row["loss_difference"] <= 1e-4
        assert 0 < row["mean_valid_frames"] <= row["frames"]


@pytest.mark.reliability  # for its length
def test_memory():
    size = {"seconds": 3, "model.hidden": 32, "train.batch_size": 8}
    config = tiny({"frontend.hop_ms": 10.0, "model.recurrent_init": "uniform"})
    ways = ["none", "rematerialised", memory.HALF]
    rows = rows_of(memory.measure(Options(0.0, config), run=size, counted=size, ways=ways))
    plain, rematerialised = rows  # no bfloat16 on a CPU
    assert rematerialised["memory_bytes"] < plain["memory_bytes"]
    text = printed(rows)
    assert "rematerialised" in text and "model.remat_frames=100" in text


@pytest.mark.reliability  # for its length
def test_scaling(data_dir):
    """On virtual devices, only the losses are meaningful."""
    config = tiny({"data.dir": str(data_dir), "model.recurrent_init": "uniform"})
    rows = rows_of(scaling.measure(Options(0.0, config), most=2))
    found = {row.get("contestant"): row for row in rows}
    assert 0 <= found["strong, 2 devices"]["loss_difference"] < 1e-5
    assert {"weak, 2 devices", "members, 2 devices"} <= found.keys()
    text = printed(rows)
    assert "NVLink" in text and "efficiency" in text


def test_sharing_a_batch_pays_until_the_fixed_part_or_the_reduction_outweighs_it():
    free, slow = scaling.Link(1e30, 0.0), scaling.Link(1e9, 0.0)
    assert scaling.efficiency(1, 1.0, 3.0, 10**9, slow) == 1
    assert scaling.efficiency(8, 0.0, 1.0, 10**9, free) == 1  # no fixed time, no reduction
    # Half of the time is fixed: on two devices (1 + 1) / (2 (1 + 1/2)).
    assert scaling.efficiency(2, 1.0, 1.0, 10**9, free) == pytest.approx(2 / 3)
    assert scaling.pays_to(1.0, 1.0, 10**9, free) == 2  # at four devices 2 / 5
    # A gigabyte over 1 GB/s between two: 2 (1/2) 1 s beside half a second of work.
    assert scaling.efficiency(2, 0.0, 1.0, 10**9, slow) == pytest.approx(1 / 3)
    assert scaling.pays_to(0.0, 1.0, 10**9, slow) == 1


@pytest.mark.reliability  # for its length
def test_sweep(data_dir):
    config = tiny({"data.dir": str(data_dir), "model.recurrent_init": "uniform"})
    rows = rows_of(sweep.measure(Options(0.0, config), sizes=[2]))
    groups = [row for row in rows if row["contestant"] == "2 together"]
    assert groups and all(row["memory_bytes"] > 0 for row in groups)
    for row in groups:
        speed = row["speed"]["alone"]["median"]
        assert row["time_of_one"]["median"] == pytest.approx(2 / speed)
    assert "2 together" in printed(rows)


@pytest.fixture(scope="module")
def layers():
    size = (4, 12, 6, 8)
    timed = [Case("gru", *size), Case("gru", *size, ragged=True), Case("min_gru", *size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")  # its compiler takes a minute
        patch.setitem(recurrence._PEAK_SIZE, "cpu", 128)
        return rows_of(recurrence.measure(QUICK, timed))


def test_recurrence(layers):
    found = {(r["table"], "ragged" in r["case"], r["contestant"]): r for r in layers if "case" in r}
    for cell, ragged, name in [
        *[("gru", ragged, n) for ragged in (False, True) for n in ("linen", "scan", "loop")],
        *[("min_gru", False, name) for name in ("scan", "loop", "associative")],
    ]:
        row = found[cell, ragged, name]
        assert 0 < row["error"] < 1e-5
        assert row["compile_seconds"] > 0
        assert row["temporary_bytes"] > 0
        assert row["us_a_step"] == pytest.approx(row["both_ms"]["median"] * 1e3 / 12)
    assert found["gru", False, "linen"]["speed"]["linen"]["median"] == 1
    means = [row for row in layers if "memory_of_linen" in row]
    assert {row["contestant"] for row in means} >= {"linen", "scan", "loop"}


def test_recurrence_with_pytorch(layers):
    pytest.importorskip("torch")
    errors = [
        row["error"] for row in layers if row.get("contestant") == "PyTorch" and "error" in row
    ]
    assert len(errors) == 2
    assert max(errors) < 1e-5


def test_recurrence_is_shown_and_drawn(layers, tmp_path):
    text = printed(layers)
    for word in ("cores", "loop", "associative", "us a step", "geometric mean", "memory of linen"):
        assert word in text
    harness.plot({"rows": layers}, str(tmp_path / "speed.svg"))
    assert "times as fast as linen" in (tmp_path / "speed.svg").read_text()


def test_products_are_counted_by_the_cell():
    """2 operations, once forward and twice backward; 5 x 7 frames, 3 features, 4 units."""
    frames = 3 * 2 * 5 * 7
    assert Case("gru", 5, 7, 3, 4).matmul_flops == frames * 3 * (3 + 4) * 4
    assert Case("lstm", 5, 7, 3, 4, bidirectional=True).matmul_flops == frames * 4 * 7 * 4 * 2
    assert Case("gru_reset_before", 5, 7, 3, 4).matmul_flops == frames * 3 * (3 + 4) * 4
    assert Case("min_gru", 5, 7, 3, 4).matmul_flops == frames * 2 * 3 * 4


def test_cells():
    rows = rows_of(cells.measure(QUICK, sizes=[(2, 3, 4, 5)], cells=("lstm", "rnn")))
    found = {row["contestant"]: row for row in rows}
    assert found.keys() == {"lstm", "rnn"}
    assert found["lstm"]["speed"]["lstm"] == {"q1": 1.0, "median": 1.0, "q3": 1.0}
    assert all(row["temporary_bytes"] > 0 for row in rows)


def test_convolution():
    blocks = ["3 3x3 stride 2x2", "2 3x3"]
    rows = rows_of(convolution.measure(QUICK, sizes=[(2, 12, 9)], blocks=blocks))
    assert {row["case"] for row in rows} == {"2 x 12 x 9, alone", "2 x 12 x 9, in a loop"}
    assert {row["contestant"] for row in rows} == {"ours", convolution.PEER}


def test_frontend():
    rows = rows_of(frontend.measure(Options(0.0, tiny({"frontend.mels": 20})), clips=3))
    found = {row["contestant"]: row for row in rows}
    assert found.keys() >= {"ours, fft", "ours, matmul", frontend.PEER, "SciPy"}
    assert all(row["error"] < 1e-4 for row in rows)


def test_kernels():
    """The loop, the interpreted GPU kernel, and a kernel that cannot run."""
    tried = {"interpreted": PallasGpu(interpret=True), "on a CPU": PallasGpu()}
    rows = rows_of(kernels.measure(QUICK, [Case("gru", 3, 5, 4, 6)], tried))
    found = {row["contestant"]: row for row in rows}
    assert found["loop"]["speed"]["loop"]["median"] == 1
    assert found["interpreted"]["us_a_step"] > 0
    assert "CPU" in found["on a CPU"]["failed"]
    assert len(kernels.settings("gpu")) == 12
    assert len(kernels.settings("tpu")) == 9


def test_a_wrong_command_says_what_to_type(environment):
    ended = run_module(environment, "benchmarks", "stepp", code=2)
    assert 'Did you mean "step"?' in ended.stderr


def test_kernels_need_an_accelerator():
    with pytest.raises(UserError, match="run on GPUs and TPUs only"):
        kernels.settings("cpu")
