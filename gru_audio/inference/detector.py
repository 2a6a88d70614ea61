"""Detects sound events: the frames of a trained model, decoded to onsets, offsets and classes."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from gru_audio.data.fields import Event
from gru_audio.events.decode import Decoder, DecoderStream, Events
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError
from gru_audio.tasks.events import SoundEvents

_BATCH = 32  # clips per model call


@dataclass(frozen=True)
class Detector:
    """A trained model of sound events with its decoder.

    Attributes:
      trained: the model.
      threshold: the threshold of all classes; None: those chosen on the validation split.

    Raises:
      UserError: the threshold is not in [0, 1].
    """

    trained: TrainedModel
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"threshold={self.threshold} must be at least 0 and at most 1.")

    @functools.cached_property
    def _task(self) -> SoundEvents:
        task = self.trained.program().task
        assert isinstance(task, SoundEvents)
        return task

    @functools.cached_property
    def decoder(self) -> Decoder:
        """The decoder of the events."""
        decoder = self._task.decoder(self.trained.decoding)
        if self.threshold is None:
            return decoder
        return replace(decoder, threshold=(self.threshold,) * len(decoder.threshold))

    def frames(self, clips: Sequence[np.ndarray], batch: int = _BATCH) -> list[np.ndarray]:
        """Returns the probabilities that the decoder takes, float16 (frames, outputs) a clip.

        Args:
          clips: N signals of the kind that the model was trained on.
          batch: clips per model call; each value is compiled once.
        """
        return list(map(self.probabilities, self.trained.outputs(clips, batch)))

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Returns the probabilities that the decoder takes, of logits (frames, outputs)."""
        return np.asarray(self._task.probabilities(jnp.asarray(values)))

    def events(self, frames: np.ndarray) -> list[Event]:
        """Returns the events of a whole sound in the order of their onsets.

        Args:
          frames: probabilities (frames, outputs).
        """
        return self._named(self.decoder.decode(frames, *self._step_and_begin))

    def stream(self, parts: Iterable[np.ndarray]) -> Iterator[list[Event]]:
        """Yields the events of a sound as they become certain.

        Args:
          parts: consecutive probabilities (frames, outputs).
        """
        stream = DecoderStream(self.decoder, *self._step_and_begin)
        for part in parts:
            yield self._named(stream.push(part))
        yield self._named(stream.close())

    @property
    def _step_and_begin(self) -> tuple[float, float]:
        """The duration of a frame, and the time at which the first frame begins, in seconds."""
        first, step = self._task.times
        return step, first - step / 2

    def _named(self, events: Events) -> list[Event]:
        named = events.named(self._task.output_names)
        return [event._replace(onset=max(0.0, event.onset)) for event in named]
