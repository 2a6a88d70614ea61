"""Training on 64 clips of one minute fits into 8 GiB."""

import pytest

from tests.training.one_device import compiled_step, memory

GIB = 2**30
MINUTE = {
    "frontend.hop_ms": 10.0,
    "frontend.mels": 40,
    "model.cell": "gru",
    "model.hidden": 512,
    "optimizer.name": "adam",
    "optimizer.clip_norm": 1.0,
    "train.batch_size": 64,
}
FRAMES = 6000


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_with_rematerialisation(sample_rate):
    """Compiles a step from int16 samples without running it."""
    step = compiled_step(MINUTE | {"model.remat_frames": 100}, FRAMES, sample_rate)
    assert memory(step) < 2 * GIB


def test_without_rematerialisation_memory_is_several_times_larger():
    assert memory(compiled_step(MINUTE, FRAMES)) > 5 * GIB
