r"""Keyword spotting with 12 labels: the GRU, LSTM, LSTM with projection and CRNN of Hello Edge.

  python -m gru_audio.prepare speech_commands
  python -m gru_audio.sweep --config experiments/speech_commands_12.py:S \
      --workdir runs/speech_commands_12-S

Parts: S, M, L. Models, features and augmentation are the paper's. Training takes 1,500 updates, the
paper's 30,000. The kept results use a part of Speech Commands, see PUBLISHED. Part S has 24 runs in
4 programs and takes about 15 minutes; halving keeps one of two learning rates at update 300. Test
accuracy: GRU 80.6 %, CRNN 80.3, LSTM with projection 79.3, LSTM 76.3; no difference shown. M and L
were not run.
"""

from gru_audio.config import default_config
from gru_audio.settings import choose
from gru_audio.sweeps import trials
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.sweep import Sweep

# Width of GRU and LSTM; width and projection; the CRNN's convolution, width and dense layer.
PARTS = {
    "S": {"GRU": 154, "LSTM": 118, "projection": (144, 98), "CRNN": ("48 10x4 stride 2x2", 60, 84)},
    "M": {
        "GRU": 250,
        "LSTM": 214,
        "projection": (280, 130),
        "CRNN": ("128 10x4 stride 2x2", 76, 164),
    },
    "L": {
        "GRU": 400,
        "LSTM": 344,
        "projection": (500, 188),
        "CRNN": ("100 10x4 stride 2x1", 136, 188),
    },
}

PUBLISHED = dict(
    source="Zhang, Suda, Lai, Chandra 2017, Hello Edge, arXiv 1711.07128",
    measure="test accuracy; the paper uses the whole of Speech Commands v0.01; ours trains on "
    "3,732 clips of the official test set of v0.02 and tests on 627 clips of its other speakers, "
    "so the values cannot be compared",
    from_memory=True,
    peers={
        f"{model} {size}": accuracy
        for model, accuracies in {
            "GRU": (0.935, 0.942, 0.947),
            "LSTM": (0.920, 0.930, 0.934),
            "LSTM with projection": (0.929, 0.939, 0.948),
            "CRNN": (0.940, 0.944, 0.950),
        }.items()
        for size, accuracy in zip(PARTS, accuracies, strict=True)
    },
    guessed=(
        "Adam with a cosine schedule; the learning rate is chosen on validation",
        "background noise at 5 to 20 dB below the speech, cut from training clips of silence",
        "the LSTM of S has a hop of 40 ms, like the other recurrent models of S",
    ),
)


def get_config(part="S"):
    choose("part", part, PARTS)
    config = default_config()
    config.data.name = "speech_commands"
    config.data.target = "command"
    config.data.cluster = "speaker"
    config.data.background = "command=_silence_"
    config.data.buckets = 1
    config.frontend.name = "mfcc"
    config.frontend.window_ms = 40.0
    config.frontend.n_fft = 640
    config.frontend.hop_ms = 40.0 if part == "S" else 20.0
    config.frontend.f_max = 4000.0
    config.frontend.coefficients = 10
    config.augment.time_shift_ms = 100.0
    config.augment.background = 0.8
    config.augment.snr_min_db = 5.0
    config.augment.snr_max_db = 20.0
    config.model.hidden = PARTS[part]["GRU"]
    config.train.batch_size = 100
    config.train.steps = 1500
    config.train.eval_every = 150
    return config


def get_sweep(config):
    sizes = next(sizes for sizes in PARTS.values() if sizes["GRU"] == config.model.hidden)
    hidden, projection = sizes["projection"]
    conv, width, dense = sizes["CRNN"]
    projected = {"model.cell": "lstm_peephole", "model.projection": projection}
    front = {"model.conv": (conv,), "model.conv_norm": False, "model.conv_padding": "valid"}
    crnn = {"model.name": "crnn", "model.layers": 2, "model.dense": (f"{dense} relu",)}
    return Sweep(
        variants={
            "GRU": {"model.cell": "gru_reset_before"},
            "LSTM": {"model.cell": "lstm", "model.hidden": sizes["LSTM"]},
            "LSTM with projection": {**projected, "model.hidden": hidden},
            "CRNN": {
                **{
                    "model.cell": "gru_reset_before",
                    "model.hidden": width,
                    "frontend.hop_ms": 20.0,
                },
                **front,
                **crnn,
            },
        },
        trials=trials.grid({"optimizer.learning_rate": (1e-3, 4e-3)}),
        replicates=[{"seed": seed} for seed in range(3)],
        halving=Halving(rungs=(300,), keep=0.5),
    )
