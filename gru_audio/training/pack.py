"""The members of a group on their devices: all of them at first, later those that still train.

A program runs every member it was compiled for, and a device whose members have stopped idles. So
when enough have, those that go on move together into a smaller program. Nothing outside knows:
members keep their numbers, and what is saved is always the state of all.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.group import GroupData
from gru_audio.training import processes
from gru_audio.training.elapsed import NONE, Elapsed
from gru_audio.training.feed import Feed, Scores
from gru_audio.training.parallel import Kind, Layout
from gru_audio.training.state import TrainState
from gru_audio.training.step import Program


class Pack:
    """A group's state, and the feed of those members that are on the devices."""

    def __init__(self, feed: Feed, state: TrainState, gain: float):
        """A whole group.

        Args:
          feed: of all members.
          state: theirs, padded, on the devices; given away.
          gain: how many times the seconds of compiling a smaller program it must save.
        """
        self._whole, self._feed, self._state, self._gain = feed, feed, state, gain
        self._spent = NONE  # on compilation for feeds that are gone
        self._here = np.arange(feed.layout.members)
        self._resting: TrainState | None = None  # all members, on the host, once some have left
        self._keep_best = jax.jit(_keep_best, donate_argnums=(0,))

    @property
    def program(self) -> Program:
        """What is computed."""
        return self._whole.program

    @property
    def data(self) -> GroupData:
        """What all members learn from."""
        return self._whole.data

    @property
    def most_steps(self) -> int:
        """The most steps of one call."""
        return self._whole.most_steps

    @property
    def compile_time(self) -> Elapsed:
        """Spent on compilation so far."""
        feeds = {id(feed): feed for feed in (self._whole, self._feed)}
        return sum((feed.compile_time for feed in feeds.values()), self._spent)

    @property
    def memory_bytes(self) -> int:
        """Most that one call takes on a device, by the compiler's count."""
        return self._whole.memory_bytes

    @property
    def size(self) -> int:
        """How many members are on the devices."""
        return len(self._here)

    def train(self, alive: np.ndarray, start: int, stop: int) -> dict[str, np.ndarray]:
        """Steps `start` to `stop` for the members that are alive (M,), as `Feed.train`."""
        self._state, metrics = self._feed.train(self._state, alive[self._here], start, stop)
        spread = {k: np.zeros((len(alive), stop - start), v.dtype) for k, v in metrics.items()}
        for name, values in metrics.items():
            spread[name][self._here] = values
        return spread

    def score(self, role: str, best: bool = False) -> list[Scores]:
        """Each member's scores on a role, by its weights or its best; {} for those that left."""
        scores: list[Scores] = [{} for _ in self.data.ids]
        weights = self._state.best if best else self._state.weights
        found = self._feed.score(weights, self._state.normalisation, role)
        for m, its in zip(self._here, found, strict=True):
            scores[m] = its
        return scores

    def keep_best(self, improved: np.ndarray) -> None:
        """Makes the weights of some members (M,) their best."""
        layout = self._feed.layout
        mask = np.zeros(layout.padded_members, bool)
        mask[: self.size] = improved[self._here]
        self._state = self._keep_best(self._state, layout.put(mask, Kind.MEMBER))

    def abstract(self) -> TrainState:
        """Shapes of what `states` returns."""
        return self._whole.layout.abstract(self._state)

    def states(self) -> TrainState:
        """All members, without padding: arrays that this process can read."""
        here = self._feed.layout.gather(self._state)
        if self._resting is None:
            return here

        def merged(rest: np.ndarray, part: jax.Array) -> np.ndarray:
            rest = rest.copy()
            rest[self._here] = part
            return rest

        return jax.tree.map(merged, self._resting, jax.device_get(here))

    def restore(self, states: TrainState) -> None:
        """Takes the states of all members, host arrays, back to the devices."""
        self._go_to(self._whole, np.arange(self._whole.layout.members))
        self._state, self._resting = self._whole.layout.scatter(states), None

    def unpack(self) -> None:
        """Takes all members back onto the devices."""
        if self._resting is not None:
            self.restore(jax.tree.map(np.asarray, self.states()))

    def repack(self, alive: np.ndarray, seconds: float) -> bool:
        """Leaves out members that have stopped, where the devices' work halves and it pays.

        Args:
          alive: who goes on (M,).
          seconds: that training would still take as things are.

        Returns:
          Whether it did.
        """
        staying = np.flatnonzero(alive)
        if not len(staying):
            return False
        smaller = replace(self._feed.layout, members=len(staying))
        now = _work(self._feed.layout, alive[self._here])
        then = _work(smaller, np.ones(len(staying), bool))
        saved = seconds * (1 - then / now)
        worth = saved > self._gain * self._whole.compile_time.wall
        if 2 * then > now or not processes.greatest([worth])[0]:
            return False
        states = jax.tree.map(np.asarray, self.states())
        self._go_to(self._whole.take(staying, smaller), staying)
        self._state = smaller.scatter(jax.tree.map(lambda a: a[staying], states))
        self._resting = states
        return True

    def _go_to(self, feed: Feed, members: np.ndarray) -> None:
        if self._feed is not self._whole:
            self._spent += self._feed.compile_time
        self._feed, self._here = feed, members


def _work(layout: Layout, alive: np.ndarray) -> int:
    """Members that the busiest device steps: one after another those alive, side by side all."""
    padded = np.zeros(layout.padded_members, bool)
    padded[: len(alive)] = alive if layout.side_by_side == 1 else True
    return int(padded.reshape(layout.member_devices, -1).sum(axis=1).max())


def _keep_best(state: TrainState, improved: jax.Array) -> TrainState:
    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return replace(state, best=jax.tree.map(choose, state.weights, state.best))
