"""Speech to text on AN4."""

from gru_audio.config import default_config
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "an4_mfcc"
    config.data.target = "text"
    config.data.buckets = 3
    config.task.name = "ctc"
    config.frontend.name = "frames"
    config.frontend.deltas = 2
    config.frontend.stack = 4
    config.model.layers = 2
    config.model.hidden = 128
    config.model.bidirectional = True
    config.model.dropout = 0.3
    config.augment.time_masks = 2
    config.augment.time_mask_ms = 200.0
    config.optimizer.learning_rate = 3e-3
    config.train.batch_size = 32
    config.train.steps = 1200
    config.train.eval_every = 100
    config.train.select = "validation/cer"
    return config


def get_sweep(config):
    return Sweep(variants={"GRU": {}}, replicates=[{"seed": 0}])
