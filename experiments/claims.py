r"""What is said of GRUs, put to the test: size, overfitting, short sequences, the memory cell.

  python -m gru_audio.prepare spoken_digit
  python -m gru_audio.sweep --config experiments/claims.py:size_fsdd --workdir runs/claims-size_fsdd

Parts: size_fsdd and size_jsb (how much is learnt from), short_fsdd (how much of a word is heard),
counting (brackets). The claims on long sequences rest on bai2018.py, those on gates on
update_gate.py.
"""

from gru_audio.config import default_config, override
from gru_audio.models.size import match_parameters
from gru_audio.rnn.names import choose
from gru_audio.sweeping.sweep import Sweep

FRAMES = {"data.target": "", "frontend.name": "frames", "frontend.normalise": False}
TO_THE_END = {"data.validation": ""}  # so that nothing stops a run before it overfits

PARTS = {
    "size_fsdd": {"data.name": "spoken_digit", **TO_THE_END, "model.hidden": 64},
    "size_jsb": {
        **{"data.name": "jsb_chorales", "task.name": "next_step", **FRAMES, **TO_THE_END},
        **{
            "model.hidden": 64,
            "model.output_bias": -3.0,
            "train.batch_size": 8,
            "train.steps": 1500,
        },
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
    features = {"spoken_digit": 40, "jsb_chorales": 88, "counting": 2}[config.data.name]
    outputs = {"spoken_digit": 10, "jsb_chorales": 88, "counting": 1}[config.data.name]
    equal = match_parameters(
        config, {"GRU": gru, "LSTM": lstm}, to="GRU", features=features, outputs=outputs
    )
    seeds = [{"seed": seed} for seed in range(5)]
    if config.data.name == "counting":
        rates = [{"optimizer.learning_rate": rate} for rate in (2e-3, 5e-3, 1e-2)]
        return Sweep(arms=equal, draws=rates, replicates=seeds)
    if config.data.validation:
        spans = (0.1, 0.2, 0.4, 0.8)
        arms = {
            f"{name}, {span} s": {**arm, "data.crop_seconds": span}
            for name, arm in equal.items()
            for span in spans
        }
        return Sweep(arms=arms, replicates=seeds)
    sizes = (100, 300, 1000, 2400) if config.data.name == "spoken_digit" else (30, 100, 229)
    cells = {"GRU": gru, "LSTM as wide": lstm, "LSTM as large": equal["LSTM"]}
    arms = {
        f"{name}, {size}": {**arm, "data.train_examples": size}
        for name, arm in cells.items()
        for size in sizes
    }
    return Sweep(arms=arms, replicates=seeds)
