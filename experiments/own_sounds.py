r"""Your own sounds: GRU against LSTM at equal parameters, on any data set you have prepared.

  python -m gru_audio.prepare folder --name my_sounds --folder DIR
  python -m gru_audio.sweep --config experiments/own_sounds.py:environment \
      --workdir runs/my_sounds --config.data.name=my_sounds

Parts: speech, environment (also machines and animals) and music. Copy this file for a new
experiment. The number of updates follows from the size of the data set; a run ends early when its
validation loss no longer falls. Recordings of more than a minute need `data.crop_seconds`.
"""

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

CONVOLUTIONS = {
    "model.name": "crnn",
    "model.conv": ("16 5x5 stride 2x2", "32 3x3 stride 2x2", "48 3x3 stride 2x2"),
    "model.hidden": 64,
    "model.bidirectional": True,
    "frontend.mels": 64,
    "frontend.window_ms": 40.0,
    "frontend.hop_ms": 20.0,
    "augment.mixup": 0.2,
}
PARTS = {
    "speech": {
        **{"model.hidden": 128, "model.pooling": "max", "augment.frequency_warp": 0.1},
        **{"augment.time_shift_ms": 50.0, "augment.time_mask_ms": 80.0},
        **{"augment.frequency_masks": 1, "augment.frequency_mask_bands": 6.0},
    },
    "environment": {
        **CONVOLUTIONS,
        **{"model.pooling": "attention", "augment.time_shift_ms": 500.0},
        **{"augment.time_mask_ms": 400.0},
        **{"augment.frequency_masks": 2, "augment.frequency_mask_bands": 10.0},
    },
    "music": {**CONVOLUTIONS, "model.pooling": "mean", "augment.time_mask_ms": 400.0},
}


def get_config(part="environment"):
    config = default_config()
    config.data.name = "my_sounds"
    config.data.target = "label"
    config.model.dropout = 0.3
    config.augment.speed = 0.1
    config.augment.gain_db = 6.0
    config.augment.time_masks = 2
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "constant"
    config.train.batch_size = 16
    config.train.epochs = 100
    config.train.ema_decay = 0.99
    config.train.eval_every = 50
    config.train.patience = 20
    return override(config, choose("part", part, PARTS))


def get_sweep(config):
    variants = {"GRU": {"model.cell": "gru"}, "LSTM": {"model.cell": "lstm"}}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU", counting="recurrent"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
