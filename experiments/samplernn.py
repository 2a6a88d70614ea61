r"""Generation of spoken digits, sample by sample: SampleRNN, WaveRNN, WaveNet and one-tier RNNs.

  python -m gru_audio.prepare spoken_digit
  python -m gru_audio.sweep --config experiments/samplernn.py:models --workdir runs/samplernn
  python -m gru_audio.generate --workdir runs/samplernn --run GRU-seed0 --condition digit=7 --out o

Codes have 8 bits by the mu-law, at 8 kHz; no silence is removed beyond what the data set's authors
removed. Bits per sample of the test split that a model must undercut: 7.19 by the frequencies of
the codes, 5.45 by a first-order Markov chain, both counted on the training split. All networks have
the size of the one-tier GRU and know the digit.

Parts: models; truncation, which varies the samples that gradients are propagated back through, as
table 4 of Mehri et al. 2017 (arXiv 1612.07837) does. Only the order of their results can be
compared: theirs are of other sounds, 16 kHz and linear codes. The part violin has the models of the
first part for notes of the data set bach_violin, whose pitch they know, at 16 kHz.
"""

from gru_audio.config import default_config
from gru_audio.settings import choose
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

SAMPLERNN = {"model.name": "samplernn", "model.embedding": 16}
KINDS = {
    "GRU": {"model.cell": "gru"},
    "LSTM": {"model.cell": "lstm"},
    "SampleRNN, 2 tiers": SAMPLERNN | {"model.frames": ("16",)},
    "SampleRNN, 3 tiers": SAMPLERNN | {"model.frames": ("8", "2")},
    "WaveRNN": {"model.name": "wavernn", "frontend.split": True},
    "WaveNet": {"model.name": "wavenet", "model.layers": 9},
}
LENGTHS = {f"{length} samples": {"train.tbptt_frames": length} for length in (32, 128, 512)}
PARTS = {"models": 600, "truncation": 500, "violin": 600}  # updates

PUBLISHED = dict(
    source="Mehri et al. 2017 (arXiv 1612.07837), test set of Blizzard 2013, linear codes, 16 kHz",
    measure="bits per sample; other sounds, so only the order can be compared",
    peers={
        "One-tier RNN": 1.434,
        "WaveNet, their implementation": 1.480,
        "SampleRNN, 2 tiers": 1.392,
        "SampleRNN, 3 tiers": 1.387,
    },
)


def get_config(part="models"):
    config = default_config()
    config.data.name = "spoken_digit"
    config.data.target = "digit"
    if part == "violin":
        config.data.name = "bach_violin"
        config.data.target = "pitch"
        config.data.cluster = "recording"
    config.data.crop_seconds = 0.256
    config.data.train_scored = 300
    config.task.name = "generation"
    config.frontend.name = "samples"
    config.frontend.normalise = False
    config.model.name = "rnn_generator"
    config.model.hidden = 128
    config.optimizer.learning_rate = 2e-3
    config.train.tbptt_frames = 512
    config.train.batch_size = 16
    config.train.steps = choose("part", part, PARTS)
    config.train.eval_every = config.train.steps // 4
    return config


def get_sweep(config, part="models"):
    replicates = [{"seed": seed} for seed in range(3)]
    if part == "truncation":
        return Sweep(variants=LENGTHS, replicates=replicates)
    return Sweep(variants=match_parameters(config, KINDS, to="GRU"), replicates=replicates)
