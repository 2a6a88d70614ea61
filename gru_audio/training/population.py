"""The members of a group on their devices: first all members, later those that still train.

A program runs every member that it was compiled for, and a device whose members have stopped is
idle. Once enough members have stopped, the others move into a smaller program. Callers need not
know: members keep their indices, and checkpoints always contain all members.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.group import GroupData
from gru_audio.training import distributed
from gru_audio.training.cost import Cost
from gru_audio.training.loader import Loader, Scores, Series
from gru_audio.training.logging import Elapsed
from gru_audio.training.placement import Kind, Placement
from gru_audio.training.step import Program, TrainState
from gru_audio.training.tuning import Tuning


class Population:
    """The train states of a group, and the loader of the members that are on the devices."""

    def __init__(self, loader: Loader, state: TrainState, gain: float):
        """Takes over a whole group.

        Args:
          loader: loader of all members.
          state: padded state of all members, on the devices. It is donated.
          gain: a smaller program must save this multiple of its compilation time.
        """
        self._whole, self._loader, self._state, self._gain = loader, loader, state, gain
        self._spent = Elapsed()  # compilation time of loaders that are no longer used
        self._here = np.arange(loader.placement.members)  # members on the devices
        self._host: TrainState | None = None  # all members, once some have left the devices
        self._copy_best = jax.jit(_copy_best, donate_argnums=(0,))
        self.step_cost = Cost()  # of the latest step, on all devices

    @property
    def program(self) -> Program:
        """The program of the members."""
        return self._whole.program

    @property
    def data(self) -> GroupData:
        """The examples of all members."""
        return self._whole.data

    @property
    def call_steps(self) -> int:
        """Largest number of steps in one call."""
        return self._whole.call_steps

    @property
    def compile_time(self) -> Elapsed:
        """Compilation time so far."""
        placements = {id(loader): loader.placement for loader in (self._whole, self._loader)}
        return sum((p.compile_time for p in placements.values()), self._spent)

    @property
    def memory_bytes(self) -> int:
        """Largest memory of one call on a device, according to the compiler."""
        return self._whole.placement.memory_bytes

    @property
    def tuning(self) -> Tuning | None:
        """The implementations of the recurrences."""
        return self._whole.placement.tuning

    @property
    def devices(self) -> list[jax.Device]:
        """The devices of the members."""
        return self._whole.placement.devices

    @property
    def batch_devices(self) -> int:
        """Number of devices that share a batch."""
        return self._whole.placement.data_devices

    @property
    def size(self) -> int:
        """Number of members on the devices."""
        return len(self._here)

    def train(self, alive: np.ndarray, start: int, stop: int) -> Series:
        """Trains the members that are `alive` (M,) from `start` to `stop`; see `Loader.train`."""
        self._state, metrics = self._loader.train(self._state, alive[self._here], start, stop)
        self.step_cost = self._loader.placement.latest_cost(int(alive[self._here].sum()))
        series = {k: np.zeros((len(alive), stop - start), v.dtype) for k, v in metrics.items()}
        for name, values in metrics.items():
            series[name][self._here] = values
        return series

    def score(self, role: str, best: bool = False) -> list[Scores]:
        """Returns each member's scores on a role; {} for members that are not on a device."""
        scores: list[Scores] = [{} for _ in self.data.ids]
        weights = self._state.best if best else self._state.evaluated
        found = self._loader.score(weights, self._state.normalisation, role)
        for m, of_member in zip(self._here, found, strict=True):
            scores[m] = of_member
        return scores

    def copy_best(self, improved: np.ndarray) -> None:
        """Copies the weights of some members (M,) to their best weights."""
        placement = self._loader.placement
        mask = np.zeros(placement.padded_members, bool)
        mask[: self.size] = improved[self._here]
        self._state = self._copy_best(self._state, placement.put(mask, Kind.MEMBER))

    def hyper(self) -> dict[str, np.ndarray]:
        """Returns hyperparameters of all members, float32 (M,), while all are on the devices."""
        return jax.device_get(self._loader.placement.gather(self._state.hyper))

    def abstract(self) -> TrainState:
        """Returns the shapes of `states()`."""
        return self._whole.placement.abstract(self._state)

    def states(self) -> TrainState:
        """Returns the states of all members without padding, readable by this process."""
        here = self._loader.placement.gather(self._state)
        if self._host is None:
            return here

        def merged(rest: np.ndarray, part: jax.Array) -> np.ndarray:
            rest = rest.copy()
            rest[self._here] = part
            return rest

        return jax.tree.map(merged, self._host, jax.device_get(here))

    def restore(self, states: TrainState) -> None:
        """Puts the states of all members, host arrays, on the devices."""
        self._use(self._whole, np.arange(self._whole.placement.members))
        self._state, self._host = self._whole.placement.scatter(states), None

    def restore_all(self) -> None:
        """Puts all members back on the devices."""
        if self._host is not None:
            self.restore(jax.tree.map(np.asarray, self.states()))

    def shrink(self, alive: np.ndarray, seconds: float) -> bool:
        """Removes stopped members from the devices, if that halves the work and saves time.

        Args:
          alive: members that continue (M,).
          seconds: remaining training time without a change.

        Returns:
          Whether members were removed.
        """
        staying = np.flatnonzero(alive)
        if not len(staying):
            return False
        smaller = replace(self._loader.placement, members=len(staying))
        now = _work(self._loader.placement, alive[self._here])
        then = _work(smaller, np.ones(len(staying), bool))
        saved = seconds * (1 - then / now)
        pays = saved > self._gain * self._whole.placement.compile_time.wall
        if 2 * then > now or not distributed.all_reduce_max([pays])[0]:
            return False
        states = jax.tree.map(np.asarray, self.states())
        self._use(self._whole.take(staying, smaller), staying)
        self._state = smaller.scatter(jax.tree.map(lambda a: a[staying], states))
        self._host = states
        return True

    def _use(self, loader: Loader, members: np.ndarray) -> None:
        if self._loader is not self._whole:
            self._spent += self._loader.placement.compile_time
        self._loader, self._here = loader, members


def _work(placement: Placement, alive: np.ndarray) -> int:
    """Returns the work of the busiest device: in one `vmap` all members, else those alive."""
    padded = np.zeros(placement.padded_members, bool)
    padded[: len(alive)] = alive if placement.vmap_members == 1 else True
    return int(padded.reshape(placement.member_devices, -1).sum(axis=1).max())


def _copy_best(state: TrainState, improved: jax.Array) -> TrainState:
    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return replace(state, best=jax.tree.map(choose, state.evaluated, state.best))
