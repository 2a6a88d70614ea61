r"""Phan et al. 2017: deep gated recurrent networks for acoustic scenes.

  python -m gru_audio.prepare folder --name scenes --folder DIR --split_by "(.*)_[0-9]+"
  python -m gru_audio.sweep --config experiments/phan2017.py --workdir runs/phan2017

The folder has a directory for each scene. The paper (arXiv 1703.04770) reports an F1 of 97.7 % on
LITIS Rouen: recordings of 30 s from 19 scenes. Its features are label tree embeddings, and it votes
over the segments of a recording. Here the features are log-mel spectrograms, and the test uses the
middle of a recording. The numbers of units and layers are from memory. It was not run on LITIS
Rouen, which is available from its authors.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "scenes"
    config.data.target = "label"
    config.data.crop_seconds = 10.0
    config.frontend.window_ms = 50.0
    config.frontend.hop_ms = 50.0
    config.frontend.mels = 64
    config.model.hidden = 256
    config.model.layers = 2
    config.model.dropout = 0.5
    config.model.pooling = "last"
    config.optimizer.learning_rate = 1e-4
    config.train.batch_size = 64
    config.train.steps = 10_000
    config.train.eval_every = 200
    return config


def get_sweep(config):
    variants = {
        "GRU": {"model.cell": "gru"},
        "LSTM": {"model.cell": "lstm"},
        "one GRU layer": {"model.cell": "gru", "model.layers": 1},
    }
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
