"""Spoken digits (FSDD, official split): GRU against LSTM, each with 64 random settings.

  python -m gru_audio.sweep --config experiments/random_search.py --workdir runs/random_search

384 runs in 2 programs: 64 trials of learning rate, dropout and clipping with 3 seeds each. Halving
keeps the best quarter of a variant's trials at step 150, and the best quarter of those at step 450.
So 4 of 64 trials train to the end, and 23 % of the steps are taken. Learning rates are log-uniform,
as in Chung et al. 2014 (arXiv 1412.3555). Test accuracy on 300 clips: GRU 99.2 %, LSTM 99.2; no
difference shown. It takes about 16 minutes on two CPU cores.
"""

from gru_audio.config import default_config
from gru_audio.sweeps import trials
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "spoken_digit"
    config.data.target = "digit"
    config.model.hidden = 64
    config.model.pooling = "max"
    config.augment.time_shift_ms = 20.0
    config.augment.gain_db = 6.0
    config.train.steps = 1200
    config.train.eval_every = 150
    return config


def get_sweep(config):
    variants = {"GRU": {"model.cell": "gru"}, "LSTM": {"model.cell": "lstm"}}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        trials=trials.random(
            64,
            seed=0,
            distributions={
                "optimizer.learning_rate": trials.log_uniform(1e-4, 1e-1),
                "model.dropout": trials.uniform(0.05, 0.5),
                "optimizer.clip_norm": trials.log_uniform(0.1, 10),
            },
        ),
        replicates=[{"seed": seed} for seed in range(3)],
        halving=Halving(rungs=(150, 450), keep=1 / 4),
    )
