r"""Zhang et al. 2019: a convolutional recurrent network with attention for environmental sound.

  python -m gru_audio.prepare esc10
  python -m gru_audio.sweep --config experiments/zhang2019.py:esc10 --workdir runs/zhang2019-esc10

Parts: esc10, esc50. The variants are the paper's network, the same with an LSTM, and the same with
a mean in place of attention. Training needs an accelerator. It was not run.
"""

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep, folds

FOLDS = ("1", "2", "3", "4", "5")
PARTS = {"esc10": {"data.name": "esc10"}, "esc50": {"data.name": "esc50"}}

PUBLISHED = dict(
    source="Zhang, Xu, Qiao, Zhang, Cao 2019, arXiv 1907.02230",
    measure="accuracy, the mean over five folds; the paper's training settings are also from "
    "memory, its layers from notes that quote it",
    from_memory=True,
    values={"esc10": {"attention": 0.937}, "esc50": {"attention": 0.861}},
    guessed=(
        "mel bands in place of gammatone filters, sound at 16 kHz",
        "changes of speed in place of time stretch and pitch shift",
        "random crops of 1.5 s in training, the middle 1.5 s in the test, where the paper votes "
        "over segments",
        "training on three folds, since one is the validation split; 3,000 updates, a cosine "
        "schedule",
    ),
)


def get_config(part="esc10"):
    config = default_config()
    config.data.target = "label"
    config.data.train = "train+validation+test"
    config.data.crop_seconds = 1.5
    config.data.buckets = 1
    config.frontend.window_ms = 23.0
    config.frontend.hop_ms = 11.5
    config.frontend.n_fft = 1024
    config.frontend.mels = 128
    config.frontend.deltas = 1
    config.augment.speed = 0.2
    config.augment.mixup = 0.2
    config.model.name = "crnn"
    config.model.channels = 2
    config.model.conv = (
        *("32 5x3", "32 5x3 pool 3x4", "64 1x3", "64 1x3 pool 1x4"),
        *("128 5x1", "128 5x1 pool 3x1", "256 3x3", "256 3x3 pool 2x2"),
    )
    config.model.hidden = 256
    config.model.layers = 2
    config.model.bidirectional = True
    config.model.dropout = 0.5
    config.model.pooling = "attention"
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.learning_rate = 0.01
    config.train.batch_size = 200
    config.train.steps = 3000
    config.train.eval_every = 100
    return override(config, choose("part", part, PARTS))


def get_sweep(config):
    variants = {
        "attention": {},
        "mean": {"model.pooling": "mean"},
        "attention, LSTM": {"model.cell": "lstm"},
    }
    variants = match_parameters(config, variants, to="attention")
    replicates = [{**fold, "seed": seed} for fold in folds("fold", FOLDS) for seed in range(3)]
    return Sweep(variants, replicates=replicates)
