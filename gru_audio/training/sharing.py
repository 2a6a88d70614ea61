"""The number of devices that share the batch of a lone run, measured (`parallel.data=0`).

A file keeps the choice, so that a resumed run has the same. The sums over a batch round differently
on other numbers of devices, so a run that shares its batch is not bit-identical to one that does
not.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from gru_audio.files import read_json, write_atomically
from gru_audio.training.loader import Loader
from gru_audio.training.step import TrainState

GAIN = 1.1  # several devices must be this many times as fast as one
LEAST_STEPS = 200  # of a run that is worth measuring
_CALLS, _CALL_SECONDS = 5, 0.2


def candidates(config: ConfigDict, members: int) -> list[int]:
    """Returns the numbers of devices to try: 1 and, for a lone run, the most that its batch allows.

    Args:
      config: of the runs.
      members: number of runs.
    """
    if members > 1 or config.train.steps < LEAST_STEPS:
        return [1]
    rows = config.train.batch_size // config.train.grad_accumulation
    most = max(n for n in range(1, jax.device_count() + 1) if rows % n == 0)
    return sorted({1, most})


def choose(
    counts: Sequence[int],
    make: Callable[[int], Loader],
    hyper: dict[str, np.ndarray],
    file: epath.Path,
    say: Callable[[str], None],
) -> Loader:
    """Returns the loader of the kept choice, or the fastest, whose choice it keeps.

    Args:
      counts: numbers of devices to try, the smallest first.
      make: returns a loader whose batch a number of devices share.
      hyper: hyperparameters of the members.
      file: keeps the choice and the measured times.
      say: prints a line for the user.
    """
    if devices := kept(file, counts):
        return make(devices)
    loaders = {count: make(count) for count in counts}
    chosen, ms = counts[0], {}
    if len(counts) > 1:
        ms = {count: round(1e3 * seconds, 4) for count, seconds in measure(loaders, hyper).items()}
        fastest = min(ms, key=lambda count: ms[count])
        chosen = fastest if ms[chosen] >= GAIN * ms[fastest] else chosen
        times = ", ".join(f"{count}: {time:.3g} ms" for count, time in ms.items())
        say(f"devices that share a batch: {chosen} (time of a step with {times})")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"devices": chosen, "step_ms": ms}))
    return loaders[chosen]


def measure(loaders: Mapping[int, Loader], hyper: dict[str, np.ndarray]) -> dict[int, float]:
    """Returns the median seconds of a training step of each loader. They train in turn."""
    first = next(iter(loaders.values()))
    start = jax.tree.map(np.asarray, first.placement.gather(first.initial_state(hyper)))
    timers = {
        count: _Timer(loader, loader.placement.scatter(start)) for count, loader in loaders.items()
    }
    for _ in range(_CALLS):
        for timer in timers.values():
            timer.call()
    return {count: statistics.median(timer.seconds) for count, timer in timers.items()}


class _Timer:
    """Times calls of a loader that has compiled its program."""

    def __init__(self, loader: Loader, state: TrainState):
        self._loader, self._state = loader, state
        self._step, self._steps = 0, 1
        self.seconds: list[float] = []  # of a step, one for each call
        for _ in range(2):  # the first one compiles
            self.call()
        self._steps = int(np.clip(_CALL_SECONDS / self.seconds[-1], 1, loader.call_steps))
        self.seconds.clear()

    def call(self) -> None:
        if self._step + self._steps > self._loader.max_steps:
            self._step = 0
        stop, began = self._step + self._steps, time.perf_counter()
        self._state, _ = self._loader.train(self._state, np.ones(1, bool), self._step, stop)
        self.seconds.append((time.perf_counter() - began) / self._steps)
        self._step = stop


def kept(file: epath.Path, counts: Sequence[int]) -> int | None:
    """Returns the choice that a file keeps; None if there is none, or not one of `counts`."""
    try:
        devices = read_json(file)["devices"]
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return devices if devices in counts else None
