"""Stages of a stream: functions of frames over time that run in pieces of equal length.

A stage reads windows of its source, such as the samples of a frame, or the neighbours of a delta.
It holds the end of its source until the next piece arrives. A window may read later frames than
its own, so the outputs have a delay: with each piece come as many outputs as fit into a piece, and
the first ones belong to the time before it.

Positions are relative to the piece: the first frame of a piece without delay has position 0. So no
number grows with the length of a stream.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

OPEN = 2**30  # the position of an end that is unknown, and minus that of a beginning long ago


class Span(NamedTuple):
    """A piece of S streams.

    With a delay of d frames, ``values[:, i]`` is the frame at position ``i - d``. It belongs to a
    stream if ``begin <= i - d < end``. All other values are finite but arbitrary.

    Attributes:
      values: (S, n, ...).
      begin: position of the first frame of each stream, int32 (S,), at most 0.
      end: position after the last frame, int32 (S,); `OPEN` if more will come.
    """

    values: jax.Array
    begin: jax.Array
    end: jax.Array


def endless(values: jax.Array) -> Span:
    """Returns a piece of streams that began long ago, or with zeros, and that go on."""
    begin = jnp.full(values.shape[0], -OPEN)
    return Span(values, begin, -begin)


class Window(NamedTuple):
    """The source frames that an output reads: output t reads those from t * step - before.

    Attributes:
      before: number of frames before its own.
      size: number of frames.
      step: source frames from one output to the next.
    """

    before: int
    size: int
    step: int = 1

    @property
    def later(self) -> int:
        """Number of frames after its own."""
        return self.size - 1 - self.before

    def delay(self, source: int) -> int:
        """Returns the delay of the outputs in outputs, for a source with a delay in frames."""
        return -((self.step - 1 - self.later - source) // self.step)


class Stage(Protocol):
    """A function of spans with a state.

    Attributes:
      windows: the windows that it reads one after another.
      delay: of its outputs.
    """

    @property
    def windows(self) -> tuple[Window, ...]: ...

    @property
    def delay(self) -> int: ...

    def initial(self, source: Span) -> Any:
        """Returns the state before the first piece; `source` has shapes and dtypes only."""

    def __call__(self, state: Any, span: Span) -> tuple[Any, Span]:
        """Returns the new state and the outputs of the next piece."""


def silent(span: Span, delay: int) -> jax.Array:
    """Returns the values with zeros before the beginnings and after the ends."""
    position = jnp.arange(span.values.shape[1]) - delay
    inside = (position >= span.begin[:, None]) & (position < span.end[:, None])
    return jnp.where(_like(inside, span.values), span.values, 0)


def repeated(span: Span, delay: int) -> jax.Array:
    """Returns the values with the first and the last frame repeated beyond the ends."""
    position = jnp.arange(span.values.shape[1]) - delay
    index = jnp.clip(position, span.begin[:, None], span.end[:, None] - 1) + delay
    index = jnp.clip(index, 0, span.values.shape[1] - 1)
    return jnp.take_along_axis(span.values, _like(index, span.values), axis=1)


def _like(per_frame: jax.Array, values: jax.Array) -> jax.Array:
    return per_frame.reshape(*per_frame.shape, *[1] * (values.ndim - 2))


@dataclass(frozen=True)
class Windowed:
    """Outputs that are a function of windows.

    Attributes:
      function: maps source frames (S, m, ...) to the outputs (S, n, ...) of all whole windows that
        begin at the first frame or `window.step`, 2 * `window.step` ... frames after it. It must
        ignore what is left at the end.
      window: the window of an output.
      source_delay: the delay of the source.
      edge: what windows read beyond the ends, `silent` or `repeated`.
      whole: whether an output must have a whole window within the stream. A stream that is shorter
        than one window has one output. False: one output for every `step` frames, or part of them.
    """

    function: Callable[[jax.Array], jax.Array]
    window: Window
    source_delay: int = 0
    edge: Callable[[Span, int], jax.Array] = silent
    whole: bool = False

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.window,)

    @property
    def delay(self) -> int:
        return self.window.delay(self.source_delay)

    @property
    def _lead(self) -> int:
        """The delay of the source frame at which the first window begins."""
        return self.delay * self.window.step + self.window.before

    def initial(self, source: Span) -> jax.Array:
        streams, _, *shape = source.values.shape
        held = max(0, self._lead - self.source_delay)
        return jnp.zeros((streams, held, *shape), source.values.dtype)

    def __call__(self, state: jax.Array, span: Span) -> tuple[jax.Array, Span]:
        both = jnp.concatenate([state, span.values], axis=1)
        state = both[:, span.values.shape[1] :]
        skipped = max(0, self.source_delay - self._lead)
        read = self.edge(span._replace(values=both[:, skipped:]), self._lead)
        size, step = self.window.size, self.window.step
        begin, end = span.begin // step, -(-span.end // step)
        if self.whole:
            end = jnp.maximum((span.end - size) // step, begin) + 1
            end = jnp.where(span.end > span.begin, end, begin)
        return state, Span(self.function(read), begin, end)


@dataclass(frozen=True)
class Chain:
    """Stages one after another."""

    stages: tuple[Stage, ...]
    source_delay: int = 0

    @property
    def windows(self) -> tuple[Window, ...]:
        return sum((stage.windows for stage in self.stages), ())

    @property
    def delay(self) -> int:
        return self.stages[-1].delay if self.stages else self.source_delay

    @property
    def step(self) -> int:
        """Source frames from one output to the next."""
        step = 1
        for window in self.windows:
            step *= window.step
        return step

    @property
    def later(self) -> int:
        """Number of source frames after its own that an output reads."""
        later, step = 0, 1
        for window in self.windows:
            later, step = later + window.later * step, step * window.step
        return later

    def initial(self, source: Span) -> tuple[Any, ...]:
        states = []
        for stage in self.stages:
            states.append(stage.initial(source))
            _, source = jax.eval_shape(stage, states[-1], source)
        return tuple(states)

    def __call__(self, state: tuple[Any, ...], span: Span) -> tuple[tuple[Any, ...], Span]:
        states = []
        for stage, old in zip(self.stages, state, strict=True):
            new, span = stage(old, span)
            states.append(new)
        return tuple(states), span


def left_aligned(span: Span, delay: int) -> tuple[jax.Array, jax.Array]:
    """Moves the frames of each stream to the front.

    Returns:
      Values (S, n, ...), and how many of them belong to the stream, int32 (S,).
    """
    size = span.values.shape[1]
    first = jnp.clip(span.begin + delay, 0, size)
    count = jnp.clip(span.end + delay, first, size) - first
    if delay == 0:  # nothing is before the beginning
        return span.values, count
    index = jnp.minimum(jnp.arange(size) + first[:, None], size - 1)
    return jnp.take_along_axis(span.values, _like(index, span.values), axis=1), count
