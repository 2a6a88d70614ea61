r"""Xu et al. 2017: a convolution before gated recurrent layers, for audio tagging.

  python -m gru_audio.prepare manifest --name chime_home --manifest chime_home.csv \
      --tags label
  python -m gru_audio.sweep --config experiments/xu2017.py --workdir runs/xu2017

The manifest has the columns file, label and split. A label joins the tags of a chunk, such as
"child_speech+video_game", or is "none". The paper (arXiv 1702.07787) reports an equal error rate of
0.11 on the development set of CHiME-Home and 0.12 on its evaluation set. Features, order of layers
and tags are the paper's; the numbers of units are from memory. It was not run on CHiME-Home, which
is available from its authors.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "chime_home"
    config.data.target = "label"
    config.frontend.window_ms = 40.0
    config.frontend.hop_ms = 20.0
    config.model.name = "crnn"
    config.model.conv = ("128 30x40 pool 1x40",)  # each filter covers all bands
    config.model.hidden = 128
    config.model.layers = 3
    config.model.bidirectional = True
    config.model.dropout = 0.2
    config.model.pooling = "mean"
    config.model.dense = ("500 relu",)
    config.task.name = "tagging"
    config.train.steps = 4000
    config.train.select = "validation/eer"
    return config


def get_sweep(config):
    variants = {"GRU": {"model.cell": "gru"}, "LSTM": {"model.cell": "lstm"}}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
