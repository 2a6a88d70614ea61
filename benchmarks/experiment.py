"""A run or a group of runs of an experiment's config, ready to take steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.harness import Contestant
from gru_audio.config import default_config, flatten, override
from gru_audio.data.group import GroupData, gather_data
from gru_audio.data.resident import Batch, Mixing
from gru_audio.data.source import Source, open_source
from gru_audio.data.stream import Reader
from gru_audio.tasks import target_field
from gru_audio.training.hyper import hyperparameters, mixing
from gru_audio.training.loader import LOADERS, Loader
from gru_audio.training.placement import Placement, make_placement
from gru_audio.training.program import make_program
from gru_audio.training.step import Program, TrainState

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
_MAX_STEPS = 100_000  # more than any benchmark takes


@dataclass(frozen=True)
class Setting:
    """A config, and what follows from it."""

    config: ConfigDict
    program: Program
    placement: Placement
    data: GroupData
    hyper: dict[str, np.ndarray]

    @property
    def batch_size(self) -> int:
        return self.data.plan.batch_size

    @property
    def mixing(self) -> Mixing:
        return mixing(self.hyper)

    def loader(self, kind: str) -> Loader:
        """A new loader, "resident" or "streamed"."""
        threads = self.config.data.workers
        return LOADERS[kind](
            self.program, replace(self.placement), self.data, self.mixing, _MAX_STEPS, threads
        )

    def reader(self) -> Reader:
        """Reads the plan's batches on the host."""
        rows = np.arange(self.batch_size, dtype=np.int32)
        return self.data.reader(range(len(self.data.seeds)), rows, self.mixing)

    def start(self) -> tuple[Batch, TrainState]:
        """The first batch of the length that most steps have, and the state to begin with."""
        sizes = list(map(len, self.data.tables[0]))
        batch, _ = self.reader().step(int(np.argmax(sizes)), 0)
        return batch, self.loader("streamed").initial_state(self.hyper)


def source_of(config: ConfigDict) -> Source:
    """The data set of a config.

    Raises:
      UserError: it is not prepared.
    """
    return open_source(config.data.name, config.data.dir)


def make_setting(
    config: ConfigDict, source: Source, parallel: Mapping[str, Any] | None = None, members: int = 1
) -> Setting:
    """The setting of a config on its data set: one run on one device, if not said otherwise.

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
        placement=make_placement(config.parallel, members),
        data=gather_data(source, configs, labels),
        hyper=hyperparameters(configs),
    )


def plain(config: ConfigDict) -> ConfigDict:
    """A model and a step that PyTorch can have too, without random numbers.

    Layers of a cell on normalised log-mel, the last state of which one dense layer reads, trained
    by clipped Adam. All settings but their sizes are those of the default config.
    """
    taken = {name: value for name, value in flatten(config).items() if name.startswith(_TAKEN_OVER)}
    return override(default_config(), taken | _PLAIN)


def training(
    setting: Setting, steps: int, work: float = 1.0, losses_of: int = 0
) -> Callable[[], Contestant]:
    """Makes a contestant that trains on resident data.

    Args:
      setting: of the runs.
      steps: of a turn.
      work: of a step.
      losses_of: so many first steps, before the rounds, whose losses are kept as "losses".
    """

    def make() -> Contestant:
        loader, alive = setting.loader("resident"), np.ones(len(setting.data.seeds), bool)
        state = loader.initial_state(setting.hyper)
        losses = []
        if losses_of:
            state, metrics = loader.train(state, alive, 0, losses_of)
            losses = np.asarray(metrics["loss"]).tolist()

        def turn(round_: int) -> None:
            nonlocal state
            start = losses_of + round_ * steps
            state, _ = loader.train(state, alive, start, start + steps)

        turn(0)  # compiles
        about = {
            "memory_bytes": loader.placement.memory_bytes,
            "compile_seconds": loader.placement.compile_time.wall,
        }
        return Contestant(turn, steps, work, about | ({"losses": losses} if losses else {}))

    return make


def first(tree):
    """The first member of a tree that is stacked over members."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
