"""Ten spoken words, tested on unseen voices: GRU against LSTM at equal parameters.

  make quickstart
  python -m gru_audio.sweep --config experiments/quickstart.py --workdir runs/quickstart

The experiment needs no download: eSpeak NG speaks the words (`prepare tts_digits`). Expect a test
accuracy of about 98 % for the GRU and 97 % for the LSTM, and no difference shown. On one machine,
three seeds gave 97.5 to 98.8 % and 96.0 to 97.5 %. Other machines give slightly other values, since
processors and versions round differently and training amplifies this.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "tts_digits"
    config.data.target = "digit"
    config.data.cluster = "voice"
    config.data.buckets = 2
    config.model.hidden = 96
    config.model.dropout = 0.2
    config.augment.time_shift_ms = 30.0
    config.augment.gain_db = 6.0
    config.optimizer.learning_rate = 2e-3
    config.train.steps = 800
    return config


def get_sweep(config):
    variants = {"GRU": {"model.cell": "gru"}, "LSTM": {"model.cell": "lstm"}}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
