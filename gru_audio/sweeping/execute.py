"""Executes a sweep: group by group, keeping what is finished, resuming what is not."""

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gru_audio.config import UserError, check, decides_numbers, flatten, nearest
from gru_audio.data.source import Source, open_source
from gru_audio.data.split import ROLES, target
from gru_audio.models.size import count_parameters
from gru_audio.sweeping.halving import Halving, Race
from gru_audio.sweeping.shard import WHOLE, Shard, divide
from gru_audio.sweeping.status import read_groups
from gru_audio.sweeping.sweep import Group, Run, Sweep, expand, group
from gru_audio.sweeping.workdir import Workdir, environment, identity
from gru_audio.training import parallel, processes, states
from gru_audio.training.checkpoint import write_atomically
from gru_audio.training.feed import FEEDS, GroupData, gather_data
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.keeper import Keeper
from gru_audio.training.loop import Member, Memory, train
from gru_audio.training.metrics import write_run_metrics
from gru_audio.training.pack import Pack
from gru_audio.training.processes import Preempted, Preemption
from gru_audio.training.progress import TrainProgress
from gru_audio.training.step import Program, make_program
from gru_audio.training.trained import Trained

_SAME_IN_ALL_RUNS = ("data.name", "data.target", "data.cluster")


@dataclass(frozen=True)
class Plan:
    """A shard of a sweep that has been checked from end to end: it can start.

    Attributes:
      shards: the groups of every shard.
      shard: which of them this is.
      sweep: what they are parts of.
      source: the data set.
      programs, data: of each of the shard's own groups.
      description: of the whole sweep, for `sweep.json`.
    """

    shards: list[list[Group]]
    shard: Shard
    sweep: Sweep
    source: Source
    programs: list[Program]
    data: list[GroupData]
    description: dict[str, Any]

    @property
    def groups(self) -> list[Group]:
        """The shard's own."""
        return self.shards[self.shard.index - 1]

    @property
    def runs(self) -> list[Run]:
        """The shard's own."""
        return [run for of_group in self.groups for run in of_group.runs]


def plan(
    config: ConfigDict,
    sweep: Sweep,
    experiment: str,
    about: str,
    command: str,
    shard: Shard = WHOLE,
) -> Plan:
    """Checks everything that can be known before any work.

    Args:
      config: the experiment's, with the overrides of the command line.
      sweep: what to make of it.
      experiment: its name.
      about: what it is, its docstring.
      command: how it was started.
      shard: the part that is to be executed.

    Raises:
      UserError: anything that would stop a run later.
    """
    check(config)
    runs = expand(config, sweep)
    for run in runs:
        check(run.config)
    _check_comparable(config, runs)
    groups = group(runs)
    if sweep.halving:
        _check_halving(sweep.halving, groups)
    # Draws of an arm that compete must be in one group.
    unit: Callable[[Run], Hashable] = (lambda r: r.arm) if sweep.halving else (lambda r: r.name)
    shards = divide(groups, shard.count, unit)
    source = open_source(config.data.name, config.data.dir)
    names = source.class_names.get(config.data.target, ())
    target(source, config.data.target)
    if config.data.cluster:
        target(source, config.data.cluster)
    programs, data = [], []
    for of_group in shards[shard.index - 1]:
        configs = [run.config for run in of_group.runs]
        program = make_program(configs[0], source.sample_rate, names)
        _check_selection(configs[0], program)
        programs.append(program)
        data.append(gather_data(source, configs))
        parallel.make_layout(configs[0].parallel, len(configs))  # whether there are the devices
    program = make_program(config, source.sample_rate, names)
    description = _describe(config, sweep, experiment, about, command, groups, source, program)
    return Plan(shards, shard, sweep, source, programs, data, description)


def execute(planned: Plan, workdir: Workdir) -> list[str]:
    """Runs what is not finished of the shard; returns the names of its runs that failed.

    Raises:
      UserError: the workdir is in use or holds another sweep, or the processes differ.
      Preempted: SIGTERM; all is saved.
    """
    same = json.dumps(identity(planned.description), sort_keys=True)
    processes.check_same("experiment, config and data set", same)
    with contextlib.ExitStack() as stack:
        preemption = stack.enter_context(Preemption())
        processes.from_first(lambda: stack.enter_context(workdir.lock(planned.shard)))
        processes.from_first(lambda: workdir.claim(planned.description))
        for i, of_group in enumerate(planned.groups):
            if _finished(workdir, of_group):
                continue
            title = f"[{i + 1}/{len(planned.groups)}] {of_group.name} x{len(of_group.runs)}"
            try:
                _execute_group(planned, i, workdir, title, preemption)
            except Preempted:
                raise
            except Exception as error:
                if jax.process_count() > 1:
                    raise  # the others may be in the midst of the group
                # One group's failure must not cost the others a night.
                if isinstance(error, UserError):
                    print(f"{title}: {error}", file=sys.stderr)
                else:
                    traceback.print_exc()
                with contextlib.suppress(OSError):  # the disk may be what failed
                    failure = {"error": str(error), "type": type(error).__name__}
                    for run in of_group.runs:
                        if not workdir.finished(run.name):
                            workdir.save_failure(run.name, failure)
            if processes.greatest([preemption.asked])[0]:
                raise Preempted
        return processes.from_first(
            lambda: [run.name for run in planned.runs if not workdir.finished(run.name)]
        )


def _finished(workdir: Workdir, of_group: Group) -> bool:
    return processes.from_first(lambda: all(workdir.finished(run.name) for run in of_group.runs))


def _execute_group(
    planned: Plan, index: int, workdir: Workdir, title: str, preemption: Preemption
) -> None:
    """Trains one group to its end, scores it, and writes what is kept of its runs."""
    of_group, program, data = planned.groups[index], planned.programs[index], planned.data[index]
    configs = [run.config for run in of_group.runs]
    config, hyper = configs[0], hyperparameters(configs)
    layout = parallel.make_layout(config.parallel, len(configs))
    progress = TrainProgress(title, silent=not processes.first())
    directory = workdir.group(of_group.name)
    done = processes.from_first(lambda: _done(planned, of_group, workdir, progress.say))
    members = [
        Member(run.name, run.config.train.steps, its)
        for run, its in zip(of_group.runs, done, strict=True)
    ]
    race = _race(planned, of_group)
    keeper = Keeper(directory, config.checkpoint.keep, progress.say)
    with _told(keeper, of_group, planned.shard):
        with progress:
            progress.say(f"{title}: reading data, compiling")
            feed = FEEDS[config.data.feed](
                program=program,
                layout=layout,
                data=data,
                mixup="augment.mixup" in hyper,
                horizon=max(c.train.steps for c in configs),
                threads=config.data.workers,
            )
            pack = Pack(feed, feed.initial_state(hyper), config.parallel.repack_gain)
            losers = race.losers if race else None
            memory = train(pack, members, config, keeper, preemption, progress, losers)
        keeper.close()
        keeper.beat(states.SCORING)
        _finish(planned, of_group, pack, memory, keeper, workdir)


def _done(
    planned: Plan, of_group: Group, workdir: Workdir, say: Callable[[str], None]
) -> list[bool]:
    """Which runs other groups have finished; says what they have only begun."""
    missing = {run.name for run in of_group.runs if not workdir.finished(run.name)}
    if not workdir.group(of_group.name).exists():
        for other in read_groups(workdir.root):
            begun = [run for run in other["runs"] if run["run"] in missing and run["step"]]
            if begun:
                say(
                    f"{of_group.name}: of its runs {len(begun)} start anew that {other['group']} "
                    f"has begun; --shard {other['shard']} would resume them"
                )
    if planned.sweep.halving:  # those that compete have to be there
        return [False] * len(of_group.runs)
    return [run.name not in missing for run in of_group.runs]


def _race(planned: Plan, of_group: Group) -> Race | None:
    if planned.sweep.halving is None:
        return None
    return Race(
        halving=planned.sweep.halving,
        arms=[run.arm for run in of_group.runs],
        draws=[json.dumps(run.draw) for run in of_group.runs],
        higher_is_better=planned.description["selection_higher_is_better"],
    )


@contextlib.contextmanager
def _told(keeper: Keeper, of_group: Group, shard: Shard) -> Iterator[None]:
    """Lets lookers-on know that a group is at work, and how it ends."""
    runs = [{"run": run.name, "step": 0} for run in of_group.runs]
    keeper.beat(states.COMPILING, group=of_group.name, shard=str(shard), runs=runs)
    try:
        yield
    except Preempted:
        keeper.beat(states.PREEMPTED)
        raise
    except Exception as error:
        keeper.beat(states.FAILED, error=str(error))
        raise
    keeper.beat(states.FINISHED)


def _finish(
    planned: Plan,
    of_group: Group,
    pack: Pack,
    memory: Memory,
    keeper: Keeper,
    workdir: Workdir,
) -> None:
    """Scores the best weights on every split and writes each run's files, its result last."""
    data, program = pack.data, pack.program
    pack.unpack()
    scores = {role: pack.score(role, best=True) for role in ROLES}
    trained_states = jax.device_get(pack.states())
    if not processes.first():
        return
    records: dict[str, list] = {run.name: [] for run in of_group.runs}
    for record in keeper.records():
        records[record["run"]].append(record)
    cluster = of_group.runs[0].config.data.cluster
    clusters = target(planned.source, cluster) if cluster else np.full(len(data.target), -1)

    for m, run in enumerate(of_group.runs):
        if workdir.finished(run.name):  # before a kill, or beside a run that fails each time
            continue
        directory = workdir.run(run.name)
        write_atomically(directory / "config.json", json.dumps(flatten(run.config), indent=1))
        write_run_metrics(directory, records[run.name])
        if failure := memory.failure[m]:
            workdir.save_failure(run.name, failure | {"type": "FloatingPointError"})
            continue
        ids = data.ids[m]["test"]
        workdir.save_predictions(
            run.name,
            "test",
            {"example": ids, "label": data.labels(m, "test"), "cluster": clusters[ids]}
            | scores["test"][m],
        )
        weights, normalisation = jax.tree.map(
            lambda a, m=m: a[m], (trained_states.best, trained_states.normalisation)
        )
        trained = Trained(
            config=run.config,
            class_names=program.task.class_names,
            sample_rate=program.sample_rate,
            weights=weights,
            normalisation=normalisation,
            about={
                "run": run.name,
                "data_fingerprint": planned.source.fingerprint,
                "environment": planned.description["environment"],
            },
        )
        trained.save(workdir.model(run.name))
        share = memory.seconds * memory.last_step[m] / sum(memory.last_step)
        result = {
            "run": run.name,
            "arm": run.arm,
            "draw": dict(run.draw),
            "replicate": dict(run.replicate),
            "group": of_group.name,
            "steps": memory.last_step[m],
            "best_step": memory.best_step[m],
            "updates_left_out": memory.skipped[m],
            "stopped_at_rung": _rung(planned.sweep.halving, memory.dropped[m]),
            "stopped_early": memory.last_step[m] < run.config.train.steps,
            "parameters": {
                counting: count_parameters({"params": weights.params}, counting)
                for counting in ("total", "recurrent")
            },
            "metrics": {
                role: program.task.metrics(scores[role][m], data.labels(m, role))
                for role in ROLES
                if scores[role][m]
            },
            "seconds": share,
            "steps_per_second": memory.last_step[m] / max(share, 1e-9),
            "compile_seconds": pack.compile_seconds,
            "members": len(of_group.runs),
            "peak_memory_bytes": pack.memory_bytes,
        }
        (directory / "failure.json").unlink(missing_ok=True)
        write_atomically(directory / "result.json", json.dumps(result, indent=1))


def _rung(halving: Halving | None, step: int) -> int | None:
    """Which rung, from 1, was at a step; None for a run that was never dropped."""
    return halving.rungs.index(step) + 1 if halving and step else None


def _check_comparable(config: ConfigDict, runs: Sequence[Run]) -> None:
    """All runs of a sweep learn the same thing, or their test metrics could not be compared."""
    shared = flatten(config)
    for run in runs:
        for key, value in flatten(run.config).items():
            same = key in _SAME_IN_ALL_RUNS or not decides_numbers(key)
            if same and value != shared[key]:
                raise UserError(
                    f"Run {run.name} changes config.{key}: the runs of a sweep share it. "
                    f"Set it in the experiment's config, or by --config.{key}."
                )


def _check_halving(halving: Halving, groups: Sequence[Group]) -> None:
    """Draws of an arm compete where they train together, and are looked at."""
    home: dict[str, str] = {}
    for of_group in groups:
        for run in of_group.runs:
            if home.setdefault(run.arm, of_group.name) != of_group.name:
                raise UserError(
                    f"Halving: the runs of arm {run.arm} differ in more than numbers, so they are "
                    "not one program. Make arms of what differs."
                )
            train, data = run.config.train, run.config.data
            if not data.validation:
                raise UserError("Halving needs a validation split (config.data.validation).")
            halving.check(train.steps, train.eval_every)


def _check_selection(config: ConfigDict, program: Program) -> None:
    role, _, metric = config.train.select.partition("/")
    valid = [f"validation/{name}" for name in program.task.higher_is_better]
    if role != "validation" or metric not in program.task.higher_is_better:
        raise UserError(
            f'config.train.select="{config.train.select}" is unknown.'
            f"{nearest(config.train.select, valid)}"
        )


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
    """What `sweep.json` says: all that a report needs beside the results."""
    task, cluster = program.task, config.data.cluster
    return {
        "experiment": experiment,
        "description": about,
        "command": command,
        "config": flatten(config),
        "arms": {name: dict(changes) for name, changes in sweep.arms.items()},
        "draws": [dict(draw) for draw in sweep.draws],
        "replicates": [dict(replicate) for replicate in sweep.replicates],
        "halving": asdict(sweep.halving) if sweep.halving else None,
        "metric": task.headline,
        "higher_is_better": task.higher_is_better[task.headline],
        "selection": config.train.select,
        "selection_higher_is_better": task.higher_is_better[
            config.train.select.removeprefix("validation/")
        ],
        "target": config.data.target,
        "cluster": cluster or None,
        "class_names": list(task.class_names),
        "cluster_names": list(source.class_names[cluster]) if cluster else None,
        "data_fingerprint": source.fingerprint,
        "runs": [
            {
                "run": run.name,
                "arm": run.arm,
                "draw": dict(run.draw),
                "replicate": dict(run.replicate),
                "group": of_group.name,
            }
            for of_group in groups
            for run in of_group.runs
        ],
        "environment": environment() | parallel.environment(),
    }
