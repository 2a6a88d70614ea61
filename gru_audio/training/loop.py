"""The loop: calls to the device, looks at the validation split, saves; all members in step.

Everything random or numeric follows from the plan and the state; where calls, saves and kills fall
changes nothing but wall times.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gru_audio.data.group import GroupData
from gru_audio.training import processes
from gru_audio.training.elapsed import Elapsed
from gru_audio.training.feed import Scores
from gru_audio.training.keeper import Keeper
from gru_audio.training.metrics import Record, Windows
from gru_audio.training.pack import Pack
from gru_audio.training.progress import TrainProgress
from gru_audio.training.states import TRAINING
from gru_audio.training.step import METRICS
from gru_audio.training.stopping import Stop, Stopped

_FIRST_CALL_STEPS = 4  # before the length of a step is known
_CLIPS_SHOWN = 3  # of a batch that went wrong; `failure.json` has all


@dataclass
class Memory:
    """What the loop remembers beside the state, and a checkpoint with it. Lists are by member.

    Attributes:
      step: updates done by the members still alive.
      alive: false once a member has reached its horizon, run out of patience, lost or failed.
      last_step: updates done by each member.
      best: its best value of the selection metric, None before the first look.
      best_step: when that was.
      looks: at the validation split since then.
      dropped: the step at which it lost against other members, else 0.
      skipped: updates left out because they were not finite.
      failure: what ended it early: "error", "step", and "clips" of the batch; None if nothing did.
      windows: unfinished means of the training metrics.
      seconds: of wall time spent on training and looking, without compilation.
      cpu_seconds: of processor time spent on that; None where it is not known (`_has_cpu_clock`).
      memory_bytes: the most that one call took on a device, in any process that trained the group.
    """

    step: int
    alive: list[bool]
    last_step: list[int]
    best: list[float | None]
    best_step: list[int]
    looks: list[int]
    dropped: list[int]
    skipped: list[int]
    failure: list[dict[str, Any] | None]
    windows: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float | None = None
    memory_bytes: int = 0

    @classmethod
    def fresh(cls, alive: list[bool]) -> "Memory":
        """That of a group before its first step, which only members that are alive will take."""
        members = len(alive)
        zeros = [0] * members
        return cls(
            step=0,
            alive=alive,
            last_step=[*zeros],
            best=[None] * members,
            best_step=[*zeros],
            looks=[*zeros],
            dropped=[*zeros],
            skipped=[*zeros],
            failure=[None] * members,
            cpu_seconds=0.0 if _has_cpu_clock() else None,
        )

    def standing(self) -> list[float | None]:
        """The best value of each member, None where it has failed."""
        pairs = zip(self.best, self.failure, strict=True)
        return [None if failed else best for best, failed in pairs]

    def spend(self, elapsed: Elapsed) -> None:
        """Adds what training or looking has taken."""
        self.seconds += elapsed.wall
        if self.cpu_seconds is not None:
            self.cpu_seconds += elapsed.cpu


@dataclass(frozen=True)
class Member:
    """One run of the group, as the loop needs it."""

    name: str
    horizon: int  # steps
    done: bool = False  # its result is there already, from another group


# From a step, `Memory.standing()` and `Memory.dropped` to the members that lose now.
Losers = Callable[[int, Sequence[float | None], Sequence[int]], Sequence[int]]


def train(
    pack: Pack,
    members: list[Member],
    config: ConfigDict,
    keeper: Keeper,
    ending: Stop,
    progress: TrainProgress,
    losers: Losers | None = None,
) -> Memory:
    """Trains a group to its end, from its latest checkpoint if there is one.

    Args:
      pack: trains and scores the members; fresh.
      members: the runs.
      config: of any member: the loop reads what all have in common (`train`, `checkpoint`,
        `parallel`).
      keeper: where the group saves.
      ending: tells whether a signal has asked for an end.
      progress: what the user sees.
      losers: the members that end at a step because others do better.

    Returns:
      The loop's memory.

    Raises:
      Stopped: a signal asked for an end; the state is saved.
    """
    remembered = keeper.resume(pack)
    memory = (
        Memory(**remembered)
        if remembered
        else Memory.fresh([not member.done for member in members])
    )
    windows = Windows(config.train.log_every, len(members), METRICS)
    if memory.windows:
        windows.recall(memory.windows)
    looker = _Looker(pack, config)
    step_seconds, last_look = 0.0, ""
    progress.start(memory.step, max(member.horizon for member in members))

    while any(memory.alive):
        start = memory.step
        stop = min(
            start + _call_steps(step_seconds, config.parallel.call_seconds, pack.most_steps),
            _next_stop(start, members, memory, config),
        )
        began, compiled = Elapsed.now(), pack.compile_time
        alive = np.array(memory.alive)
        with jax.transfer_guard("disallow"):  # what is not asked for would slow every call
            metrics = pack.train(alive, start, stop)
        elapsed = Elapsed.now() - began - (pack.compile_time - compiled)
        memory.step = stop
        memory.spend(elapsed)

        for message in _note_failures(pack.data, members, memory, metrics, start, config):
            progress.say(message)
        for step, means in windows.add(start, metrics):
            keeper.add(_train_records(step, means, members, memory))
        memory.last_step = [
            stop if alive else last
            for alive, last in zip(memory.alive, memory.last_step, strict=True)
        ]
        due = _due_a_look(stop, members, memory, config)
        if any(due):
            began, compiled = Elapsed.now(), pack.compile_time
            with jax.transfer_guard("disallow"):
                looked = looker.look(members, memory, due)
            memory.spend(Elapsed.now() - began - (pack.compile_time - compiled))
            keeper.add(looked)
            last_look = _spread(looked, looker.metric)
        lost = losers(stop, memory.standing(), memory.dropped) if losers else ()
        for m in lost:
            memory.alive[m], memory.dropped[m] = False, stop
        for m, member in enumerate(members):
            if stop >= member.horizon:
                memory.alive[m] = False

        # From here on all processes must do the same, whatever their clocks and signals say.
        step_seconds, late, asked = processes.greatest(
            [
                elapsed.wall / (stop - start),
                keeper.age >= config.checkpoint.every_seconds,
                ending.asked,
            ]
        )
        text = _spread_loss(metrics, alive) + last_look
        progress.step(stop, 1 / max(step_seconds, 1e-9), text)
        keeper.beat(
            TRAINING,
            step=stop,
            steps_per_second=1 / max(step_seconds, 1e-9),
            runs=_standings(members, memory, metrics),
        )
        every = config.checkpoint.every_steps
        if late or asked or lost or (every and stop % every == 0) or not any(memory.alive):
            memory.windows = {k: v.tolist() for k, v in windows.memory().items()}
            memory.memory_bytes = max(memory.memory_bytes, pack.memory_bytes)
            keeper.save(pack, asdict(memory))
            if asked or not any(memory.alive):
                keeper.finish(pack, asdict(memory))
            alive = np.array(memory.alive)
            horizons = np.array([member.horizon for member in members])
            left = horizons[alive].max(initial=stop) - stop
            if pack.repack(alive, left * step_seconds):
                progress.say(f"{pack.size} members go on, in a program of their own")
        if asked:
            raise Stopped(int(asked), saved=True)
    return memory


class _Looker:
    """Looks at the validation split and keeps each member's best weights."""

    def __init__(self, pack: Pack, config: ConfigDict):
        task = pack.program.task
        self._pack, self._patience = pack, config.train.patience
        self._look = bool(config.data.validation)
        self.metric = config.train.select.removeprefix("validation/")
        self._sign = 1.0 if task.higher_is_better[self.metric] else -1.0

    def look(self, members: list[Member], memory: Memory, due: list[bool]) -> list[Record]:
        """Scores the validation split; updates best weights and who is alive.

        Without a validation split the latest weights are the best.
        """
        improved = np.zeros(len(members), bool)
        records: list[Record] = []
        scores: list[Scores] = [{} for _ in members]
        if self._look:
            scores = self._pack.score("validation")
        for m, member in enumerate(members):
            if not due[m]:
                continue
            if not scores[m]:
                improved[m], memory.best_step[m] = True, memory.step
                continue
            labels = self._pack.data.labels_of(m, "validation")
            metrics = self._pack.program.task.metrics(scores[m], labels)
            records.append(
                {"run": member.name, "step": memory.step}
                | {f"validation/{name}": value for name, value in metrics.items()}
                | {"seconds": memory.seconds}
            )
            value, best = metrics[self.metric], memory.best[m]
            # Only these end a run: others may be undefined on a split, as of a tag without clips.
            bad = [n for n in dict.fromkeys(("loss", self.metric)) if not np.isfinite(metrics[n])]
            if bad:
                memory.alive[m] = False
                message = f"validation/{bad[0]} is not finite at step {memory.step}."
                memory.failure[m] = {"error": message, "step": memory.step, "clips": []}
            elif best is None or self._sign * value > self._sign * best:
                improved[m] = True
                memory.best[m], memory.best_step[m], memory.looks[m] = value, memory.step, 0
            else:
                memory.looks[m] += 1
                if self._patience and memory.looks[m] >= self._patience:
                    memory.alive[m] = False
        self._pack.keep_best(improved)
        return records


def _has_cpu_clock() -> bool:
    """Whether processor time tells the work: all of it is done by this process's processors."""
    return jax.default_backend() == "cpu" and jax.process_count() == 1


def _call_steps(step_seconds: float, call_seconds: float, most: int) -> int:
    if not step_seconds:
        return min(most, _FIRST_CALL_STEPS)
    return max(1, min(most, int(call_seconds / step_seconds)))


def _next_stop(start: int, members: list[Member], memory: Memory, config: ConfigDict) -> int:
    """Where a call must end at the latest: a look, a horizon or a save by step."""
    every = config.train.eval_every
    stops = [start + every - start % every]
    if config.checkpoint.every_steps:
        stops.append(start + config.checkpoint.every_steps - start % config.checkpoint.every_steps)
    stops += [m.horizon for m, alive in zip(members, memory.alive, strict=True) if alive]
    return min(stops)


def _due_a_look(step: int, members: list[Member], memory: Memory, config: ConfigDict) -> list[bool]:
    """Which members are looked at: another member's horizon must not give one more chances."""
    regular = step % config.train.eval_every == 0
    return [
        alive and (regular or member.horizon == step)
        for member, alive in zip(members, memory.alive, strict=True)
    ]


def _note_failures(
    data: GroupData,
    members: list[Member],
    memory: Memory,
    metrics: dict[str, np.ndarray],
    start: int,
    config: ConfigDict,
) -> list[str]:
    """Counts updates that were not finite, and ends members with too many; what to say of each."""
    messages = []
    finite = np.logical_and.reduce([np.isfinite(series) for series in metrics.values()])
    for m, member in enumerate(members):
        if not memory.alive[m]:
            continue
        for step in (start + np.flatnonzero(~finite[m])).tolist():
            memory.skipped[m] += 1
            clips = data.clips(m, step)
            shown = ", ".join(clips[:_CLIPS_SHOWN]) + (", ..." if len(clips) > _CLIPS_SHOWN else "")
            if memory.skipped[m] > config.train.skip_nonfinite:
                error = f"The loss or its gradient is not finite at step {step}"
                memory.alive[m], memory.last_step[m] = False, step
                memory.failure[m] = {"error": f"{error}.", "step": step, "clips": clips}
                messages.append(f"{member.name}: stopped. {error}, on {shown}")
                break
            messages.append(
                f"{member.name}: update {step} left out ({memory.skipped[m]} of "
                f"{config.train.skip_nonfinite}): not finite, on {shown}"
            )
    return messages


def _train_records(
    step: int, means: dict[str, np.ndarray], members: list[Member], memory: Memory
) -> list[Record]:
    return [
        {"run": member.name, "step": step}
        | {f"train/{name}": float(values[m]) for name, values in means.items()}
        | {"seconds": memory.seconds}
        for m, member in enumerate(members)
        # A member that failed in this call still has the windows that ended before.
        if memory.alive[m] or step <= memory.last_step[m]
    ]


def _standings(
    members: list[Member], memory: Memory, metrics: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Where each member stands, for lookers-on."""
    losses = [loss if np.isfinite(loss) else None for loss in metrics["loss"][:, -1].tolist()]
    return [
        {
            "run": member.name,
            "alive": memory.alive[m],
            "step": memory.last_step[m],
            "loss": losses[m] if memory.last_step[m] == memory.step else None,
            "best": memory.best[m],
            "failure": (memory.failure[m] or {}).get("error"),
        }
        for m, member in enumerate(members)
    ]


def _spread_loss(metrics: dict[str, np.ndarray], alive: np.ndarray) -> str:
    return f"train loss {np.median(metrics['loss'][alive, -1]):.4f}"


def _spread(records: list[Record], metric: str) -> str:
    """A metric of the last look: the median of the members."""
    values = [record[f"validation/{metric}"] for record in records]
    return f"  validation {metric} {np.median(values):.4f}" if values else ""
