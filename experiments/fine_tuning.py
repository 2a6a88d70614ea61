r"""Few examples of spoken digits: fine-tuning of a keyword model against training from scratch.

  python -m gru_audio.prepare speech_commands --sample_rate 8000
  python -m gru_audio.prepare spoken_digit
  python -m gru_audio.sweep --config experiments/fine_tuning.py:commands \
      --workdir runs/fine_tuning-commands
  python -m gru_audio.sweep --config experiments/fine_tuning.py:digits \
      --workdir runs/fine_tuning-digits

Part commands trains three models on 12 keywords, 6 CPU minutes. Part digits has 36 runs in 4
programs, 5 CPU minutes; each seed begins with the model of that seed. No class is common to both.
The data of the models was a part of Speech Commands, 3,732 clips of the official test set of v0.02;
their test accuracy is 83.4 %.

Test accuracy on 300 digits in percent, mean of 3 seeds, after 150 updates:

  examples per digit          5     10     20
  tuned                    76.2   90.1   94.1
  from scratch             70.0   83.1   88.3
  tuned head               65.3   70.6   70.8
  head on random encoder   39.3   39.4   39.4

Tuning of all weights is 6 to 7 points above training from scratch, and better in each of the nine
pairs of seed and size. Among all 66 pairs of variants the report shows no difference, since it
corrects for their number. The head alone is worse than training from scratch. A linear model of
feature statistics reaches 61.0, 73.8 and 83.9 %. Only one learning rate was tried. Three variants
still improved at their last update: from scratch with 20 examples, and the head on a random encoder
with 10 and 20. The validation split, 300 digits, is larger than the training sets.
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
