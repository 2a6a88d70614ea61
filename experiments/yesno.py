"""Speech to text in a minute: GRU and tanh RNN on recordings of the words YES and NO.

  python -m gru_audio.prepare yesno
  python -m gru_audio.sweep --config experiments/yesno.py --workdir runs/yesno

A recording has eight words of one speaker. The tokens of CTC are the two words. 30 recordings test,
25 train and 5 validate, so the results say whether training works, and nothing about cells.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

PUBLISHED = dict(
    source="YesNo recipes of Kaldi and icefall; all test on 30 recordings",
    measure="word error rate",
    peers={
        "icefall, TDNN and CTC (egs/yesno/ASR/README.md)": 0.0042,
        "Kaldi, monophone GMM (from memory)": 0.0,
    },
)


def get_config():
    config = default_config()
    config.data.name = "yesno"
    config.data.target = "text"
    config.data.buckets = 1
    config.task.name = "ctc"
    config.task.tokens = "words"
    config.frontend.stack = 4
    config.augment.speed = 0.1
    config.augment.gain_db = 6.0
    config.model.hidden = 64
    config.model.bidirectional = True
    config.model.dropout = 0.2
    config.optimizer.learning_rate = 0.01
    config.train.batch_size = 5
    config.train.steps = 600
    config.train.eval_every = 50
    config.train.select = "validation/loss"  # the error rate of 40 words is too coarse
    return config


def get_sweep(config):
    cells = {"GRU": {"model.cell": "gru"}, "tanh RNN": {"model.cell": "rnn"}}
    return Sweep(
        variants=match_parameters(config, cells, to="GRU"),
        replicates=[{"seed": seed} for seed in range(3)],
        metric="wer",
    )
