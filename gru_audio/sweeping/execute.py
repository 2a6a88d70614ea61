"""Executes a sweep: group by group, keeping what is finished, resuming what is not."""

import contextlib
import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

import jax
import numpy as np

from gru_audio.config import UserError, flatten
from gru_audio.data.fields import ClassField
from gru_audio.data.split import ROLES, SCORED
from gru_audio.files import refusal, write_atomically
from gru_audio.models.size import count_parameters
from gru_audio.sweeping.halving import Halving, Race
from gru_audio.sweeping.planning import Plan
from gru_audio.sweeping.shard import Shard
from gru_audio.sweeping.status import read_groups
from gru_audio.sweeping.sweep import Group
from gru_audio.sweeping.workdir import Workdir, identity
from gru_audio.training import parallel, processes, states
from gru_audio.training.boards import Boards, write_board
from gru_audio.training.feed import FEEDS
from gru_audio.training.hyper import hyperparameters, mixing
from gru_audio.training.keeper import Keeper
from gru_audio.training.loop import Member, Memory, train
from gru_audio.training.metrics import write_run_metrics
from gru_audio.training.pack import Pack
from gru_audio.training.progress import TrainProgress
from gru_audio.training.stopping import Stop, Stopped, heed
from gru_audio.training.trained import Trained


def execute(planned: Plan, workdir: Workdir) -> list[str]:
    """Runs what is not finished of the shard; returns the names of its runs that failed.

    Raises:
      UserError: the workdir is in use or holds another sweep, or the processes differ.
      Stopped: a signal asked for an end; all is saved.
      OSError: a disk refuses; what is saved stays.
    """
    same = json.dumps(identity(planned.description), sort_keys=True)
    processes.check_same("experiment, config and data set", same)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(heed())
        processes.from_first(lambda: stack.enter_context(workdir.lock(planned.shard)))
        processes.from_first(lambda: workdir.claim(planned.description))
        for i, of_group in enumerate(planned.groups):
            if _finished(workdir, of_group):
                continue
            title = f"[{i + 1}/{len(planned.groups)}] {of_group.name} x{len(of_group.runs)}"
            try:
                _execute_group(planned, i, workdir, title, stop)
            except Exception as error:
                # Other processes may be in the midst of the group. And what a disk refuses now, it
                # would refuse to the next group.
                if jax.process_count() > 1 or refusal(error):
                    raise
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
            if asked := processes.greatest([stop.asked])[0]:
                raise Stopped(int(asked), saved=True)
        return processes.from_first(
            lambda: [run.name for run in planned.runs if not workdir.finished(run.name)]
        )


def _finished(workdir: Workdir, of_group: Group) -> bool:
    return processes.from_first(lambda: all(workdir.finished(run.name) for run in of_group.runs))


def _execute_group(planned: Plan, index: int, workdir: Workdir, title: str, stop: Stop) -> None:
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
    boards = Boards({m.name: workdir.run(m.name) for m in members if not m.done})
    keeper = Keeper(directory, config.checkpoint.keep, boards, progress.say)
    with _told(keeper, of_group, planned.shard, stop):
        with progress:
            progress.say(f"{title}: reading data, compiling")
            feed = FEEDS[config.data.feed](
                program=program,
                layout=layout,
                data=data,
                mixing=mixing(hyper),
                horizon=max(c.train.steps for c in configs),
                threads=config.data.workers,
            )
            pack = Pack(feed, feed.initial_state(hyper), config.parallel.repack_gain)
            losers = race.losers if race else None
            memory = train(pack, members, config, keeper, stop, progress, losers)
        keeper.close()
        keeper.beat(states.SCORING)
        progress.say(f"{title}: scoring")
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
def _told(keeper: Keeper, of_group: Group, shard: Shard, stop: Stop) -> Iterator[None]:
    """Lets lookers-on know that a group is at work, and how it ends."""
    runs = [{"run": run.name, "step": 0} for run in of_group.runs]
    keeper.beat(states.COMPILING, group=of_group.name, shard=str(shard), runs=runs)

    def stopped(number: int) -> None:
        keeper.beat(states.PREEMPTED if number == signal.SIGTERM else states.STOPPED)

    stop.last_words = stopped
    try:
        yield
    except Stopped as error:
        stopped(error.number)
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
    scored = {role: SCORED if role == "train" else role for role in ROLES}
    scores = {role: pack.score(those, best=True) for role, those in scored.items()}
    trained_states = jax.device_get(pack.states())
    if not processes.first():
        return
    records: dict[str, list] = {run.name: [] for run in of_group.runs}
    for record in keeper.records():
        records[record["run"]].append(record)
    cluster = of_group.runs[0].config.data.cluster
    clusters = np.full(len(planned.source), -1)
    if cluster:
        clusters, _ = planned.source.classes(cluster, "config.data.cluster")

    for m, run in enumerate(of_group.runs):
        if workdir.finished(run.name):  # before a kill, or beside a run that fails each time
            continue
        directory = workdir.run(run.name)
        write_atomically(directory / "config.json", json.dumps(flatten(run.config), indent=1))
        write_run_metrics(directory, records[run.name])
        write_board(directory, records[run.name])
        if failure := memory.failure[m]:
            workdir.save_failure(run.name, failure | {"type": "FloatingPointError"})
            continue
        ids = data.ids[m]["test"]
        labels = {"label": data.labels_of(m, "test")} if program.task.needs is ClassField else {}
        workdir.save_predictions(
            run.name,
            "test",
            {"example": ids, "cluster": clusters[ids]} | labels | scores["test"][m],
        )
        weights, normalisation = jax.tree.map(
            lambda a, m=m: a[m], (trained_states.best, trained_states.normalisation)
        )
        trained = Trained(
            config=run.config,
            field=planned.source.field(run.config.data.target) if program.task.needs else None,
            signal=program.signal,
            longest=data.plan.padded[-1],
            longest_clip=int(planned.source.columns["length"].max()),
            weights=weights,
            normalisation=normalisation,
            about={
                "run": run.name,
                "data_fingerprint": planned.source.fingerprint,
                "environment": planned.description["environment"],
            },
        )
        trained.save(workdir.model(run.name))
        share = memory.last_step[m] / sum(memory.last_step)
        seconds = memory.seconds * share
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
            "examples": {role: len(data.ids[m][role]) for role in ROLES},
            "parameters": {
                counting: count_parameters(program.model, weights.params, counting)
                for counting in ("total", "recurrent")
            },
            "metrics": {
                role: program.task.metrics(scores[role][m], data.labels_of(m, those))
                for role, those in scored.items()
                if scores[role][m]
            },
            "seconds": seconds,  # of wall time
            "cpu_seconds": None if memory.cpu_seconds is None else memory.cpu_seconds * share,
            "steps_per_second": memory.last_step[m] / max(seconds, 1e-9),
            "compile_seconds": pack.compile_time.wall,
            "members": len(of_group.runs),
            "peak_memory_bytes": max(memory.memory_bytes, pack.memory_bytes),
            "environment": planned.description["environment"],
        }
        (directory / "failure.json").unlink(missing_ok=True)
        write_atomically(directory / "result.json", json.dumps(result, indent=1))


def _rung(halving: Halving | None, step: int) -> int | None:
    """Which rung, from 1, was at a step; None for a run that was never dropped."""
    return halving.rungs.index(step) + 1 if halving and step else None
