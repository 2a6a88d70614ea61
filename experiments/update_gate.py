r"""Interpretability: does the update gate of a GRU tell where a bird's syllables begin?

A GRU foretells the next 5 ms of a Bengalese finch's song, and hears of no annotation. Which scores
of frames then tell the annotated onsets of syllables: those of its update gate, or of energy? The
data are Bird 0 of Koumura's BirdsongRecognition (doi 10.6084/m9.figshare.3470165.v1) at 16 kHz as
an ARCHIVE of audio/*.ogg, with files.csv (filename, samples, split) and annotations.tsv (filename,
onset in seconds).

  awk -F, '{print NR == 1 ? "file,label,split" : "audio/" $1 ",bird0," $3}' files.csv > songs.csv
  python -m gru_audio.prepare manifest --name birdsong --manifest songs.csv --archive ARCHIVE
  python -m gru_audio.sweep --config experiments/update_gate.py --workdir runs/update_gate
  python experiments/update_gate.py --workdir runs/update_gate --annotations annotations.tsv

Of every score, what is free is chosen on the validation recordings, by the measure in question:
sign, span of a rise, smoothing, lag, unit (always by AUC), threshold of peaks. So is the best score
of each family, by its mean over seeds. Gates are better than energy if the 95 % interval of the
difference lies above zero, worse if below; otherwise no difference is shown.
"""

import argparse
import csv
import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.config import default_config
from gru_audio.data.resident import Batch
from gru_audio.data.source import open_source
from gru_audio.reporting import statistics
from gru_audio.reporting.onsets import (
    Detector,
    area_under_roc,
    f_measure,
    near,
    peaks,
)
from gru_audio.sweeping.sweep import Sweep
from gru_audio.sweeping.workdir import Workdir
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.trained import Trained

RESULT = Path(__file__).parent / "results" / "update_gate.onsets.csv"
SEEDS = range(5)
LAYER = "encoder/forward_0"

NEAR = 0.01  # seconds between an onset and the frames that tell it, for the AUC
TOLERANCE = 0.02  # seconds between an onset and a peak that finds it, for F1
APART = 0.03  # seconds between peaks, at least
THRESHOLDS = np.linspace(0, 1, 25)[:-1]  # quantiles of the peaks' heights
SPANS = (1, 2, 4)  # frames of 5 ms, as the next two
LAGS = (-2, 0, 2, 4)
SMOOTHS = (1, 3)


def get_config():
    config = default_config()
    config.data.name = "birdsong"
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
    config.task.first_frame = False  # so that the gate of a frame has seen that frame
    config.optimizer.learning_rate = 4e-3
    config.train.batch_size = 16
    config.train.steps = 600
    config.train.eval_every = 100
    return config


def get_sweep(config):
    return Sweep(arms={"GRU": {}}, replicates=[{"seed": seed} for seed in SEEDS])


