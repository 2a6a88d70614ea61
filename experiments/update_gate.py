r"""Interpretability: does the update gate of a GRU show where a bird's syllables begin?

A GRU predicts the next 5 ms of a Bengalese finch's song, without annotations. Which frame scores
detect the annotated onsets of syllables better: scores from its update gate, or from energy? The
data are Bird 0 of Koumura's BirdsongRecognition (doi 10.6084/m9.figshare.3470165.v1) at 16 kHz: an
ARCHIVE of audio/*.ogg, with files.csv (filename, samples, split) and annotations.tsv (filename,
onset in seconds).

  awk -F, '{print NR == 1 ? "file,label,split" : "audio/" $1 ",bird0," $3}' files.csv > songs.csv
  python -m gru_audio.prepare manifest --name bird0_songs --manifest songs.csv --archive ARCHIVE
  python -m gru_audio.sweep --config experiments/update_gate.py --workdir runs/update_gate
  python -m experiments.onsets --workdir runs/update_gate --annotations annotations.tsv

The validation recordings choose sign, span, smoothing, lag and peak threshold of each score by the
measure in question, and the best unit by AUC. They also choose the best score of each family by its
mean over seeds. Differences are paired by seed and test recording and tested as in a report. Gates
are better than energy if the 95 % interval is above zero, and worse if it is below.

5 runs in one program take 3 minutes on two cores, the scores 4 minutes. On 27 test recordings:

  AUC  best unit 0.984, rise of log energy 0.986: -0.002 [-0.014, 0.010], no difference shown
  F1   best unit 0.969, spectral flux 0.981: -0.011 [-0.031, 0.009], no difference shown

Extremes of the gate (shares of units, and their changes) have a lower F1 than energy, -0.112
[-0.174, -0.050]; for AUC, -0.037 [-0.075, 0.000], no difference is shown. Training shows no
difference either: a unit of the untrained GRU has AUC 0.977 and F1 0.952. The intervals are not
adjusted for their number. The test recordings had been scored once before, with fewer spans, lags
and smoothings and with fewer ways to choose a unit. The separate comparison of extremes was added
after that. F1 still chooses the longest span for most scores.
"""

from gru_audio.config import default_config
from gru_audio.sweeps.sweep import Sweep


def get_config():
    config = default_config()
    config.data.name = "bird0_songs"
    config.data.target = ""
    config.data.crop_seconds = 4.0
    config.data.buckets = 1
    config.frontend.window_ms = 16.0
    config.frontend.hop_ms = 5.0
    config.frontend.n_fft = 512
    config.frontend.f_min = 500.0
    config.model.cell = "gru"
    config.model.hidden = 64
    config.task.name = "next_step"
    config.task.distribution = "gaussian"
    config.task.first_frame = False  # so that the gate at a frame has read that frame
    config.optimizer.learning_rate = 4e-3
    config.train.batch_size = 16
    config.train.steps = 600
    config.train.eval_every = 100
    return config


def get_sweep(config):
    return Sweep(variants={"GRU": {}}, replicates=[{"seed": seed} for seed in range(5)])
