r"""Few examples of spoken digits: fine-tuning of a keyword model against training from scratch.

  python -m gru_audio.prepare speech_commands --sample_rate 8000
  python -m gru_audio.prepare spoken_digit
  python -m gru_audio.sweep --config experiments/fine_tuning.py:commands \
      --workdir runs/fine_tuning-commands
  python -m gru_audio.sweep --config experiments/fine_tuning.py:digits \
      --workdir runs/fine_tuning-digits
"""

from gru_audio.config import default_config
from gru_audio.settings import choose
from gru_audio.sweeps.sweep import Sweep

PARTS = {"commands": "speech_commands", "digits": "spoken_digit"}

SIZES = (5, 10, 20)  # training examples of each digit
SOURCE = {"init.source": "runs/fine_tuning-commands:GRU-seed{seed}"}
WAYS = {
    "from scratch": {},
    "tuned": SOURCE,
    "tuned head": SOURCE | {"init.freeze": ("encoder",)},
    "head on random encoder": {"init.freeze": ("encoder",)},
}


def get_config(part="digits"):
    config = default_config()
    config.data.name = choose("part", part, PARTS)
    config.model.hidden = 128
    config.model.pooling = "max"
    config.model.dropout = 0.2
    config.augment.time_shift_ms = 50.0
    config.augment.gain_db = 6.0
    config.optimizer.learning_rate = 2e-3
    if part == "commands":
        config.data.target = "command"
        config.data.cluster = "speaker"
        config.data.background = "command=_silence_"
        config.data.buckets = 1
        config.augment.background = 0.8
        config.augment.snr_min_db = 5.0
        config.augment.snr_max_db = 20.0
        config.train.steps = 3000
        config.train.eval_every = 300
    else:
        config.data.target = "digit"
        config.data.buckets = 2
        config.train.steps = 150
        config.train.eval_every = 30
    return config


def get_sweep(config):
    seeds = [{"seed": seed} for seed in range(3)]
    if config.data.name == PARTS["commands"]:
        return Sweep(variants={"GRU": {}}, replicates=seeds)
    return Sweep(
        variants={
            f"{way}, {size}": changes | {"data.examples_per_class": size}
            for size in SIZES
            for way, changes in WAYS.items()
        },
        replicates=seeds,
    )
