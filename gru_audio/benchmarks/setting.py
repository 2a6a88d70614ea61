"""What a benchmark of an experiment's config works on."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gru_audio.config import override
from gru_audio.data.group import GroupData, gather_data
from gru_audio.data.resident import Mixing
from gru_audio.data.source import Source
from gru_audio.data.stream import Reader
from gru_audio.training.feed import FEEDS, Feed
from gru_audio.training.hyper import hyperparameters, mixing
from gru_audio.training.parallel import Layout, make_layout
from gru_audio.training.program import make_program
from gru_audio.training.step import Program

_ONE_DEVICE = {"parallel.mode": "pjit", "parallel.data": 1, "parallel.member": 1}
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
    names = source.class_names.get(config.data.target, ())
    return Setting(
        config=config,
        program=make_program(config, source.signal, names),
        layout=make_layout(config.parallel, members),
        data=gather_data(source, configs),
        hyper=hyperparameters(configs),
    )


def say(text: str) -> None:
    """What a benchmark is about to do, to the user who waits."""
    print(text, file=sys.stderr, flush=True)
