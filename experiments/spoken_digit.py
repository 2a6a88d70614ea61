"""Spoken digits (FSDD, official split): GRU, LSTM and tanh RNN at equal parameters.

  python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/spoken_digit

60 runs in 3 programs. Validation chooses one of four learning rates for each variant. Test accuracy
on 300 clips, 5 seeds: GRU 99.3 %, LSTM 99.2, tanh RNN 99.2; no difference shown. Test and training
set have the same speakers; new_speaker.py tests on other speakers.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "spoken_digit"
    config.data.target = "digit"
    config.model.hidden = 128
    config.model.pooling = "max"
    config.model.dropout = 0.2
    config.augment.time_shift_ms = 20.0
    config.augment.gain_db = 6.0
    config.train.steps = 1200
    return config


def get_sweep(config):
    variants = {
        "GRU": {"model.cell": "gru"},
        "LSTM": {"model.cell": "lstm"},
        "tanh RNN": {"model.cell": "rnn"},
    }
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        trials=[{"optimizer.learning_rate": rate} for rate in (1e-3, 2e-3, 4e-3, 8e-3)],
        replicates=[{"seed": seed} for seed in range(5)],
    )
