r"""Music genre: recurrent networks on log-mel sequences, and on a few segments of each track.

  python -m gru_audio.prepare features --name vntm --archive vntm-logmel64.npz \
      --manifest manifest.csv --drop duplicate_of
  python -m gru_audio.sweep --config experiments/music_genre.py:vietnamese \
      --workdir runs/music_genre-vietnamese

Parts:
  vietnamese: five genres of traditional music; 30 s of 64 bands at 5.4 frames per second; duplicate
    clips are left out. It takes about 15 minutes; halving keeps one of two learning rates at update
    200. Test accuracy: GRU 97.9 %, LSTM 96.3, tanh RNN 94.7; no difference shown.
  gtzan: ten genres; three segments of 10 s per track with 63 features each; the published random
    split by track. It takes less than a minute. Test accuracy: LSTM and tanh RNN 72.6 %, GRU 72.4;
    no difference shown.
  gtzan_audio: the sound, with the artist-separated lists. It was not run.
"""

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps import trials
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

FRAMES = {"frontend.name": "frames"}
PARTS = {
    "vietnamese": {**FRAMES, "data.name": "vntm", "model.hidden": 96},
    "gtzan": {**FRAMES, "data.name": "gtzan_10s", "data.validation": "", "model.hidden": 64},
    "gtzan_audio": {
        **{"data.name": "gtzan", "data.crop_seconds": 10.0, "frontend.hop_ms": 25.0},
        **{"frontend.window_ms": 50.0, "frontend.mels": 64, "model.hidden": 96},
    },
}
PUBLISHED = dict(
    source="No published table uses the same split; linear models are the comparison",
    measure="test accuracy; clips of one piece may be in both training and test split, which "
    "raises the accuracy of all models",
    peers={
        "logistic regression, mean and deviation of bands, vietnamese": 0.93,
        "logistic regression on segments, gtzan": 0.71,
    },
)


def get_config(part="vietnamese"):
    config = default_config()
    config.data.target = "label"
    config.model.bidirectional = True
    config.model.pooling = "mean"
    config.model.dropout = 0.3
    config.train.steps = 800
    return override(config, choose("part", part, PARTS))


def get_sweep(config):
    cells = {
        "GRU": {"model.cell": "gru"},
        "LSTM": {"model.cell": "lstm"},
        "tanh RNN": {"model.cell": "rnn"},
    }
    variants = match_parameters(config, cells, to="GRU")
    seeds = [{"seed": seed} for seed in range(5)]
    if not config.data.validation:  # no split to choose a trial
        return Sweep(variants, replicates=seeds)
    rates = trials.grid({"optimizer.learning_rate": (1e-3, 4e-3)})
    return Sweep(variants, rates, seeds, Halving(rungs=(200,), keep=0.5))
