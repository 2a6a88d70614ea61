r"""Overlapping office sounds in scenes of two minutes. This is not the published DCASE task.

  python -m gru_audio.prepare dcase2016_task2_remix --archive dcase2016-task2-16khz-ogg.tar.gz
  python -m gru_audio.sweep --config experiments/dcase2016_remix.py --workdir runs/dcase2016_remix

The scenes are mixed from the recordings of DCASE 2016 task 2 and other noise. No recording is in
two splits. The results must not be compared with those of the challenge. Bidirectional
networks of equal size detect eleven classes.

Test segment-based F1 in percent, mean of 3 seeds: GRU 46.0, LSTM 35.9, tanh RNN 35.1. The GRU is
better than both. All are still learning at their last update, after 500 of them and 8 CPU minutes
a variant, so this says that the GRU learns faster, not that it ends higher. PSDS is 0.25, 0.08 and
0.08. Event-based error rates are above 1: there are more inserted events than events.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

KINDS = {"GRU": "gru", "LSTM": "lstm", "tanh RNN": "rnn"}


def get_config():
    config = default_config()
    config.data.name = "dcase2016_task2_remix"
    config.data.target = "events"
    config.data.crop_seconds = 10.0
    config.data.buckets = 1
    config.task.name = "events"
    config.task.overlap = True
    config.task.collar_ms = 250.0
    config.frontend.window_ms = 40.0
    config.frontend.hop_ms = 20.0
    config.frontend.mels = 64
    config.augment.gain_db = 6.0
    config.augment.time_shift_ms = 500.0
    config.augment.frequency_masks = 2
    config.augment.frequency_mask_bands = 10.0
    config.model.layers = 2
    config.model.hidden = 64
    config.model.bidirectional = True
    config.model.dropout = 0.3
    config.optimizer.learning_rate = 2e-3
    config.train.batch_size = 16
    config.train.steps = 500
    config.train.eval_every = 125
    return config


def get_sweep(config):
    variants = {name: {"model.cell": cell} for name, cell in KINDS.items()}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
