r"""Polyphonic music: GRU, LSTM and tanh RNN at the sizes of Chung et al. 2014, Tables 1 and 2.

  python -m gru_audio.prepare jsb_chorales
  python -m gru_audio.sweep --config experiments/chung2014.py:jsb_chorales \
      --workdir runs/chung2014-jsb_chorales

Parts: jsb_chorales, piano_midi, nottingham, muse_data. Each variant has ten random learning rates
from the paper's distribution. Halving keeps the best three at update 1,500 on JSB Chorales, and the
best one at update 200 in the other parts. These train until early stopping.
"""

import math

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps import trials
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.sweep import Sweep

# Long pieces: truncated backpropagation through 200 frames; the state is carried on.
LONG = {"train.tbptt_frames": 200, "train.eval_every": 100, "train.log_every": 100}
PARTS = {"jsb_chorales": {}, "piano_midi": LONG, "nottingham": LONG, "muse_data": LONG}

PUBLISHED = dict(
    source="Chung, Gulcehre, Cho, Bengio 2014, arXiv 1412.3555, Table 2, test",
    measure="negative log-likelihood in nats per frame",
    values={
        "nottingham": {"GRU": 3.23, "LSTM": 3.20, "tanh RNN": 3.13},
        "jsb_chorales": {"GRU": 8.54, "LSTM": 8.67, "tanh RNN": 9.10},
        "muse_data": {"GRU": 5.99, "LSTM": 6.23, "tanh RNN": 6.23},
        "piano_midi": {"GRU": 8.82, "LSTM": 9.03, "tanh RNN": 9.03},
    },
    guessed=(
        "batches of 8 pieces; the loss is the mean over their frames",
        "RMSProp with decay 0.9; recurrent weights orthogonal, forget bias 1, output biases -3",
        "the first frame is predicted from zeros, and its loss counts",
        "learning rates e^-12 to e^-6: the paper's U(-12, -6) is read as natural logarithms",
        "on JSB Chorales the best three of ten rates at update 1,500 are trained to the end, in "
        "the other parts only the best at update 200, which excludes rates that are slow at "
        "first; the paper trains all to the end",
        "except for JSB Chorales, backpropagation is truncated to 200 frames; the state is carried "
        "on",
        "88 keys, where the paper has 93 to 108 (the additional keys seem to be silent)",
    ),
)


def get_config(part="jsb_chorales"):
    settings = choose("part", part, PARTS)
    config = default_config()
    config.data.name = part
    config.data.target = ""
    config.frontend.name = "frames"
    config.frontend.normalise = False
    config.task.name = "next_step"
    config.model.output_bias = -3.0
    config.optimizer.name = "rmsprop"
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 1.0
    config.train.batch_size = 8
    config.train.weight_noise = 0.075
    config.train.steps = 60_000
    config.train.eval_every = 300
    config.train.log_every = 300
    config.train.patience = 8
    return override(config, settings)


def get_sweep(config):
    short = config.data.name == "jsb_chorales"
    rates = trials.log_uniform(math.exp(-12), math.exp(-6))
    return Sweep(
        variants={
            "GRU": {"model.cell": "gru_reset_before", "model.hidden": 46},
            "LSTM": {"model.cell": "lstm_peephole", "model.hidden": 36},
            "tanh RNN": {"model.cell": "rnn", "model.hidden": 100},
        },
        trials=trials.random(10, seed=0, distributions={"optimizer.learning_rate": rates}),
        replicates=[{"seed": seed} for seed in range(5 if short else 2)],
        halving=Halving(rungs=(1500,), keep=0.3) if short else Halving(rungs=(200,), keep=0.1),
    )
