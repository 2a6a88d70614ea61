"""Turns an experiment into groups that can start. All checks happen before any training."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ml_collections import ConfigDict

from gru_audio.config import check, flatten, override, settings_in
from gru_audio.data import index
from gru_audio.data.group import GroupData, gather_data
from gru_audio.data.source import Source, open_source
from gru_audio.data.split import never_trained_on, select
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.optuna import Search
from gru_audio.sweeps.pretrained import begin_group, digest, read_sources
from gru_audio.sweeps.shard import WHOLE, Shard, divide
from gru_audio.sweeps.sweep import Group, Run, Sweep, expand, group
from gru_audio.sweeps.workdir import Workdir, environment
from gru_audio.tasks import target_field
from gru_audio.tasks.metrics import metrics_of, named, selected
from gru_audio.training import distributed
from gru_audio.training.init import Start
from gru_audio.training.placement import make_placement
from gru_audio.training.program import make_program
from gru_audio.training.step import Program
from gru_audio.training.trackers import check_trackers

_REMARKS = 10  # number of remarks shown
_SAME_IN_ALL_RUNS = ("data.name", "data.target", "data.cluster", "task.tokens")


@dataclass(frozen=True)
class Plan:
    """A checked shard of a sweep, ready to start.

    Attributes:
      shards: the groups of every shard.
      shard: the shard to run.
      sweep: the whole sweep.
      source: the data set.
      programs, data: one for each group of the shard.
      starts: what the runs of each group of the shard begin with; None: random weights.
      sources: the trained models that runs of the sweep begin with, by digest.
      description: describes the whole sweep, for `sweep.json`.
      remarks: notes for the user on the shard's runs.
    """

    shards: list[list[Group]]
    shard: Shard
    sweep: Sweep
    source: Source
    programs: list[Program]
    data: list[GroupData]
    starts: list[Start | None]
    sources: dict[str, TrainedModel]
    description: dict[str, Any]
    remarks: list[str]

    @property
    def groups(self) -> list[Group]:
        """The groups of the shard."""
        return self.shards[self.shard.index - 1]

    @property
    def runs(self) -> list[Run]:
        """The runs of the shard."""
        return [run for of_group in self.groups for run in of_group.runs]


def plan(
    config: ConfigDict,
    sweep: Sweep,
    experiment: str,
    about: str,
    command: str,
    shard: Shard = WHOLE,
    workdir: Workdir | None = None,
) -> Plan:
    """Checks configs, data set, tasks, metrics and devices, and plans the groups of a shard.

    Args:
      config: the experiment's config with the overrides of the command line.
      sweep: variants, trials and replicates to expand the config with.
      experiment: the experiment's name.
      about: the experiment's docstring.
      command: the command line of the sweep.
      shard: the part of the sweep to run.
      workdir: of the sweep, for resuming without the sources of its weights; None: it is new.

    Raises:
      UserError: a check failed that would stop a run later.
    """
    check(config)
    check_trackers(config.log.trackers)
    if isinstance(sweep.trials, Search) and shard.count > 1:
        raise UserError("The rounds of a search follow one another: leave out --shard.")
    source = open_source(config.data.name, config.data.dir)
    config = _with_steps(config, sweep, source)
    runs = expand(config, sweep)
    for run in runs:
        check(run.config)
    _check_comparable(config, runs)
    groups = group(runs)
    if sweep.halving:
        _check_halving(sweep.halving, groups)
    # Halving compares the trials of a variant, so they must be in one group.
    unit: Callable[[Run], Hashable] = (lambda r: r.variant) if sweep.halving else (lambda r: r.name)
    shards = divide(groups, shard.count, unit)
    field = target_field(source, config)
    if config.data.cluster:
        source.classes(config.data.cluster, "config.data.cluster")
    sources = read_sources(runs, workdir)
    programs, data, starts, notes = [], [], [], []
    for of_group in shards[shard.index - 1]:
        configs = [run.config for run in of_group.runs]
        program = make_program(configs[0], source.signal, field)
        selected(
            metrics_of(program.task), configs[0].train.select
        )  # raises if there is no such metric
        programs.append(program)
        start, of_runs = begin_group(configs, program, sources)
        starts.append(start)
        notes.append(of_runs)
        labels = program.task.labels(source.values(config.data.target))
        data.append(gather_data(source, configs, labels, program.task.whole))
        placement = make_placement(configs[0].parallel, len(configs))  # checks the devices
        if configs[0].data.loader == "streamed":
            placement.check_streaming()
    program = make_program(config, source.signal, field)
    description = _describe(config, sweep, experiment, about, command, groups, source, program)
    digests = {name: digest(model) for name, model in sources.items()}
    description["sources"] = digests
    by_digest = {digests[name]: model for name, model in sources.items()}
    remarks = _remarks(source, shards[shard.index - 1], programs, data, notes)
    of_shard = programs, data, starts
    return Plan(shards, shard, sweep, source, *of_shard, by_digest, description, remarks)


def _with_steps(config: ConfigDict, sweep: Sweep, source: Source) -> ConfigDict:
    """Returns the config with as many steps as its epochs take in the first run of the sweep."""
    if not config.train.epochs:
        return config
    first = expand(config, sweep)[0].config  # its replicate may say what is held out
    examples = len(select(source, first.data, first.seed)["train"])
    steps = math.ceil(config.train.epochs * examples / config.train.batch_size)
    return override(config, {"train.steps": steps})


def _remarks(
    source: Source,
    groups: Sequence[Group],
    programs: Sequence[Program],
    data: Sequence[GroupData],
    notes: Sequence[Sequence[str]],
) -> list[str]:
    """Notes on the runs. Each appears once, with the runs it concerns.

    Args:
      notes: for each group, the notes on what its runs begin with; () if that is random weights.
    """
    runs: dict[str, list[str]] = {}
    for of_group, own in zip(groups, notes, strict=True):
        for run, remark in zip(of_group.runs, own, strict=False):
            runs.setdefault(remark, []).append(run.name)
    for of_group, program, of_data in zip(groups, programs, data, strict=True):
        frames = program.output_frames(source.columns[index.LENGTH])
        clips = source.columns[index.CLIP]
        for run, ids in zip(of_group.runs, of_data.ids, strict=True):
            values = source.values(run.config.data.target)
            for remark in (
                *never_trained_on(source, run.config.data, ids),
                *program.task.remarks(values, of_data.labels, frames, clips, ids),
            ):
                runs.setdefault(remark, []).append(run.name)
    remarks = [
        f"{names[0]}{f' and {len(names) - 1} more runs' if names[1:] else ''}: {remark}"
        for remark, names in runs.items()
    ]
    more = [f"and {len(remarks) - _REMARKS} more such notes"] if len(remarks) > _REMARKS else []
    return remarks[:_REMARKS] + more


def _check_comparable(config: ConfigDict, runs: Sequence[Run]) -> None:
    """Checks that all runs of a sweep share data set and target, so that metrics are comparable."""
    shared, settings = flatten(config), settings_in(config)
    for run in runs:
        for key, value in flatten(run.config).items():
            same = key in _SAME_IN_ALL_RUNS or (key in settings and settings[key].machine)
            if same and value != shared[key]:
                raise UserError(
                    f"Run {run.name} changes config.{key}, which all runs of a sweep share. "
                    f"Set it in the experiment's config or by --config.{key}."
                )


def _check_halving(halving: Halving, groups: Sequence[Group]) -> None:
    """Checks that a variant's trials train in one group and are evaluated at each rung."""
    home: dict[tuple[str, int], str] = {}
    for of_group in groups:
        for run in of_group.runs:
            if home.setdefault((run.variant, run.round), of_group.name) != of_group.name:
                raise UserError(
                    f"Halving: the runs of variant {run.variant} differ in more than numbers, so "
                    "one program cannot train them. Make separate variants of them."
                )
            train, data = run.config.train, run.config.data
            if not data.validation:
                raise UserError("Halving needs a validation split (config.data.validation).")
            halving.check(train.steps, train.eval_every)


def _describe(
    config: ConfigDict,
    sweep: Sweep,
    experiment: str,
    about: str,
    command: str,
    groups: Sequence[Group],
    source: Source,
    program: Program,
) -> dict[str, Any]:
    """Returns the contents of `sweep.json`, which a report needs besides the results."""
    task, cluster = program.task, config.data.cluster
    search = sweep.trials.description() if isinstance(sweep.trials, Search) else None
    trials = [] if isinstance(sweep.trials, Search) else [dict(trial) for trial in sweep.trials]
    return {
        "experiment": experiment,
        "description": about,
        "command": command,
        "config": flatten(config),
        "variants": {name: dict(changes) for name, changes in sweep.variants.items()},
        "trials": trials,
        "search": search,
        "replicates": [dict(replicate) for replicate in sweep.replicates],
        "halving": asdict(sweep.halving) if sweep.halving else None,
        "metric": named(metrics_of(task), sweep.metric, "Sweep: metric").name,
        "margin": sweep.margin,
        "selection": config.train.select,
        "target": config.data.target,
        "cluster": cluster or None,
        "class_names": list(task.output_names),
        "cluster_names": list(source.classes(cluster, "config.data.cluster")[1])
        if cluster
        else None,
        "data_fingerprint": source.fingerprint,
        "runs": [
            {
                "run": run.name,
                "variant": run.variant,
                "trial": dict(run.trial),
                "replicate": dict(run.replicate),
                "group": of_group.name,
            }
            for of_group in groups
            for run in of_group.runs
        ],
        "environment": environment() | distributed.environment(),
    }
