r"""Tests of claims about GRUs: size, overfitting, short sequences, counting.

  python -m gru_audio.prepare spoken_digit
  python -m gru_audio.sweep --config experiments/claims.py:size_fsdd --workdir runs/claims-size_fsdd

Parts: size_fsdd and size_jsb (number of training examples), short_fsdd (duration of a word),
counting (brackets). The claims on long sequences use bai2018.py, those on gates update_gate.py.
"""

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

CLIPS, CHORALES = (100, 300, 1000, 2400), (30, 100, 229)  # numbers of training examples
SPANS = (0.1, 0.2, 0.4, 0.8)  # seconds of a word

CLAIMS = "experiments.tables.about_grus"  # the module that tests claims on the kept results

FRAMES = {"data.target": "", "frontend.name": "frames", "frontend.normalise": False}

# Runs of size_* continue long after the lowest validation loss. They evaluate often, so that the
# validation loss is known at any training loss.
PARTS = {
    "size_fsdd": {
        "data.name": "spoken_digit",
        "model.hidden": 64,
        "train.log_every": 25,
        "train.eval_every": 25,
    },
    "size_jsb": {
        **{"data.name": "jsb_chorales", "task.name": "next_step", **FRAMES},
        **{"model.hidden": 64, "model.output_bias": -3.0, "train.batch_size": 8},
        **{"train.steps": 1500, "train.log_every": 50, "train.eval_every": 50},
    },
    "short_fsdd": {"data.name": "spoken_digit", "model.hidden": 64, "model.dropout": 0.2},
    "counting": {
        **{"data.name": "counting", "task.name": "counting", **FRAMES},
        **{"model.hidden": 16, "data.buckets": 3, "train.steps": 2000},
    },
}


def get_config(part="size_fsdd"):
    config = default_config()
    config.model.pooling = "max"
    config.optimizer.learning_rate = 4e-3
    config.train.steps = 600
    config.train.eval_every = 100
    return override(config, choose("part", part, PARTS))


def get_sweep(config):
    gru, lstm = {"model.cell": "gru"}, {"model.cell": "lstm"}
    equal = match_parameters(config, {"GRU": gru, "LSTM": lstm}, to="GRU")
    seeds = [{"seed": seed} for seed in range(5)]
    if config.data.name == "counting":
        rates = [{"optimizer.learning_rate": rate} for rate in (2e-3, 5e-3, 1e-2)]
        return Sweep(variants=equal, trials=rates, replicates=seeds)
    if config.model.dropout:  # short_fsdd, which does not measure overfitting
        variants = {
            f"{name}, {span} s": {**variant, "data.crop_seconds": span}
            for name, variant in equal.items()
            for span in SPANS
        }
        return Sweep(variants=variants, replicates=seeds)
    sizes = CLIPS if config.data.name == "spoken_digit" else CHORALES
    cells = {"GRU": gru, "LSTM as wide": lstm, "LSTM as large": equal["LSTM"]}
    variants = {
        f"{name}, {size}": {**variant, "data.train_examples": size}
        for name, variant in cells.items()
        for size in sizes
    }
    return Sweep(variants=variants, replicates=seeds)
