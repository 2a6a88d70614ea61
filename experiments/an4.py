r"""Speech to text on AN4: GRU, LSTM, Li-GRU, tanh RNN and a causal GRU at equal parameters.

  python -m gru_audio.prepare an4
  python -m gru_audio.sweep --config experiments/an4.py --workdir runs/an4
  python -m gru_audio.evaluate --workdir runs/an4 --run GRU-seed0 --beam 16 --lm train

People spell names and say dates, numbers and commands: 948 utterances train, 130 of other speakers
test. The model outputs characters (CTC). Part mfcc trains on the 13 features of `prepare an4_mfcc`
instead of sound, without changes of speed.

15 runs in 5 programs take about 3.5 CPU hours. Test character error rate: Li-GRU 4.9 %, LSTM 5.6,
GRU 6.6, tanh RNN 8.5, causal GRU 8.5; only that the GRU is better than the tanh RNN is shown.
With a beam of 16 and a bigram of the training texts, seed 0 of the Li-GRU has a word error rate
of 8.4 %, LSTM 8.8, GRU 9.4, causal GRU 12.4; on the 104 sentences that training lacks 9.8, 10.2,
10.7 and 13.5 %.
"""

from gru_audio.config import default_config, override
from gru_audio.settings import choose
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep

PARTS = {
    "sound": {"data.name": "an4", "frontend.name": "mfcc", "augment.speed": 0.1},
    "mfcc": {"data.name": "an4_mfcc", "frontend.name": "frames"},
}

PUBLISHED = dict(
    source="Results of toolkits on the AN4 test set of 130 utterances",
    measure="character error rate of greedy decoding, without a language model",
    peers={
        "ESPnet1, BLSTMP with CTC only (egs/an4/asr1/RESULTS)": 0.126,
        "DeepSpeech.pytorch, five bidirectional GRUs (second hand, its issue 698)": 0.0515,
        "ESPnet2, transformer with a language model (egs2/an4/asr1/README.md)": 0.036,
    },
)


def get_config(part="sound"):
    config = override(default_config(), choose("part", part, PARTS))
    config.data.target = "text"
    config.data.buckets = 3
    config.data.cluster = "speaker"
    config.task.name = "ctc"
    config.frontend.deltas = 2
    config.frontend.stack = 4
    config.model.layers = 2
    config.model.hidden = 160
    config.model.bidirectional = True
    config.model.dropout = 0.4
    config.augment.time_masks = 2
    config.augment.time_mask_ms = 200.0
    config.optimizer.learning_rate = 3e-3
    config.train.batch_size = 32
    config.train.steps = 2000
    config.train.eval_every = 100
    config.train.select = "validation/cer"
    return config


def get_sweep(config):
    variants = {
        "GRU": {"model.cell": "gru"},
        "LSTM": {"model.cell": "lstm"},
        "Li-GRU": {"model.cell": "li_gru"},
        "tanh RNN": {"model.cell": "rnn"},
        "GRU, causal": {"model.bidirectional": False},
    }
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
