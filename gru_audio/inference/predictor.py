"""The base class of predictors: each computes and prints one kind of predictions."""

import abc
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.inference.stream import Stream
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError

Clip = tuple[str, np.ndarray]  # the name of a file, and its int16 samples (n,) at the model's rate

_CLIPS = 512  # clips in memory at a time


@dataclass(frozen=True)
class Predictor(abc.ABC):
    """Computes and prints what a model predicts of sound.

    `Task.predicts` names the predictor of a task. The attributes of a subclass are the flags of the
    same names.

    Attributes:
      trained: the model.
      as_json: whether to print lines of JSON.
    """

    trained: TrainedModel
    as_json: bool

    @property
    def limit(self) -> int:
        """The largest number of samples of a clip. A longer file is a recording."""
        return self.trained.clip_limit

    @property
    def single(self) -> bool:
        """Whether the output has room for the predictions of one file only."""
        return False

    @property
    def rate(self) -> int:
        """The model's sample rate in Hz."""
        return self.trained.signal.rate

    def started(self, start: Callable[[], Stream]) -> Stream | None:
        """Starts streams and prints their latency; None, and why, if the model cannot."""
        try:
            stream = start()
        except UserError as error:
            print(f"Each window is computed again: {error}", file=sys.stderr)
            return None
        print(f"Latency: {stream.latency}", file=sys.stderr)
        return stream

    @abc.abstractmethod
    def clips(self, clips: Iterable[Clip]) -> None:
        """Prints predictions of clips."""

    @abc.abstractmethod
    def recording(self, name: str, blocks: Iterable[np.ndarray]) -> None:
        """Prints predictions of a recording without holding the whole of it.

        Args:
          name: name of the file.
          blocks: int16 samples at the model's rate, in order.
        """

    @abc.abstractmethod
    def live(self, blocks: Iterable[np.ndarray]) -> None:
        """Prints predictions of sound while it arrives, until it ends or Ctrl-C.

        Args:
          blocks: int16 samples at the model's rate, as they arrive.
        """


def grouped(clips: Iterable[Clip]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Yields the names and the samples of as many clips as fit in memory."""
    clips = iter(clips)
    while group := list(itertools.islice(clips, _CLIPS)):
        yield [name for name, _ in group], [samples for _, samples in group]
