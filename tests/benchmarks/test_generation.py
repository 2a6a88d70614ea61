"""The benchmark of sounds drawn sample by sample."""

import pytest

from benchmarks import generation
from tests.benchmarks.test_benchmarks import QUICK, rows_of


def test_generation(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(generation, "MODELS", {generation.GRU: generation.MODELS[generation.GRU]})
    ours, theirs = rows_of(generation.measure(QUICK, sounds=(2,), samples=64))
    assert [ours["contestant"], theirs["contestant"]] == [generation.GRU, generation.PYTORCH]
    assert theirs["error"] < 1e-4
    assert ours["real_time"] > 0
    assert ours["speed"][generation.PYTORCH]["median"] > 0
