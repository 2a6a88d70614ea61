r"""JSB Chorales: the best losses of recurrent cells at 20,000 and at 300,000 parameters.

  python -m gru_audio.prepare jsb_chorales
  python -m gru_audio.sweep --config experiments/jsb_chorales.py:20k --workdir runs/jsb_chorales-20k

Parts: 20k with eight cells, 300k with four. Every cell has six trials of learning rate, dropout and
weight noise. Halving keeps the best two, at update 1,500 in 20k and 450 in 300k. The validation
split chooses one of them.
"""

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps import trials
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

KINDS = {
    "GRU": "gru",
    "GRU, reset before": "gru_reset_before",
    "LSTM": "lstm",
    "LSTM with peepholes": "lstm_peephole",
    "Li-GRU": "li_gru",
    "minGRU": "min_gru",
    "minLSTM": "min_lstm",
    "tanh RNN": "rnn",
}
# The width that gives the GRU about this number of parameters, and the number of updates.
PARTS = {
    "20k": {"model.hidden": 41, "train.steps": 4500},
    "300k": {"model.hidden": 262, "train.steps": 1500},
}
RUNGS = {"20k": 1500, "300k": 450}
DISTRIBUTIONS = {
    "20k": {
        "optimizer.learning_rate": trials.log_uniform(3e-3, 1.2e-2),
        "model.dropout": trials.uniform(0.02, 0.2),
        "train.weight_noise": trials.uniform(0.04, 0.12),
    },
    "300k": {
        "optimizer.learning_rate": trials.log_uniform(1e-3, 4e-3),
        "model.dropout": trials.uniform(0.2, 0.5),
        "train.weight_noise": trials.uniform(0.02, 0.1),
    },
}

PUBLISHED = dict(
    source="Test negative log-likelihoods of other papers on the same data set",
    measure="nats per frame",
    peers={
        "Bai et al. 2018, TCN, about 300,000 parameters (arXiv 1803.01271)": 8.10,
        "Greff et al. 2017, best LSTM variant of 200 trials (arXiv 1503.04069)": 8.38,
        "Chung et al. 2014, GRU, about 20,000 parameters (arXiv 1412.3555)": 8.54,
    },
)


def get_config(part="20k"):
    config = default_config()
    config.data.name = "jsb_chorales"
    config.data.target = ""
    config.frontend.name = "frames"
    config.frontend.normalise = False
    config.task.name = "next_step"
    config.model.output_bias = -3.0
    config.train.batch_size = 8
    config.train.eval_every = 150
    config.train.log_every = 150
    return override(config, choose("part", part, PARTS))


def get_sweep(config, part="20k"):
    names = ("GRU", "LSTM", "Li-GRU", "tanh RNN") if part == "300k" else KINDS
    variants = {name: {"model.cell": KINDS[name]} for name in names}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        trials=trials.random(6, seed=0, distributions=DISTRIBUTIONS[part]),
        replicates=[{"seed": seed} for seed in range(3)],
        halving=Halving(rungs=(RUNGS[part],), keep=0.34),
    )
