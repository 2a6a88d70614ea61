r"""Keyword spotting with 12 labels: does attention over frames improve a bidirectional GRU?

  python -m gru_audio.prepare speech_commands
  python -m gru_audio.sweep --config experiments/attention.py:small --workdir runs/attention-small

Parts: small, for a laptop; kws_streaming, the MHAtt-RNN of Rybakov et al. 2020 and variants of the
same size, for an accelerator and the whole of Speech Commands.

Part small has 12 runs in 4 programs, with 400 updates and 62,000 parameters. It takes about 12
minutes. Test accuracy: learnt score 75.4 %, four heads 71.1, one head 69.3, last state 59.5. Three
seeds show no difference between any two variants. Part kws_streaming was not run.
"""

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

PARTS = {
    "small": {"model.hidden": 48, "train.steps": 400, "optimizer.learning_rate": 4e-3},
    "kws_streaming": {
        **{"model.hidden": 128, "model.layers": 2, "model.dense": ("64 relu", "32 linear")},
        **{"train.steps": 80_000, "train.eval_every": 2000},
    },
}

PUBLISHED = dict(
    source="Rybakov et al. 2020, Streaming keyword spotting on mobile devices, arXiv 2005.06720",
    measure="test accuracy; the paper uses the whole of Speech Commands v0.02, ours the part that "
    "speech_commands_12 describes, so the values cannot be compared",
    peers={
        "MHAtt-RNN, 743,025 parameters": 0.979,
        "CRNN, 467,000": 0.974,
        "LSTM with projection, 545,000": 0.973,
    },
    guessed=("Adam with a cosine schedule, where the paper has four rate steps; batches of 100",),
)


def get_config(part="small"):
    config = default_config()
    config.data.name = "speech_commands"
    config.data.target = "command"
    config.data.cluster = "speaker"
    config.data.background = "command=_silence_"
    config.data.buckets = 1
    config.frontend.name = "mfcc"
    config.frontend.window_ms = 40.0
    config.frontend.n_fft = 640
    config.frontend.hop_ms = 20.0
    config.frontend.f_max = 7600.0
    config.augment.speed = 0.15
    config.augment.time_shift_ms = 100.0
    config.augment.background = 0.8
    config.augment.snr_min_db = 5.0
    config.augment.snr_max_db = 20.0
    config.augment.time_masks = 2
    config.augment.time_mask_ms = 200.0
    config.augment.frequency_masks = 2
    config.augment.frequency_mask_bands = 5.0
    config.model.name = "crnn"
    config.model.conv = ("10 5x1", "1 5x1")
    config.model.bidirectional = True
    config.model.dropout = 0.2
    config.train.batch_size = 100
    config.train.eval_every = 100
    return override(config, choose("part", part, PARTS))


def get_sweep(config):
    variants = {
        "four heads": {"model.pooling": "multi_head_attention"},
        "one head": {"model.pooling": "multi_head_attention", "model.heads": 1},
        "learnt score": {"model.pooling": "attention"},
        "last state": {"model.pooling": "last"},
    }
    variants = match_parameters(config, variants, to="four heads")
    return Sweep(variants, replicates=[{"seed": seed} for seed in range(3)])
