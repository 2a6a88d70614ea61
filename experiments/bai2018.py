r"""Bai et al. 2018, Table 1: recurrent networks and a TCN on music and on memory tasks.

  python -m gru_audio.prepare jsb_chorales
  python -m gru_audio.sweep --config experiments/bai2018.py:jsb_chorales \
      --workdir runs/bai2018-jsb_chorales

Parts: jsb_chorales, nottingham; adding_200, adding_400, adding_600; copy_memory_500,
copy_memory_1000, copy_memory_2000. All variants have as many parameters as the TCN of the paper.
The TCN is initialised as in its authors' code. In jsb_chorales and copy_memory_500 there is also a
TCN whose convolutions are initialised with N(0, 0.01), as the paper says.

On the adding problem the authors train their TCN for 15,630 updates at a constant rate of 4e-3,
without clipping (github.com/locuslab/TCN, commit 2f8c2b8). Here it trains for 1,200 updates at a
constant rate of 1e-3 or 4e-3, also without clipping. The recurrent variants have a rate that decays
to 1 %, and gradients clipped at a norm of 1. The TCN was not run with these settings, so the kept
results of the adding problem have no TCN.

Halving stops four of six trials at update 300 on jsb_chorales, and five of six at update 150 on
nottingham. Kept results of two seeds have no verdicts.
"""

import math

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps import trials
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

MUSIC = {"task.name": "next_step", "task.first_frame": False, "model.output_bias": -3.0}
ADDING = {"task.name": "adding", "data.buckets": 1, "model.layers": 8}
COPY = {"task.name": "copy_memory", "data.buckets": 1, "model.layers": 8}
KERNELS = {"jsb_chorales": 3, "nottingham": 6}  # kernel size of the TCN; 8 in the other parts

# The settings of the TCN in each part.
PARTS = {
    "jsb_chorales": {**MUSIC, "model.hidden": 150, "model.layers": 2},
    "nottingham": {**MUSIC, "model.hidden": 150, "model.layers": 4},
    "adding_200": {**ADDING, "model.hidden": 24},
    "adding_400": {**ADDING, "model.hidden": 24},
    "adding_600": {**ADDING, "model.hidden": 24},
    "copy_memory_500": {**COPY, "model.hidden": 10},
    "copy_memory_1000": {**COPY, "model.hidden": 10},
    "copy_memory_2000": {**COPY, "model.hidden": 10},
}

PUBLISHED = dict(
    source="Bai, Kolter, Koltun 2018, arXiv 1803.01271, Table 1",
    measure="test loss: nats per frame on music, squared error on adding, nats per step on copying",
    values={
        "jsb_chorales": {"GRU": 8.43, "LSTM": 8.45, "tanh RNN": 8.91, "TCN": 8.10},
        "nottingham": {"GRU": 3.46, "LSTM": 3.29, "tanh RNN": 4.05, "TCN": 3.07},
        "adding_600": {"GRU": 5.3e-5, "LSTM": 0.164, "tanh RNN": 0.177, "TCN": 5.8e-5},
        "copy_memory_1000": {"GRU": 0.0197, "LSTM": 0.0204, "tanh RNN": 0.0202, "TCN": 3.5e-5},
    },
    floors={
        **{f"adding_{steps}": 1 / 6 for steps in (200, 400, 600)},
        **{f"copy_memory_{t}": 10 * math.log(8) / (t + 20) for t in (500, 1000, 2000)},
    },
    guessed=(
        "Adam with a cosine schedule and clipping at 1; the TCN on adding has a constant rate and "
        "no clipping; batches of 8 pieces or 32 sequences; one recurrent layer",
        "validation chooses the learning rate, and for music the dropout; the paper gives the "
        "settings of its LSTM and TCN, but their sizes do not all match its table",
        "recurrent variants have as many parameters as our TCN, not the paper's rounded 300K, 1M, "
        "70K, 16K",
        "the causal convolutions of the TCN have PyTorch's default initialisation, which the "
        "authors' code has through its weight normalisation; the text gives N(0, 0.01)",
        "the kept results of TCNs on music and copying are from an earlier initialisation than the "
        "authors' code: shortcuts like the convolutions, outputs with LeCun's normal "
        "initialisation, biases at zero",
        "kernel and layers of the TCN for adding over 200 and 400 steps are those for 600, and for "
        "copying over 500 and 2000 those for 1000",
        "adding and copying have a validation set from the same distribution as the test set",
    ),
)


def get_config(part="jsb_chorales"):
    settings = choose("part", part, PARTS)
    config = default_config()
    config.data.name = part
    config.data.target = ""
    config.frontend.name = "frames"
    config.frontend.normalise = False
    config.optimizer.clip_norm = 1.0
    music = settings["task.name"] == "next_step"
    config.train.batch_size = 8 if music else 32
    config.train.steps = 1500 if music else 1200
    config.train.eval_every = 150
    config.train.log_every = 150
    return override(config, settings)


def get_sweep(config):
    cells = {
        "GRU": {"model.cell": "gru"},
        "LSTM": {"model.cell": "lstm"},
        "tanh RNN": {"model.cell": "rnn"},
    }
    recurrent = {name: {"model.layers": 1, **variant} for name, variant in cells.items()}
    music = config.task.name == "next_step"
    tcn = {
        "model.name": "tcn",
        "model.kernel": KERNELS.get(config.data.name, 8),
        "model.kernel_init": "uniform_fan_in",
        "model.output_init": "uniform_fan_in" if music else "normal_0.01",
    }
    if config.task.name == "adding":
        tcn |= {
            "optimizer.schedule": "constant",
            "optimizer.warmup_steps": 0,
            "optimizer.clip_norm": 0.0,
        }
    variants = {**recurrent, "TCN": tcn}
    if config.data.name in ("jsb_chorales", "copy_memory_500"):
        variants["TCN begun with N(0, 0.01)"] = {**tcn, "model.kernel_init": "normal_0.01"}
    variants = match_parameters(config, variants, to="TCN")
    if music:
        settings = {
            "optimizer.learning_rate": (1e-3, 2e-3, 4e-3),
            "model.dropout": (0.2, 0.5),
        }
        short = config.data.name == "jsb_chorales"
        seeds = [{"seed": seed} for seed in range(3 if short else 2)]
        halving = Halving(rungs=(300,), keep=0.34) if short else Halving(rungs=(150,), keep=0.17)
        return Sweep(variants, trials.grid(settings), seeds, halving)
    # No halving here: a trial may leave the floor late.
    rates = [{"optimizer.learning_rate": rate} for rate in (1e-3, 4e-3)]
    number = 3 if config.data.name == "adding_200" else 2
    return Sweep(variants, rates, replicates=[{"seed": seed} for seed in range(number)])
