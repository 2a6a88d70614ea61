"""What a benchmark of an experiment's config works on."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gru_audio.config import default_config, flatten, override
from gru_audio.data.group import GroupData, gather_data
from gru_audio.data.resident import Mixing
from gru_audio.data.source import Source
from gru_audio.data.stream import Reader
from gru_audio.tasks import target_field
from gru_audio.training.feed import FEEDS, Feed
from gru_audio.training.hyper import hyperparameters, mixing
from gru_audio.training.parallel import Layout, make_layout
from gru_audio.training.program import make_program
from gru_audio.training.step import Program

_ONE_DEVICE = {"parallel.mode": "pjit", "parallel.data": 1, "parallel.member": 1}
# What a plain classifier takes over from an experiment: its data, its size and how it begins.
_TAKEN_OVER = (
    *("seed", "data.", "parallel."),
    *("frontend.normalise", "frontend.window_ms", "frontend.hop_ms", "frontend.n_fft"),
    *("frontend.mels", "frontend.f_min", "frontend.f_max", "frontend.floor"),
    *("model.cell", "model.hidden", "model.layers", "model.implementation"),
    *("model.kernel_init", "model.recurrent_init", "model.forget_bias"),
    *("model.output_init", "model.output_bias"),
    *("optimizer.learning_rate", "train.batch_size", "train.steps"),
)
_PLAIN = {"optimizer.schedule": "constant", "optimizer.warmup_steps": 0}
_HORIZON = 100_000  # steps, more than any benchmark takes

Row = dict[str, Any]  # of a result: JSON


@dataclass(frozen=True)
class Setting:
    """A config, and what follows from it."""

    config: ConfigDict
    program: Program
    layout: Layout
    data: GroupData
    hyper: dict[str, np.ndarray]

    @property
    def batch_size(self) -> int:
        return self.data.plan.batch_size

    @property
    def mixing(self) -> Mixing:
        return mixing(self.hyper)

    def feed(self, kind: str) -> Feed:
        """A new feed, "resident" or "streamed"."""
        threads = self.config.data.workers
        return FEEDS[kind](self.program, self.layout, self.data, self.mixing, _HORIZON, threads)

    def reader(self) -> Reader:
        """What reads the plan's batches on the host."""
        rows = np.arange(self.batch_size, dtype=np.int32)
        return self.data.reader(range(len(self.data.seeds)), rows, self.mixing)


def make_setting(
    config: ConfigDict, source: Source, parallel: Mapping[str, Any] | None = None, members: int = 1
) -> Setting:
    """The setting of a config on its data set: of one run on one device, if not said otherwise.

    Args:
      config: an experiment's.
      source: its data set.
      parallel: what to change in where it runs, by dotted names.
      members: runs, which differ in their seeds.
    """
    config = override(config, _ONE_DEVICE | dict(parallel or {}))
    configs = [override(config, {"seed": config.seed + m}) for m in range(members)]
    program = make_program(config, source.signal, target_field(source, config))
    labels = program.task.labels(source.values(config.data.target))
    return Setting(
        config=config,
        program=program,
        layout=make_layout(config.parallel, members),
        data=gather_data(source, configs, labels),
        hyper=hyperparameters(configs),
    )


def plain(config: ConfigDict) -> ConfigDict:
    """A model and a step that PyTorch can have too, without random numbers.

    Layers of a cell on normalised log-mel, the last state of which one dense layer reads, trained
    by clipped Adam. What an experiment asks beside their sizes is as in the default config.
    """
    taken = {name: value for name, value in flatten(config).items() if name.startswith(_TAKEN_OVER)}
    return override(default_config(), taken | _PLAIN)


def say(text: str) -> None:
    """What a benchmark is about to do, to the user who waits."""
    print(text, file=sys.stderr, flush=True)
