"""The default config, and the checks that stop a bad one before any work is done.

An experiment's `get_config()` starts from `default_config()` and changes what differs. Every key
has a default here, so `--config.a.b=value` can reach all of them. A field that may stay open is a
`placeholder`: it takes a value from the command line, and `None` means "choose for me".
"""

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

T = TypeVar("T")


class UserError(ValueError):
    """Something the user can put right: commands print the message alone, without a traceback."""


_LISTED = 20  # choices; more are not all shown


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint that names the choice closest to `name`, and the choices unless they are many."""
    choices = sorted(choices)
    parts = [part.strip() for part in name.split(";")]
    if len(parts) > 1 and set(parts) <= set(choices):
        return f" Separate them by commas: {','.join(parts)}"
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return hint + (f" Valid: {', '.join(choices)}." if len(choices) <= _LISTED else "")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Returns ``table[name]``, or raises a `UserError` with the nearest name that is there.

    Args:
      kind: what the table holds, for the message: "cell", "pooling", ...
      name: the key asked for.
      table: what may be asked for.
    """
    if name not in table:
        raise UserError(f'Unknown {kind} "{name}".{nearest(name, table)}')
    return table[name]


def default_config() -> ConfigDict:
    """Everything a run depends on. The comments say what a value means and in which unit."""
    config = ConfigDict()
    config.seed = 0  # of one run: initialisation, order of examples, noise

    config.data = ConfigDict()
    config.data.name = "spoken_digit"  # as given to `gru_audio.prepare`
    config.data.dir = placeholder(str)  # where `prepare` put it; None: $GRU_AUDIO_DATA or the cache
    config.data.target = "digit"  # the field to predict; "" where the task needs none
    config.data.train = "train"  # splits, joined by "+"
    config.data.validation = (
        "validation"  # "" trains without one; or "fold=4" of what is trained on
    )
    config.data.test = "test"
    config.data.hold_out = ""  # "speaker=theo" tests on all of theo and trains on nothing of him
    config.data.background = ""  # "label=noise": training examples that are mixed into others
    config.data.cluster = ""  # the field whose examples belong together when intervals are made
    config.data.crop_seconds = placeholder(float)  # longer clips are cut: at random in training
    config.data.train_examples = 0  # so many of the training split, drawn by the seed; 0: all
    config.data.train_scored = 5000  # of them so many are scored once all is learnt; 0: all
    config.data.feed = "resident"  # "resident": in device memory; "streamed": from disk by Grain
    config.data.buckets = 4  # at most this many padded lengths
    config.data.seed = 0  # of the order in which lengths follow each other: one for all runs
    config.data.workers = 2  # reading threads of a streamed feed

    config.frontend = ConfigDict()
    # "log_mel", "mfcc", "pcen" or "raw"; "frames" for what is no sound
    config.frontend.name = "log_mel"
    config.frontend.normalise = True  # by mean and deviation of each feature in the training split
    config.frontend.window_ms = 25.0
    config.frontend.hop_ms = 10.0
    config.frontend.n_fft = placeholder(int)  # None: the power of two that holds a window
    config.frontend.mels = 40
    config.frontend.coefficients = 20  # of MFCC
    config.frontend.f_min = 20.0  # Hz
    config.frontend.f_max = placeholder(float)  # Hz; None: half the sample rate
    config.frontend.floor = 1e-6  # the least mel power; of PCEN: added to the smoothed one
    config.frontend.pcen_gain = 0.98  # how much of a band's smoothed power PCEN divides by
    config.frontend.pcen_bias = 2.0  # what it adds before its root,
    config.frontend.pcen_power = 0.5  # which is this power
    config.frontend.pcen_smoothing = 0.025  # what a frame weighs in the smoothed power
    config.frontend.frame_size = 80  # samples in a raw frame
    config.frontend.deltas = 0  # 1 adds the features' slopes over time, 2 also their curvatures,
    config.frontend.delta_frames = 4  # fitted to so many frames to either side

    config.augment = ConfigDict()  # each is off at zero
    config.augment.speed = 0.0  # up to this much faster or slower, and higher or lower: 0.1
    config.augment.time_shift_ms = 0.0
    config.augment.gain_db = 0.0
    config.augment.background = 0.0  # share of examples that are mixed with `data.background`,
    config.augment.snr_min_db = 0.0  # at signal-to-noise ratios from this
    config.augment.snr_max_db = 0.0  # to this
    config.augment.mixup = 0.0  # alpha of Beta(alpha, alpha)
    config.augment.time_masks = 0
    config.augment.time_mask_ms = 0.0
    config.augment.frequency_masks = 0
    config.augment.frequency_mask_bands = 0.0

    config.model = ConfigDict()
    config.model.name = "rnn_classifier"  # "rnn_classifier", "crnn", "cnn" or "tcn"
    # "gru", "gru_reset_before", "li_gru", "lstm", "lstm_peephole", "min_gru", "min_lstm" or "rnn"
    config.model.cell = "gru"
    config.model.hidden = 128
    config.model.layers = 1
    config.model.bidirectional = False
    config.model.layer_norm = False
    config.model.projection = 0  # of an LSTM's output, to so many units; 0: none
    config.model.dropout = 0.0  # between layers and before the output; a TCN: after convolutions
    config.model.pooling = "last"  # "last", "mean", "max", "attention", "multi_head_attention"
    config.model.heads = 4  # of multi-head attention
    config.model.dense = ()  # layers between pooling and output: ("64 relu", "32 linear")
    config.model.output_init = "lecun_normal"  # what the output's weights begin with
    config.model.output_bias = 0.0  # and its biases
    config.model.kernel_init = "lecun_normal"
    config.model.recurrent_init = "orthogonal"
    config.model.forget_bias = 1.0
    config.model.implementation = "auto"  # of the recurrence; all give the same numbers
    config.model.compute_dtype = "float32"  # or "bfloat16"; parameters and outputs stay float32
    config.model.remat_frames = 0  # the backward pass computes so many frames anew; 0: keeps all
    # Of a CRNN or CNN: "CHANNELS TIMExFREQUENCY [stride TxF] [pool TxF]" for each block.
    config.model.conv = ("16 3x3 stride 1x2", "32 3x3 stride 1x2")
    config.model.conv_norm = True  # batch norm after a convolution; False: a bias
    config.model.conv_padding = "same"  # or "valid": no output of less than a whole window
    config.model.channels = 1  # the features are so many blocks of bands (frontend.deltas + 1)
    config.model.tcn_kernel = 3  # frames that each convolution of a TCN reads

    config.task = ConfigDict()
    config.task.name = (
        "classification"  # "tagging", "next_step", "adding", "copy_memory", "counting"
    )
    config.task.label_smoothing = 0.0
    config.task.distribution = "bernoulli"  # of the next step's values, or "gaussian"
    config.task.first_frame = True  # the next step also foretells the first frame, from zeros

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # "adam", "adamw", "rmsprop" or "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"  # "constant", "cosine", "linear" or "exponential"
    config.optimizer.warmup_steps = 50
    config.optimizer.final_fraction = 0.01  # of the learning rate, where a schedule ends
    config.optimizer.weight_decay = 0.0  # decoupled for adamw, in the gradient elsewhere
    config.optimizer.clip_norm = 1.0  # global gradient norm; 0: no clipping
    config.optimizer.momentum = 0.0  # of rmsprop and sgd
    config.optimizer.b1 = 0.9  # of adam and adamw, as b2
    config.optimizer.b2 = 0.999
    config.optimizer.decay = 0.9  # of rmsprop
    config.optimizer.eps = 1e-8

    config.train = ConfigDict()
    config.train.batch_size = 32
    config.train.steps = 3000
    config.train.accumulate = 1  # parts of a batch that go through the model one after another
    config.train.truncate_frames = 0  # gradients flow back through so many frames; 0: through all
    config.train.skip_nonfinite = 0  # updates left out for NaN or infinity before a run stops
    config.train.weight_noise = 0.0  # standard deviation, drawn anew each update
    config.train.log_every = 50  # steps averaged in one record
    config.train.eval_every = 200  # steps between looks at the validation split
    config.train.select = "validation/loss"  # the metric that picks the best parameters
    config.train.patience = 0  # looks without improvement before a run stops; 0: never

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 0  # 0: by time alone
    config.checkpoint.every_seconds = 60.0
    config.checkpoint.keep = 2

    config.parallel = ConfigDict()
    config.parallel.mode = "pjit"  # "pjit" or "pmap"
    config.parallel.data = 1  # devices that share a batch
    config.parallel.member = 0  # devices that share the runs of a group; 0: all that are left
    config.parallel.call_seconds = 2.0  # aimed length of one call to the device
    config.parallel.side_by_side = placeholder(int)  # runs that a device steps at a time; 0: those
    # that fit its memory; None: one on a CPU, else 0
    config.parallel.memory_gb = placeholder(float)  # GiB of a device to use; None: nearly all
    config.parallel.repack_gain = 2.0  # seconds saved to those of compiling for fewer members
    config.parallel.deterministic = False  # on a GPU: the same bits each time, more slowly
    config.parallel.coordinator = ""  # "": one process; "auto": JAX finds the others; or HOST:PORT
    config.parallel.processes = 1  # with HOST:PORT: how many,
    config.parallel.process = 0  # and which of them this is
    return config.lock()


# Where and how fast a run goes, how often it saves: a resumed run may change these.
_OF_THE_MACHINE = ("data.dir", "data.workers", "checkpoint.", "parallel.")


def decides_numbers(name: str) -> bool:
    """Whether the results of a run may depend on a config key (a dotted name)."""
    return not name.startswith(_OF_THE_MACHINE)


def flatten(config: ConfigDict) -> dict[str, Any]:
    """The config as one level: dotted names in order, tuples as lists (so that JSON keeps them)."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{key}.{name}": inner for name, inner in flatten(value).items()}
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    return dict(sorted(flat.items()))


def override(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with dotted names changed; an unknown name or wrong type is an error."""
    config = copy.deepcopy(config)  # which keeps the types of placeholders
    known = flatten(config)
    for name, value in changes.items():
        if name not in known:
            raise UserError(f'Unknown config key "{name}".{nearest(name, known)}')
        if isinstance(value, list):  # as JSON gives back a tuple
            value = tuple(value)
        try:
            config.update_from_flattened_dict({name: value})
        except TypeError as error:
            raise UserError(f"Config key {name}: {error}") from error
    return config


class _Range(NamedTuple):
    """What a number of the config may be; the ends are included unless `above` or `below`."""

    least: float
    most: float
    above: bool = False
    below: bool = False

    def refusal(self, value: Any) -> str | None:
        """Why it may not be this value; None if it may."""
        lower = f"{'above' if self.above else 'at least'} {self.least}"
        upper = f"{'below' if self.below else 'at most'} {self.most}"
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            return f"must be a number, {lower} and {upper}"
        if value < self.least or (self.above and value == self.least):
            return f"must be {lower}" if self.most > 1 else f"must be {lower} and {upper}"
        if value > self.most or (self.below and np.float32(value) >= self.most):
            return f"must be {upper}" if self.most > 1 else f"must be {lower} and {upper}"
        return None


_COUNT = 2**31 - 1  # steps, frames and examples are int32
_FLOAT = 3e38  # nearly the largest float32
_MINUTE = 60_000.0  # ms
_SHARE = _Range(0, 1)
_FRACTION = _Range(0, 1, below=True)  # also once it is rounded to float32
_COUNTED, _ANY_COUNT = _Range(1, _COUNT), _Range(0, _COUNT)
_MILLISECONDS = _Range(0, _MINUTE, above=True)
_POSITIVE_SHARE = _Range(0, 1, above=True)

# Of every number in the config. The upper ends are far beyond use: they keep what a stranger's
# config could ask for in time and memory within bounds, before anything is made of that size.
_RANGES: Mapping[str, _Range] = {
    "seed": _Range(0, 2**32 - 1),
    "data.crop_seconds": _Range(0, 1e6, above=True),
    "data.train_examples": _ANY_COUNT,
    "data.train_scored": _ANY_COUNT,
    "data.buckets": _Range(1, 1000),
    "data.seed": _Range(0, 2**32 - 1),
    "data.workers": _Range(1, 256),
    "frontend.window_ms": _MILLISECONDS,
    "frontend.hop_ms": _MILLISECONDS,
    "frontend.n_fft": _Range(2, 2**17),
    "frontend.mels": _Range(1, 4096),
    "frontend.coefficients": _Range(1, 4096),
    "frontend.f_min": _Range(0, 1e7),
    "frontend.f_max": _Range(0, 1e7, above=True),
    "frontend.floor": _Range(1e-30, 1e6),
    "frontend.pcen_gain": _Range(0, 100),
    "frontend.pcen_bias": _Range(0, 1e6),
    "frontend.pcen_power": _POSITIVE_SHARE,
    "frontend.pcen_smoothing": _POSITIVE_SHARE,
    "frontend.frame_size": _Range(1, 2**17),
    "frontend.deltas": _Range(0, 2),
    "frontend.delta_frames": _Range(1, 100),
    "augment.speed": _FRACTION,
    "augment.time_shift_ms": _Range(0, _MINUTE),
    "augment.gain_db": _Range(0, 200),
    "augment.background": _SHARE,
    "augment.snr_min_db": _Range(-200, 200),
    "augment.snr_max_db": _Range(-200, 200),
    "augment.mixup": _Range(0, 1000),
    "augment.time_masks": _Range(0, 1000),
    "augment.time_mask_ms": _Range(0, _MINUTE),
    "augment.frequency_masks": _Range(0, 1000),
    "augment.frequency_mask_bands": _Range(0, 4096),
    "model.hidden": _Range(1, 2**16),
    "model.layers": _Range(1, 64),
    "model.projection": _Range(0, 2**16),
    "model.dropout": _FRACTION,
    "model.heads": _Range(1, 1024),
    "model.output_bias": _Range(-1e6, 1e6),
    "model.forget_bias": _Range(-1e6, 1e6),
    "model.remat_frames": _ANY_COUNT,
    "model.channels": _Range(1, 2**16),
    "model.tcn_kernel": _Range(1, 100),
    "task.label_smoothing": _FRACTION,
    "optimizer.learning_rate": _Range(0, _FLOAT),
    "optimizer.warmup_steps": _ANY_COUNT,
    "optimizer.final_fraction": _FRACTION,
    "optimizer.weight_decay": _Range(0, _FLOAT),
    "optimizer.clip_norm": _Range(0, _FLOAT),
    "optimizer.momentum": _FRACTION,
    "optimizer.b1": _FRACTION,
    "optimizer.b2": _FRACTION,
    "optimizer.decay": _FRACTION,
    "optimizer.eps": _Range(0, 1e6),
    "train.batch_size": _Range(1, 2**20),
    "train.steps": _COUNTED,
    "train.accumulate": _Range(1, 2**20),
    "train.truncate_frames": _ANY_COUNT,
    "train.skip_nonfinite": _ANY_COUNT,
    "train.weight_noise": _Range(0, _FLOAT),
    "train.log_every": _COUNTED,
    "train.eval_every": _COUNTED,
    "train.patience": _ANY_COUNT,
    "checkpoint.every_steps": _ANY_COUNT,
    "checkpoint.every_seconds": _Range(0, 1e9),
    "checkpoint.keep": _Range(1, 10**6),
    "parallel.data": _Range(1, 2**20),
    "parallel.member": _Range(0, 2**20),
    "parallel.call_seconds": _Range(0, 1e9),
    "parallel.side_by_side": _Range(0, 2**20),
    "parallel.memory_gb": _Range(0, 1e6, above=True),
    "parallel.repack_gain": _Range(0, 1e9),
    "parallel.processes": _Range(1, 2**20),
    "parallel.process": _Range(0, 2**20),
}
_MAY_STAY_OPEN = {name for name, value in flatten(default_config()).items() if value is None}
_CHOICES = {
    "data.feed": ("resident", "streamed"),
    "model.compute_dtype": ("float32", "bfloat16"),
    "model.conv_padding": ("same", "valid"),
    "parallel.mode": ("pjit", "pmap"),
}


def check(config: ConfigDict) -> None:
    """Raises `UserError` for values that no run could use, whatever its data."""
    flat = flatten(config)
    for name, allowed in _RANGES.items():
        value = flat[name]
        if value is None and name in _MAY_STAY_OPEN:
            continue
        if refusal := allowed.refusal(value):
            raise UserError(f"config.{name}={value} {refusal}.")
    for name, choices in _CHOICES.items():
        if flat[name] not in choices:
            raise UserError(
                f'config.{name}="{flat[name]}" is unknown.{nearest(flat[name], choices)}'
            )
    parts = config.parallel.data * config.train.accumulate
    if config.train.batch_size % parts:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} must be a multiple of "
            f"config.parallel.data x config.train.accumulate = {parts}."
        )
    if config.augment.background and not config.data.background:
        raise UserError(
            "config.augment.background needs examples to mix in: config.data.background, such as "
            '"label=noise".'
        )
    if config.augment.snr_min_db > config.augment.snr_max_db:
        raise UserError("config.augment.snr_min_db must be at most config.augment.snr_max_db.")
    of_masks = {"time_masks": "time_mask_ms", "frequency_masks": "frequency_mask_bands"}
    for masks, width in of_masks.items():
        if bool(config.augment[masks]) != bool(config.augment[width]):
            raise UserError(f"config.augment.{masks} and {width} do something together only.")
    if not config.data.validation and config.train.patience:
        raise UserError("config.train.patience needs a validation split (config.data.validation).")
