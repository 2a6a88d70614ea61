"""The plain config of every experiment, which can be written in PyTorch."""

import pytest

from benchmarks.experiment import plain
from gru_audio.config import check, flatten, override
from gru_audio.data.fields import ClassField
from gru_audio.data.signal import Signal
from gru_audio.nn.size import model_size
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.program import make_program
from tests.golden_configs import parts
from tests.tones import NOISE, tiny

PARTS = parts()
CLASSES = ("no", "yes", "perhaps")


def check_plain(config):
    """A GRU layer has three gates with d x h, h x h and h weights, and a second bias of h."""
    check(config)
    model = config.model
    d, h, outputs = config.frontend.mels, model.hidden, len(CLASSES)
    sizes = [3 * (inputs * h + h * h + h) + h for inputs in [d] + [h] * (model.layers - 1)]
    config = override(config, {"model.cell": "gru"})
    assert model_size(config.model, d, outputs) == sum(sizes) + h * outputs + outputs
    program = make_program(config, Signal(16000), ClassField(CLASSES))
    assert program.frontend.features == d
    numbers = ("learning_rate", "b1", "b2", "eps", "clip_norm")
    assert hyperparameters([config]).keys() == {"train.steps", *(f"optimizer.{n}" for n in numbers)}
    assert not program.time_masks and not program.frequency_masks
    assert config.train.grad_accumulation == 1 and config.train.tbptt_frames == 0
    assert model.compute_dtype == "float32"


@pytest.mark.parametrize("name", PARTS)
def test_every_experiment_can_be_made_plain(name):
    module, part = PARTS[name]
    config = module.get_config(*part)
    found = plain(config)
    check_plain(found)
    kept = ("model.hidden", "model.layers", "train.batch_size", "data.name")
    assert [flatten(found)[key] for key in kept] == [flatten(config)[key] for key in kept]
    assert found.frontend.mels == config.frontend.get("mels", found.frontend.mels)


def test_plain_removes_all_other_settings():
    """Settings that no experiment has, or not all at once."""
    ornate = {
        "frontend.name": "mfcc",
        "frontend.deltas": 2,
        "model.bidirectional": True,
        "model.projection": 4,
        "model.cell": "lstm",
        "model.dense": ("8 relu",),
        "model.pooling": "attention",
        "model.layer_norm": True,
        "model.compute_dtype": "bfloat16",
        "model.remat_frames": 10,
        "task.label_smoothing": 0.1,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 0.1,
        "optimizer.schedule": "cosine",
        "train.grad_accumulation": 4,
        "train.tbptt_frames": 20,
    }
    check_plain(plain(tiny({**NOISE, **ornate})))
