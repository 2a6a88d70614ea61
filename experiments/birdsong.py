r"""Syllables of birdsong, labelled in every frame of 2 ms: which recurrent cell is best?

  python -m gru_audio.prepare birdsong --archive birdsong-bird0-16khz-ogg.tar.gz
  python -m gru_audio.sweep --config experiments/birdsong.py:480 --workdir runs/birdsong-480

Bidirectional networks of equal size. Parts: 75, 180 and 480, about the seconds of song in training.

Test frame error in percent, mean of 3 seeds, 500 updates; a run takes about 80 CPU seconds:

  seconds of song     75    180    480
  Li-GRU            1.74   1.46   1.35
  LSTM              1.77   1.50   1.38
  GRU               1.70   1.52   1.43
  tanh RNN          2.30   1.65   1.47

With 480 s no difference between the cells is shown; the error rate of the annotated sequences of
syllables is 1.5, 2.1, 1.9 and 2.6 %. With 180 s Li-GRU is better than tanh RNN.
"""

from gru_audio.config import default_config
from gru_audio.settings import choose
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

KINDS = {"GRU": "gru", "LSTM": "lstm", "tanh RNN": "rnn", "Li-GRU": "li_gru"}
PARTS = {"75": 8, "180": 19, "480": 50}  # songs of 9.5 s on average

PUBLISHED = dict(
    source="Cohen et al. 2022, TweetyNet (eLife 11, e63853): results of Bird 0 in the authors' "
    "repository, 480 s of training, with clean-up",
    measure="frame error; the same bird and frames of 2 ms, but not the same test songs",
    peers={
        "TweetyNet, 75 s": 0.0212,
        "TweetyNet, 180 s": 0.0181,
        "TweetyNet, 480 s": 0.0158,
    },
)


def get_config(part="480"):
    config = default_config()
    config.data.name = "birdsong"
    config.data.target = "events"
    config.data.train_examples = choose("part", part, PARTS)
    config.data.crop_seconds = 0.6
    config.data.buckets = 1
    config.task.name = "events"
    config.task.collar_ms = 10.0
    config.frontend.window_ms = 12.0
    config.frontend.hop_ms = 2.0
    config.frontend.n_fft = 512
    config.frontend.mels = 64
    config.frontend.f_min = 500.0
    config.model.layers = 2
    config.model.hidden = 64
    config.model.bidirectional = True
    config.model.dropout = 0.25
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
