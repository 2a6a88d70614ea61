r"""Your own sounds: GRU against LSTM at equal parameters, on any data set you have prepared.

  python -m gru_audio.prepare folder --name my_sounds --folder DIR
  python -m gru_audio.sweep --config experiments/own_sounds.py --workdir runs/my_sounds \
      --config.data.name=my_sounds

Copy this file for a new experiment. Long recordings need `data.crop_seconds`; many classes need a
larger `model.hidden`.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "my_sounds"
    config.data.target = "label"
    config.model.hidden = 128
    config.model.pooling = "max"
    config.model.dropout = 0.2
    config.augment.time_shift_ms = 50.0
    config.augment.gain_db = 6.0
    config.optimizer.learning_rate = 2e-3
    config.train.steps = 2000
    return config


def get_sweep(config):
    variants = {"GRU": {"model.cell": "gru"}, "LSTM": {"model.cell": "lstm"}}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU", counting="recurrent"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
