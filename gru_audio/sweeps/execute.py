"""Trains the groups of a sweep. Skips finished runs and resumes unfinished ones."""

import contextlib
import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from gru_audio.config import flatten, override, settings_in
from gru_audio.data.split import ROLES, SCORED
from gru_audio.files import refusal, write_atomically
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.nn.size import count_parameters
from gru_audio.settings import UserError
from gru_audio.sweeps.halving import Halving, SuccessiveHalving
from gru_audio.sweeps.planning import Plan
from gru_audio.sweeps.pretrained import keep
from gru_audio.sweeps.shard import Shard
from gru_audio.sweeps.status import read_groups
from gru_audio.sweeps.sweep import Group
from gru_audio.sweeps.workdir import Workdir, identity
from gru_audio.tasks import target_field
from gru_audio.tasks.metrics import measure, metrics_of, selected
from gru_audio.tasks.task import decoded
from gru_audio.training import distributed, logging, sharing
from gru_audio.training.checkpoint import Checkpointer
from gru_audio.training.hyper import hyperparameters, mixing
from gru_audio.training.loader import LOADERS, Loader
from gru_audio.training.logging import TrainProgress
from gru_audio.training.loop_state import LoopState
from gru_audio.training.peaks import WORTHWHILE_SECONDS, peaks_of
from gru_audio.training.placement import make_placement
from gru_audio.training.population import Population
from gru_audio.training.profiling import Profiler
from gru_audio.training.step import Program
from gru_audio.training.stopping import Stop, Stopped, catch_signals
from gru_audio.training.trackers import TrackedRun, Trackers
from gru_audio.training.trainer import Member, train
from gru_audio.training.tuning import Tuning


def execute(planned: Plan, workdir: Workdir, profile: int = 0) -> list[str]:
    """Trains the unfinished runs of the shard. Returns the names of the failed runs.

    Args:
      planned: the sweep.
      workdir: its directory.
      profile: number of steps of each program to trace.

    Raises:
      UserError: the workdir is in use or holds another sweep, the processes differ, or a trace
        cannot be written there.
      Stopped: a signal requested the stop; all state is saved.
      OSError: the disk is full or read-only; saved files stay.
    """
    if profile and "://" in str(workdir.root):
        raise UserError(f"--profile writes to a disk, and {workdir.root} is none: profile a try.")
    numbers_from = json.dumps(identity(planned.description), sort_keys=True)
    distributed.check_same("experiment, config and data set", numbers_from)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(catch_signals())
        distributed.broadcast(lambda: stack.enter_context(workdir.lock(planned.shard)))
        distributed.broadcast(lambda: workdir.claim(planned.description))
        distributed.broadcast(lambda: keep(planned.sources, workdir))
        for i, group in enumerate(planned.groups):
            if _ended(workdir, group):
                continue
            title = f"[{i + 1}/{len(planned.groups)}] {group.name} x{len(group.runs)}"
            try:
                train_group(planned, i, workdir, title, stop, profile)
            except Exception as error:
                # With several processes, the others may still train this group. A full disk would
                # fail the next group too.
                if jax.process_count() > 1 or refusal(error):
                    raise
                if isinstance(error, UserError):
                    print(f"{title}: {error}", file=sys.stderr)
                else:
                    traceback.print_exc()
                with contextlib.suppress(OSError):  # the disk may have failed
                    failure = {"error": str(error), "type": type(error).__name__}
                    for run in group.runs:
                        if not workdir.finished(run):
                            workdir.save_failure(run.name, failure)
            if asked := distributed.all_reduce_max([stop.asked])[0]:
                raise Stopped(int(asked), saved=True)
        return distributed.broadcast(
            lambda: [run.name for run in planned.runs if not workdir.finished(run)]
        )


def _ended(workdir: Workdir, group: Group) -> bool:
    return distributed.broadcast(lambda: all(workdir.ended(run) for run in group.runs))


def train_group(
    planned: Plan, index: int, workdir: Workdir, title: str, stop: Stop, profile: int = 0
) -> None:
    """Trains one group, scores it, and writes the results of its runs."""
    group, program, data = planned.groups[index], planned.programs[index], planned.data[index]
    configs = [run.config for run in group.runs]
    config, hyper = configs[0], hyperparameters(configs)
    progress = TrainProgress(title, silent=not distributed.first())
    directory = workdir.group(group.name)
    done = distributed.broadcast(lambda: _done(planned, group, workdir, progress.say))
    members = [
        Member(run.name, run.config.train.steps, is_done)
        for run, is_done in zip(group.runs, done, strict=True)
    ]
    competition = _competition(planned, group, program)
    trackers = Trackers(config.log.trackers, _tracked(planned, group, workdir), progress.say)
    checkpointer = Checkpointer(directory, config.checkpoint.keep, trackers, progress.say)
    with contextlib.closing(trackers), _reported(checkpointer, group, planned.shard, stop):
        with progress:
            progress.say(f"{title}: reading data, compiling")

            def make(devices: int) -> Loader:
                parallel = override(config, {"parallel.data": devices}).parallel
                return LOADERS[config.data.loader](
                    program=program,
                    placement=replace(
                        make_placement(parallel, len(configs)), tuning=Tuning(progress.say)
                    ),
                    data=data,
                    mixing=mixing(hyper),
                    max_steps=max(c.train.steps for c in configs),
                    threads=config.data.workers,
                )

            if config.parallel.data:
                loader = make(config.parallel.data)
            else:
                counts = sharing.candidates(config, len(configs))
                kept = directory / "shared_batch.json"
                loader = sharing.choose(counts, make, hyper, kept, progress.say)
            state = loader.initial_state(hyper, planned.starts[index])
            population = Population(loader, state, config.parallel.shrink_gain)
            prune = competition.pruned if competition else None
            profiler = Profiler(Path(directory / "profile"), profile, progress.say)
            training = population, members, config, checkpointer, stop, progress
            loop = train(*training, prune, profiler)
            profiler.close()
        checkpointer.close()
        checkpointer.heartbeat(logging.SCORING)
        progress.say(f"{title}: scoring")
        _finish(planned, group, population, loop, checkpointer, trackers, workdir)


def _done(planned: Plan, group: Group, workdir: Workdir, say: Callable[[str], None]) -> list[bool]:
    """Returns which runs are finished. Reports runs that other groups began and did not finish."""
    missing = {run.name for run in group.runs if not workdir.finished(run)}
    if not workdir.group(group.name).exists():
        for other in read_groups(workdir.root):
            started = [run for run in other["runs"] if run["run"] in missing and run["step"]]
            if started:
                say(
                    f"{group.name}: {len(started)} of its runs start again although "
                    f"{other['group']} started them; --shard {other['shard']} would resume them"
                )
    if planned.sweep.halving:  # it ranks all runs, finished ones too
        return [False] * len(group.runs)
    return [run.name not in missing for run in group.runs]


def _tracked(planned: Plan, group: Group, workdir: Workdir) -> list[TrackedRun]:
    """Describes the unfinished runs of a group for trackers; in process 0 only."""
    settings = settings_in(group.runs[0].config)
    return [
        TrackedRun(
            name=run.name,
            folder=workdir.run(run.name),
            project=run.config.log.project or planned.description["experiment"],
            variant=run.variant,
            settings={k: v for k, v in flatten(run.config).items() if not settings[k].machine},
            changes={"variant": run.variant, **run.trial, **run.replicate},
        )
        for run in group.runs
        if distributed.first() and not workdir.finished(run)
    ]


def _competition(planned: Plan, group: Group, program: Program) -> SuccessiveHalving | None:
    if planned.sweep.halving is None:
        return None
    selection = selected(metrics_of(program.task), group.runs[0].config.train.select)
    return SuccessiveHalving(
        halving=planned.sweep.halving,
        variants=[run.variant for run in group.runs],
        trials=[json.dumps(run.trial) for run in group.runs],
        higher_is_better=selection.higher_is_better,
    )


@contextlib.contextmanager
def _reported(checkpointer: Checkpointer, group: Group, shard: Shard, stop: Stop) -> Iterator[None]:
    """Writes the state of the group to `status.json` at its start and at its end."""
    runs = [{"run": run.name, "step": 0} for run in group.runs]
    checkpointer.heartbeat(logging.COMPILING, group=group.name, shard=str(shard), runs=runs)

    def stopped(number: int) -> None:
        checkpointer.heartbeat(logging.PREEMPTED if number == signal.SIGTERM else logging.STOPPED)

    stop.on_exit = stopped
    try:
        yield
    except Stopped as error:
        stopped(error.number)
        raise
    except Exception as error:
        checkpointer.heartbeat(logging.FAILED, error=str(error))
        raise
    checkpointer.heartbeat(logging.FINISHED)


def _finish(
    planned: Plan,
    group: Group,
    population: Population,
    loop: LoopState,
    checkpointer: Checkpointer,
    trackers: Trackers,
    workdir: Workdir,
) -> None:
    """Scores the best weights on every split and writes each run's files, `result.json` last."""
    data, program = population.data, population.program
    population.restore_all()
    # SCORED is the part of the training split that is scored.
    roles = {role: SCORED if role == "train" else role for role in ROLES}
    scores = {role: population.score(scored, best=True) for role, scored in roles.items()}
    trained_states = jax.device_get(population.states())
    if not distributed.first():
        return
    records: dict[str, list] = {run.name: [] for run in group.runs}
    for record in checkpointer.records():
        records[record["run"]].append(record)
    cluster = group.runs[0].config.data.cluster
    clusters = np.full(len(planned.source), -1)
    if cluster:
        clusters, _ = planned.source.classes(cluster, "config.data.cluster")

    long = loop.steady_seconds >= WORTHWHILE_SECONDS
    utilisation = loop.utilisation(peaks_of(population.devices, measure=long))
    for m, run in enumerate(group.runs):
        if workdir.finished(run):  # in an earlier process
            continue
        directory = workdir.run(run.name)
        write_atomically(directory / "config.json", json.dumps(flatten(run.config), indent=1))
        logging.write_run_metrics(directory, records[run.name])
        if failure := loop.failure[m]:
            trackers.finish(run.name, records[run.name], None)
            workdir.save_failure(run.name, failure | {"type": "FloatingPointError"})
            continue
        ids = data.ids[m]["test"]
        about = {"example": ids, "cluster": clusters[ids]}
        decoding = program.task.decoding(scores["validation"][m] or None)
        predictions = {
            role: decoded(scores[role][m], decoding) for role in roles if scores[role][m]
        }
        workdir.save_predictions(run.name, "test", about | predictions.get("test", {}))
        weights, normalisation = jax.tree.map(
            lambda a, m=m: a[m], (trained_states.best, trained_states.normalisation)
        )
        trained = TrainedModel(
            config=run.config,
            field=target_field(planned.source, run.config) if program.task.needs else None,
            signal=program.signal,
            longest=data.plan.padded[-1],
            longest_clip=int(planned.source.columns["length"].max()),
            weights=weights,
            normalisation=normalisation,
            decoding=decoding,
            about={
                "run": run.name,
                "data_fingerprint": planned.source.fingerprint,
                "licence": planned.source.licence,
                "environment": planned.description["environment"],
            },
        )
        trained.save(workdir.model(run.name))
        share = loop.last_step[m] / sum(loop.last_step)
        seconds = loop.seconds * share
        result = {
            "run": run.name,
            "variant": run.variant,
            "trial": dict(run.trial),
            "replicate": dict(run.replicate),
            "group": group.name,
            "steps": loop.last_step[m],
            "best_step": loop.best_step[m],
            "updates_left_out": loop.skipped[m],
            "stopped_at_rung": _rung(planned.sweep.halving, loop.pruned[m]),
            "stopped_early": loop.last_step[m] < run.config.train.steps,
            "examples": {role: len(data.ids[m][role]) for role in ROLES},
            "parameters": {
                counting: count_parameters(program.model, weights.params, counting)
                for counting in ("total", "recurrent")
            },
            "metrics": {
                role: measure(metrics_of(program.task), found)
                for role, found in predictions.items()
            },
            "seconds": seconds,  # of wall time
            "cpu_seconds": None if loop.cpu_seconds is None else loop.cpu_seconds * share,
            "steps_per_second": loop.last_step[m] / max(seconds, 1e-9),
            **utilisation.asdict(),  # of the whole program
            "compile_seconds": population.compile_time.wall,
            "members": len(group.runs),
            "batch_devices": population.batch_devices,
            "recurrences": loop.recurrences,
            "peak_memory_bytes": max(loop.memory_bytes, population.memory_bytes),
            "environment": planned.description["environment"],
        }
        tested = {f"test/{name}": v for name, v in result["metrics"].get("test", {}).items()}
        trackers.finish(run.name, records[run.name], tested)
        (directory / "failure.json").unlink(missing_ok=True)
        write_atomically(directory / "result.json", json.dumps(result, indent=1))


def _rung(halving: Halving | None, step: int) -> int | None:
    """Returns the number, from 1, of the rung at a step; None if the run was not dropped."""
    return halving.rungs.index(step) + 1 if halving and step else None
