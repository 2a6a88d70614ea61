"""Runs of an experiment's config, set up for timing."""

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
from gru_audio.training.tuning import Tuning

_ONE_DEVICE = {"parallel.mode": "pjit", "parallel.data": 1, "parallel.member": 1}
# Keys that `plain` copies from an experiment: data, size and initialisation.
_COPIED = (
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
    """A config with the program, placement, data and hyperparameters that it defines."""

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
        """Makes a loader, "resident" or "streamed"."""
        threads = self.config.data.workers
        return LOADERS[kind](
            self.program, replace(self.placement), self.data, self.mixing, _MAX_STEPS, threads
        )

    def reader(self) -> Reader:
        """Makes a reader of the plan's batches on the host."""
        rows = np.arange(self.batch_size, dtype=np.int32)
        return self.data.reader(range(len(self.data.seeds)), rows, self.mixing)

    def start(self) -> tuple[Batch, TrainState]:
        """Returns the first batch of the most frequent length, and the initial state."""
        sizes = list(map(len, self.data.tables[0]))
        batch, _ = self.reader().step(int(np.argmax(sizes)), 0)
        return batch, self.loader("streamed").initial_state(self.hyper)


def source_of(config: ConfigDict) -> Source:
    """Opens the data set of a config.

    Raises:
      UserError: the data set is not prepared.
    """
    return open_source(config.data.name, config.data.dir)


def make_setting(
    config: ConfigDict,
    source: Source,
    parallel: Mapping[str, Any] | None = None,
    members: int = 1,
    tuning: Tuning | None = None,
) -> Setting:
    """Makes the setting of a config on its data set; by default, one run on one device.

    Args:
      config: config of an experiment.
      source: its data set.
      parallel: changes to `config.parallel`, by dotted name.
      members: number of runs, which differ in their seeds.
      tuning: measures the recurrences, as training does; None: "auto" follows its rule.
    """
    config = override(config, _ONE_DEVICE | dict(parallel or {}))
    configs = [override(config, {"seed": config.seed + m}) for m in range(members)]
    program = make_program(config, source.signal, target_field(source, config))
    labels = program.task.labels(source.values(config.data.target))
    return Setting(
        config=config,
        program=program,
        placement=replace(make_placement(config.parallel, members), tuning=tuning),
        data=gather_data(source, configs, labels, program.task.whole),
        hyper=hyperparameters(configs),
    )


def plain(config: ConfigDict) -> ConfigDict:
    """Returns the config of a model and a training step without random numbers.

    It is simple enough to be written in PyTorch: recurrent layers on normalised log-mel features, a
    linear output of the last state, and Adam with clipping. Sizes and initialisation are those of
    `config`. All other settings are the defaults.
    """
    copied = {name: value for name, value in flatten(config).items() if name.startswith(_COPIED)}
    return override(default_config(), copied | _PLAIN)


def training(
    setting: Setting, steps: int, work: float = 1.0, loss_steps: int = 0
) -> Callable[[], Contestant]:
    """Returns a maker of a contestant that trains on resident data.

    Args:
      setting: setting of the runs.
      steps: steps per turn.
      work: work of one step.
      loss_steps: number of steps before the first round. Their losses are in the row, as "losses".
    """

    def make() -> Contestant:
        loader, alive = setting.loader("resident"), np.ones(len(setting.data.seeds), bool)
        state = loader.initial_state(setting.hyper)
        losses = []
        if loss_steps:
            state, metrics = loader.train(state, alive, 0, loss_steps)
            losses = np.asarray(metrics["loss"]).tolist()

        def turn(round_: int) -> None:
            nonlocal state
            start = loss_steps + round_ * steps
            state, _ = loader.train(state, alive, start, start + steps)

        turn(0)  # compiles
        about = {
            "memory_bytes": loader.placement.memory_bytes,
            "compile_seconds": loader.placement.compile_time.wall,
        }
        return Contestant(turn, steps, work, about | ({"losses": losses} if losses else {}))

    return make


def first(tree):
    """Returns the first member of a tree whose leaves are (members, ...)."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
