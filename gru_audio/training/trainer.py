"""The training loop of a group: calls to the devices, evaluations and saves.

All members are at the same step. All results follow from the plan and the train state. The times of
calls, saves and kills have no effect on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gru_audio.data.group import GroupData
from gru_audio.settings import UserError
from gru_audio.tasks.metrics import measure, metrics_of, selected
from gru_audio.tasks.task import decoded
from gru_audio.training import distributed, grace
from gru_audio.training.checkpoint import Checkpointer
from gru_audio.training.loader import Scores, Series
from gru_audio.training.logging import TRAINING, Elapsed, Record, RunningMeans, TrainProgress
from gru_audio.training.loop_state import LoopState
from gru_audio.training.peaks import peaks_of
from gru_audio.training.population import Population
from gru_audio.training.profiling import Profiler
from gru_audio.training.step import METRICS
from gru_audio.training.stopping import Stop, Stopped
from gru_audio.training.utilisation import Utilisation

_FIRST_CALL_STEPS = 4  # until the duration of a step is known
_CLIPS_SHOWN = 3  # clips of a batch in a message; `failure.json` has all clips


@dataclass(frozen=True)
class Member:
    """One run of the group."""

    name: str
    max_steps: int
    done: bool = False  # finished in another group


# Maps a step, `LoopState.scores()` and `LoopState.pruned` to the members to prune.
Prune = Callable[[int, Sequence[float | None], Sequence[int]], Sequence[int]]


def train(
    population: Population,
    members: list[Member],
    config: ConfigDict,
    checkpointer: Checkpointer,
    stop: Stop,
    progress: TrainProgress,
    prune: Prune | None = None,
    profiler: Profiler | None = None,
) -> LoopState:
    """Trains a group to its end, starting from its latest checkpoint if there is one.

    Args:
      population: the new members.
      members: the runs.
      config: config of any member, for the values that all have in common (`train`, `checkpoint`,
        `parallel`).
      checkpointer: saves and restores the group.
      stop: whether a signal asked to stop.
      progress: shows progress to the user.
      prune: selects members that end at a step because others are better.
      profiler: traces some steps.

    Raises:
      Stopped: a signal asked to stop; the state is saved.
    """
    restored = checkpointer.restore(population)
    state = (
        LoopState(**restored)
        if restored
        else LoopState.initial([not member.done for member in members])
    )
    _extend(state, members, config.train.patience)
    if population.tuning:
        population.tuning.restore(state.recurrences)
    means = RunningMeans(config.train.log_every, len(members), METRICS)
    if state.means:
        means.restore(state.means)
    evaluator = _Evaluator(population, config)
    step_seconds, last_evaluation, resumed_at = 0.0, "", state.step
    peaks, warned = peaks_of(population.devices), False
    progress.start(state.step, max(member.max_steps for member in members))

    while any(state.alive):
        start = state.step
        event = _next_event(start, members, state, config)
        end = min(
            start + _call_steps(step_seconds, config.parallel.call_seconds, population.call_steps),
            event,
        )
        if profiler:
            end = profiler.begin(start, end, event, config.train.eval_every)
        began, compiled = Elapsed.now(), population.compile_time
        alive = np.array(state.alive)
        with jax.transfer_guard("disallow"):  # an implicit transfer would slow every call
            series = population.train(alive, start, end)
        elapsed = Elapsed.now() - began - (population.compile_time - compiled)
        state.step = end
        state.add_time(elapsed)
        if start > resumed_at and not (profiler and profiler.active):
            state.add_steps(end - start, population.step_cost, elapsed.wall)
        if profiler:
            profiler.end(end, event)

        for message in _note_failures(population.data, members, state, series, start, config):
            progress.say(message)
        for step, values in means.add(start, series):
            checkpointer.add(_train_records(step, values, members, state))
        state.last_step = [
            end if alive else last for alive, last in zip(state.alive, state.last_step, strict=True)
        ]
        due = _due(end, members, state, config)
        if any(due):
            began, compiled = Elapsed.now(), population.compile_time
            with jax.transfer_guard("disallow"):
                records = evaluator.evaluate(members, state, due)
            state.add_time(Elapsed.now() - began - (population.compile_time - compiled))
            checkpointer.add(records)
            last_evaluation = _median(records, evaluator.metric)
        pruned = prune(end, state.scores(), state.pruned) if prune else ()
        for m in pruned:
            state.alive[m], state.pruned[m] = False, end
        for m, member in enumerate(members):
            if end >= member.max_steps:
                state.alive[m] = False

        # From here on all processes must do the same, although clocks and signals differ.
        step_seconds, late, asked = distributed.all_reduce_max(
            [
                elapsed.wall / (end - start),
                checkpointer.age >= config.checkpoint.every_seconds,
                stop.asked,
            ]
        )
        speed = 1 / max(step_seconds, 1e-9)
        loss = np.median(series["loss"][alive, -1])
        rates = Utilisation.of(population.step_cost, step_seconds, peaks)
        progress.step(end, speed, f"{rates}  train loss {loss:.4f}{last_evaluation}")
        if not warned and (save_seconds := checkpointer.save_seconds) is not None:
            # Only now is the duration of a call known.
            times = save_seconds, elapsed.wall, config.checkpoint.every_seconds
            if warned := bool(line := grace.loss(*times)):
                progress.say(line)
        runs = _status(members, state, series)
        checkpointer.heartbeat(TRAINING, step=end, steps_per_second=speed, runs=runs)
        every = config.checkpoint.every_steps
        if late or asked or pruned or (every and end % every == 0) or not any(state.alive):
            state.means = means.state()
            state.memory_bytes = max(state.memory_bytes, population.memory_bytes)
            if population.tuning:
                state.recurrences = population.tuning.records() or state.recurrences
            checkpointer.save(population, asdict(state))
            if asked or not any(state.alive):
                checkpointer.finish(population, asdict(state))
            alive = np.array(state.alive)
            last = np.array([member.max_steps for member in members])
            remaining = last[alive].max(initial=end) - end
            if population.shrink(alive, remaining * step_seconds):
                progress.say(f"{population.size} members go on, in a program of their own")
        if asked:
            raise Stopped(int(asked), saved=True)
    return state


class _Evaluator:
    """Evaluates members on the validation split and keeps each member's best weights."""

    def __init__(self, population: Population, config: ConfigDict):
        self._population, self._patience = population, config.train.patience
        self._has_split = bool(config.data.validation)
        metrics = metrics_of(population.program.task)
        metric = selected(metrics, config.train.select)
        self._metrics = [each for each in metrics if each is metric or not each.costly]
        self.metric, self._sign = metric.name, 1.0 if metric.higher_is_better else -1.0

    def evaluate(self, members: list[Member], state: LoopState, due: list[bool]) -> list[Record]:
        """Scores members, and updates their best weights and whether they are alive.

        Without a validation split the latest weights are the best.
        """
        improved = np.zeros(len(members), bool)
        records: list[Record] = []
        scores: list[Scores] = [{} for _ in members]
        if self._has_split:
            scores = self._population.score("validation")
        for m, member in enumerate(members):
            if not due[m]:
                continue
            if not scores[m]:
                improved[m], state.best_step[m] = True, state.step
                continue
            task = self._population.program.task
            metrics = measure(self._metrics, decoded(scores[m], task.decoding(None)))
            records.append(
                {"run": member.name, "step": state.step}
                | {f"validation/{name}": value for name, value in metrics.items()}
                | {"seconds": state.seconds}
            )
            value, best = metrics[self.metric], state.best[m]
            # Other metrics may be undefined on a split and do not end a run.
            bad = [n for n in dict.fromkeys(("loss", self.metric)) if not np.isfinite(metrics[n])]
            if bad:
                state.alive[m] = False
                message = f"validation/{bad[0]} is not finite at step {state.step}."
                state.failure[m] = {"error": message, "step": state.step, "clips": []}
            elif best is None or self._sign * value > self._sign * best:
                improved[m] = True
                state.best[m], state.best_step[m], state.evaluations[m] = value, state.step, 0
            else:
                state.evaluations[m] += 1
                if self._patience and state.evaluations[m] >= self._patience:
                    state.alive[m] = False
        self._population.copy_best(improved)
        return records


def _extend(state: LoopState, members: list[Member], patience: int) -> None:
    """Continues members whose number of steps was raised after their last step.

    Raises:
      UserError: a member was trained elsewhere, and the group has gone on without it.
    """
    for m, member in enumerate(members):
        ended = (
            state.alive[m]
            or member.done
            or state.last_step[m] >= member.max_steps
            or state.failure[m]
            or state.pruned[m]
            or (patience and state.evaluations[m] >= patience)
        )
        if ended:
            continue
        if state.last_step[m] < state.step:
            raise UserError(
                f"Run {member.name} was finished in another group, and this one has gone on "
                "without it: give the same --shard as then."
            )
        state.alive[m] = True


def _call_steps(step_seconds: float, call_seconds: float, most: int) -> int:
    if not step_seconds:
        return min(most, _FIRST_CALL_STEPS)
    return max(1, min(most, int(call_seconds / step_seconds)))


def _next_event(start: int, members: list[Member], state: LoopState, config: ConfigDict) -> int:
    """Returns the next step of an evaluation, a save or a member's end, where a call must end."""
    every = config.train.eval_every
    events = [start + every - start % every]
    if save := config.checkpoint.every_steps:
        events.append(start + save - start % save)
    events += [m.max_steps for m, alive in zip(members, state.alive, strict=True) if alive]
    return min(events)


def _due(step: int, members: list[Member], state: LoopState, config: ConfigDict) -> list[bool]:
    """Returns the members to evaluate. The end of one member must not evaluate others."""
    regular = step % config.train.eval_every == 0
    return [
        alive and (regular or member.max_steps == step)
        for member, alive in zip(members, state.alive, strict=True)
    ]


def _note_failures(
    data: GroupData,
    members: list[Member],
    state: LoopState,
    series: Series,
    start: int,
    config: ConfigDict,
) -> list[str]:
    """Counts skipped updates and ends members with too many. Returns messages for the user."""
    messages = []
    finite = np.logical_and.reduce([np.isfinite(values) for values in series.values()])
    for m, member in enumerate(members):
        if not state.alive[m]:
            continue
        for step in (start + np.flatnonzero(~finite[m])).tolist():
            state.skipped[m] += 1
            clips = data.clips(m, step)
            shown = ", ".join(clips[:_CLIPS_SHOWN]) + (", ..." if len(clips) > _CLIPS_SHOWN else "")
            if state.skipped[m] > config.train.skip_nonfinite:
                error = f"The loss or its gradient is not finite at step {step}"
                state.alive[m], state.last_step[m] = False, step
                state.failure[m] = {"error": f"{error}.", "step": step, "clips": clips}
                messages.append(f"{member.name}: stopped. {error}, on {shown}")
                break
            messages.append(
                f"{member.name}: update {step} skipped ({state.skipped[m]} of "
                f"{config.train.skip_nonfinite}): not finite, on {shown}"
            )
    return messages


def _train_records(
    step: int, means: dict[str, np.ndarray], members: list[Member], state: LoopState
) -> list[Record]:
    return [
        {"run": member.name, "step": step}
        | {f"train/{name}": float(values[m]) for name, values in means.items()}
        | {"seconds": state.seconds}
        for m, member in enumerate(members)
        # A member that failed in this call keeps the windows that ended before.
        if state.alive[m] or step <= state.last_step[m]
    ]


def _status(members: list[Member], state: LoopState, series: Series) -> list[dict[str, Any]]:
    """Returns the progress of each member, for `status.json`."""
    losses = [loss if np.isfinite(loss) else None for loss in series["loss"][:, -1].tolist()]
    return [
        {
            "run": member.name,
            "alive": state.alive[m],
            "step": state.last_step[m],
            "loss": losses[m] if state.last_step[m] == state.step else None,
            "best": state.best[m],
            "failure": (state.failure[m] or {}).get("error"),
        }
        for m, member in enumerate(members)
    ]


def _median(records: list[Record], metric: str) -> str:
    """Returns the median over members of a validation metric, for the progress line."""
    values = [record[f"validation/{metric}"] for record in records]
    return f"  validation {metric} {np.median(values):.4f}" if values else ""
