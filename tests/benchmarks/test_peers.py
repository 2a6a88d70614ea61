"""What a sweep is compared with: PyTorch as fast as it can be had."""

import numpy as np
import pytest

from benchmarks.setting import make_setting
from benchmarks.sweep import compared
from gru_audio.data.source import open_source
from tests.tones import NAME, tiny


def test_the_faster_of_the_peers_counts():
    """By hand: four runs in 8 ms together, one in 3 ms alone; 4 x 5 / 8 beside the faster peer."""
    peers = {"packed": np.array([6.0, 6.0]), "padded": np.array([5.0, 5.0])}
    row = compared(4, np.array([8.0, 8.0]), np.array([3.0, 3.0]), peers)
    assert row["times_as_fast"]["median"] == 1.5
    assert row["peer"] == "padded"
    assert row["times_as_fast_as_peer"]["median"] == 2.5
    assert "peer" not in compared(4, np.array([8.0]), np.array([3.0]), {})


def test_pytorch_takes_clips_packed_and_padded(data_dir):
    pytest.importorskip("torch")
    from benchmarks.step_pytorch import pytorch_turns

    config = tiny({"data.dir": str(data_dir), "model.recurrent_init": "uniform"})
    turns = pytorch_turns(make_setting(config, open_source(NAME, str(data_dir))), 1)
    assert turns.keys() == {"PyTorch, packed", "PyTorch, padded"}
    for turn in turns.values():
        turn(0)
