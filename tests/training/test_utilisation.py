"""Rates of a program, and the peaks that they are compared with."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from gru_audio.training import peaks
from gru_audio.training.cost import Cost
from gru_audio.training.loop_state import LoopState
from gru_audio.training.peaks import CHIPS, Peaks, chip_of, peaks_of, processor_peaks
from gru_audio.training.population import Population
from gru_audio.training.utilisation import Utilisation
from tests.tones import fresh, make_loader, tiny


@pytest.mark.parametrize(
    ("kind", "chip"),
    [
        ("TPU v4", "v4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v5p", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA L4", "l4"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", ""),
        ("cpu", ""),
    ],
)
def test_devices_are_known_by_the_names_that_jax_gives_them(kind, chip):
    assert chip_of(kind) == chip
    assert not chip or chip in CHIPS


def test_a_processor_is_measured_once_and_only_if_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(peaks, "_MEASURED_SECONDS", 0.01)
    monkeypatch.setattr(peaks, "_SIZE", 64)
    monkeypatch.setattr(peaks, "_COPIED", 2**12)
    assert processor_peaks() is peaks_of(jax.devices()) is None
    found = processor_peaks(measure=True)
    assert found.tflops > 0 and found.gbps > 0
    assert processor_peaks() == peaks_of(jax.devices()) == processor_peaks(measure=True) == found
    (file,) = (tmp_path / "gru_audio" / "peaks").iterdir()
    for damage in ("", "{}", "[1]"):
        file.write_text(damage)
        assert processor_peaks() is None
    file.write_text(json.dumps(dataclasses.asdict(found)))
    assert processor_peaks() == found


def test_rates_and_their_shares_of_the_peaks():
    rates = Utilisation.of(Cost(3e13, 7, 1e12), 10.0, Peaks(6, 1000))
    assert dataclasses.astuple(rates) == pytest.approx((3e12, 0.5, 1e11, 0.1))
    assert str(rates) == "3 TFLOP/s (50 %)"
    assert str(Utilisation.of(Cost(1.234e9), 1.0, None)) == "1.23 GFLOP/s"
    assert str(Utilisation.of(Cost(5e6), 1.0, None)) == "5 MFLOP/s"
    assert str(Utilisation.of(Cost(0.0), 1.0, None)) == "0 MFLOP/s"
    assert Utilisation.of(Cost(1.0), 0.0, Peaks(1, 1)) == Utilisation()
    assert str(Utilisation()) == ""


def test_the_rates_of_a_resumed_run_are_those_of_all_its_parts():
    state = LoopState.initial([True])
    assert state.utilisation(None) == Utilisation()
    state.add_steps(10, Cost(1e9, 5, 1e6), 2.0)
    resumed = LoopState(**json.loads(json.dumps(dataclasses.asdict(state))))
    resumed.add_steps(5, Cost(4e9, 5, 1e6), 1.0)
    rates = resumed.utilisation(Peaks(0.1, 1))
    assert rates.flops_per_second == pytest.approx(1e10)
    assert rates.mfu == pytest.approx(0.1)
    assert rates.bytes_per_second == pytest.approx(5e6)


@pytest.mark.parametrize("parallel", [{}, {"parallel.member": 3}, {"parallel.data": 2}])
def test_only_members_that_train_count_wherever_they_are(source, parallel):
    """The expected count is that of one run on one device."""

    def step_cost(alive, changes):
        configs = [tiny({"seed": seed} | changes) for seed in range(len(alive))]
        loader = make_loader(source, configs)
        population = Population(loader, fresh(loader, configs), gain=1.0)
        population.train(np.array(alive), 0, 1)
        return population.step_cost

    one = step_cost([True], {})
    found = step_cost([True, False, True], parallel)
    assert found.flops == pytest.approx(2 * one.flops, rel=1e-3)
    assert one.flops > 0 and one.bytes > 0
