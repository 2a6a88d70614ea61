"""A trained model on sound that arrives in pieces; results as soon as they are known.

    stream = Stream.of(trained, chunk_ms=20)
    for block in blocks:  # int16 samples, any number
        (new,) = stream.push(block)
    (new,) = stream.close()

The outputs are those of the whole sound. `Stream.advance` runs streams that begin and end at
different times. `Stream.step` is a pure function, for programs that keep the states themselves.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.data.fields import Event
from gru_audio.inference.detector import Detector
from gru_audio.inference.labeller import activated
from gru_audio.inference.stream_step import State, StreamStep, stream_step
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.inference.transcriber import Transcriber, Transcript, log_softmax
from gru_audio.settings import UserError
from gru_audio.training.checkpoint import named_leaves

CHUNK_MS = 20.0
_LONGEST_CHUNK = 60_000.0  # ms
_MEASURED = 20  # steps whose time is measured


class NewOutputs(NamedTuple):
    """Outputs that became known.

    Attributes:
      seconds: their times (n,): the centres of frames, or the ends of the sound so far if the model
        has one output for a whole clip.
      values: logits float32 (n, outputs).
    """

    seconds: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Latency:
    """The longest time from the beginning of a frame to its output.

    Attributes:
      window_ms: length of the frame's window.
      look_ahead_ms: later sound that the output depends on, by deltas, stacked frames and
        convolutions.
      chunk_ms: sound that the model waits for, since it computes whole chunks.
      compute_ms: median time that it computes, measured.
    """

    window_ms: float
    look_ahead_ms: float
    chunk_ms: float
    compute_ms: float

    @property
    def total_ms(self) -> float:
        """The sum."""
        return self.window_ms + self.look_ahead_ms + self.chunk_ms + self.compute_ms

    def __str__(self) -> str:
        return (
            f"at most {self.total_ms:.1f} ms: window {self.window_ms:g}, look-ahead "
            f"{self.look_ahead_ms:g}, chunk {self.chunk_ms:g}, computation {self.compute_ms:.2f}"
        )


class Stream:
    """One or several streams of sound that a trained model follows.

    Attributes:
      trained: the model.
      streams: the number S of streams.
      step: ``(state, samples, lengths, restart) -> (state, pieces)``, a pure and compiled function,
        see `StreamStep`. There streams may begin and end at different times.
      latency: of an output.
    """

    def __init__(self, trained: TrainedModel, step: StreamStep, streams: int):
        self.trained, self.streams = trained, streams
        self._static = step
        self._task, self._times = (program := trained.program()).task, program.frame_times
        self._full = np.full(streams, step.chunk, np.int32)
        self._none = np.zeros(streams, bool)
        self.step = jax.jit(step.__call__)
        # The old state is not needed here, so the new one is written over it.
        self._advance = jax.jit(step.__call__, donate_argnums=0)
        self.restart()
        self.latency = self._measured()

    @classmethod
    def of(cls, trained: TrainedModel, chunk_ms: float = CHUNK_MS, streams: int = 1) -> "Stream":
        """Starts streams.

        Args:
          trained: the model.
          chunk_ms: sound that the model computes at a time. It becomes the nearest multiple of the
            time from one output of the model to the next.
          streams: number of streams.

        Raises:
          UserError: an argument is out of range, or the model cannot run in a stream; the message
            names the setting of its config.
        """
        if not 0 < chunk_ms <= _LONGEST_CHUNK:
            raise UserError(f"chunk_ms={chunk_ms} must be above 0 and at most {_LONGEST_CHUNK:g}.")
        if streams < 1:
            raise UserError(f"streams={streams} must be at least 1.")
        return cls(trained, stream_step(trained, chunk_ms), streams)

    @property
    def chunk(self) -> int:
        """Samples of a chunk."""
        return self._static.chunk

    @property
    def outputs(self) -> int:
        """Outputs of the model at a time."""
        return self._task.outputs

    @property
    def flush(self) -> int:
        """Chunks after the end of a stream until all of its outputs are known."""
        return self._static.flush

    @property
    def initial_state(self) -> State:
        """The state of `step` before the first chunk."""
        return self._static.initial(self.streams)

    def restart(self) -> None:
        """Forgets all sound."""
        self._state = _copied(self.initial_state)
        self._waiting = np.zeros((self.streams, 0, *self._static.shape), np.float32)
        self._heard = np.zeros(self.streams, np.int64)  # samples
        self._outputs = np.zeros(self.streams, np.int64)

    def push(self, samples: np.ndarray) -> list[NewOutputs]:
        """Continues every stream.

        Args:
          samples: int16, or float in [-1, 1): (S, n), or (n,) for a single stream, of any number n.
            For a model of frames: (S, n, values), or (n, values).

        Returns:
          The new outputs of each stream.
        """
        waiting = np.concatenate([self._waiting, self._floats(samples)], axis=1)
        found = []
        while waiting.shape[1] >= self.chunk:
            found.append(self.advance(waiting[:, : self.chunk]))
            waiting = waiting[:, self.chunk :]
        self._waiting = waiting
        return self._joined(found)

    def close(self) -> list[NewOutputs]:
        """Returns the other outputs of each stream, since no sound follows; then restarts."""
        rest = self._waiting.shape[1]
        chunk = np.zeros((self.streams, self.chunk, *self._static.shape), np.float32)
        chunk[:, :rest] = self._waiting
        found = []
        for length in (rest, *[0] * self.flush):
            found.append(self.advance(chunk, np.full(self.streams, length)))
        self.restart()
        return self._joined(found)

    def advance(
        self,
        samples: np.ndarray,
        lengths: np.ndarray | None = None,
        restart: np.ndarray | None = None,
    ) -> list[NewOutputs]:
        """Continues every stream by one chunk.

        Args:
          samples: (S, chunk), as in `push`.
          lengths: the samples that belong to each stream (S,). A stream ends where there are fewer
            than `chunk`; the next `flush` calls return its last outputs. None: no stream ends.
          restart: whether a new stream begins with this chunk, bool (S,); None: none does.

        Returns:
          The new outputs of each stream.
        """
        lengths = self._full if lengths is None else np.asarray(lengths, np.int32)
        restart = self._none if restart is None else np.asarray(restart, bool)
        if restart.any():
            self._heard[restart] = self._outputs[restart] = 0
        self._state, pieces = self._advance(self._state, self._floats(samples), lengths, restart)
        values, counts = np.asarray(pieces.values), np.asarray(pieces.counts)
        self._heard += lengths
        first, self._outputs = self._outputs, self._outputs + counts
        return [
            NewOutputs(self._seconds(i, first[i], count), values[i, :count])
            for i, count in enumerate(counts.tolist())
        ]

    def _seconds(self, stream: int, first: int, count: int) -> np.ndarray:
        """Returns the times of `count` outputs."""
        if self._task.per_frame:
            return self._times.first + self._times.step * (first + np.arange(count))
        return np.full(count, self._heard[stream] / self.trained.signal.rate)

    def _joined(self, found: Sequence[Sequence[NewOutputs]]) -> list[NewOutputs]:
        """Joins the outputs of several chunks."""
        if len(found) == 1:
            return list(found[0])
        nothing = NewOutputs(np.zeros(0), np.zeros((0, self.outputs), np.float32))
        parts = zip(*found, [nothing] * self.streams, strict=True)
        return [NewOutputs(*map(np.concatenate, zip(*part, strict=True))) for part in parts]

    def _measured(self) -> Latency:
        """Measures the time of a step, after its compilation."""
        times = []
        for _ in range(1 + _MEASURED):
            began = time.perf_counter()
            self.advance(np.zeros((self.streams, self.chunk, *self._static.shape), np.float32))
            times.append(time.perf_counter() - began)
        self.restart()
        static, ms = self._static, 1000 / self.trained.signal.rate
        return Latency(
            static.window * ms,
            static.look_ahead * ms,
            static.chunk * ms,
            1000 * float(np.median(times[1:])),
        )

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Everything that the streams remember, as arrays by name for `np.savez` or Orbax.

        Set it to continue, in another process as well.
        """
        host = {"heard": self._heard.copy(), "outputs": self._outputs.copy()}
        leaves = {name: np.array(leaf) for name, leaf in named_leaves(self._state).items()}
        return {**host, "waiting": self._waiting.copy(), **leaves}

    @state.setter
    def state(self, state: Mapping[str, np.ndarray]) -> None:
        expected = self.state
        for name in sorted({*expected, *state}):
            old, new = (np.asarray(each.get(name)) for each in (expected, state))
            axes = slice(1) if name == "waiting" else slice(None)  # of any length
            if (old.dtype, old.ndim, old.shape[axes]) != (new.dtype, new.ndim, new.shape[axes]):
                raise UserError(
                    f"The state does not fit: {name} differs. It belongs to another model, "
                    "chunk_ms or number of streams."
                )
        leaves = [np.asarray(state[name]) for name in named_leaves(self._state)]
        self._state = _copied(jax.tree.unflatten(jax.tree.structure(self._state), leaves))
        self._waiting = np.array(state["waiting"], np.float32)
        self._heard, self._outputs = np.array(state["heard"]), np.array(state["outputs"])

    def labels(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
        """Yields times in seconds, and the probabilities (classes,), of a single stream."""
        for new in self._followed(blocks):
            yield from zip(new.seconds.tolist(), self.probabilities(new.values), strict=True)

    def events(
        self, blocks: Iterable[np.ndarray], detector: Detector | None = None
    ) -> Iterator[list[Event]]:
        """Yields the sound events of a single stream that became certain.

        Args:
          blocks: samples, as `push` takes them.
          detector: None: with the thresholds of the model.
        """
        detector = detector or Detector(self.trained)
        frames = (detector.probabilities(new.values) for new in self._followed(blocks))
        yield from detector.stream(frames)

    def text(
        self, blocks: Iterable[np.ndarray], transcriber: Transcriber | None = None
    ) -> Iterator[Transcript]:
        """Yields what is said so far in a single stream, whenever frames become known.

        Args:
          blocks: samples, as `push` takes them.
          transcriber: None: it decodes greedily.
        """
        transcriber = transcriber or Transcriber(self.trained)
        heard = np.zeros((0, transcriber.tokens.outputs), np.float32)
        for new in self._followed(blocks):
            heard = np.concatenate([heard, log_softmax(new.values)])
            if len(new.values):
                yield transcriber.transcript(heard)

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Returns the probabilities of logits (..., outputs)."""
        return activated(self._task, values)

    def _followed(self, blocks: Iterable[np.ndarray]) -> Iterator[NewOutputs]:
        if self.streams > 1:
            raise UserError("Results of several streams come from push: pass streams=1.")
        for block in blocks:
            yield from self.push(block)
        yield from self.close()

    def _floats(self, samples: np.ndarray) -> np.ndarray:
        """Returns samples as float32 (S, n, ...)."""
        samples = np.asarray(samples)
        if samples.ndim == 1 + len(self._static.shape):
            samples = samples[None]
        shape = self.streams, *samples.shape[1:2], *self._static.shape
        if samples.shape != shape:
            raise UserError(
                f"samples of shape {samples.shape} do not fit {self.streams} streams of values of "
                f"shape {self._static.shape}."
            )
        if samples.dtype.kind == "f":
            return samples.astype(np.float32, copy=False)
        return self.trained.signal.floats(samples)


def _copied(state: State) -> State:
    """Returns a state whose arrays share no memory, so that they can be written over."""
    return jax.tree.map(lambda leaf: jnp.array(np.array(leaf)), state)
