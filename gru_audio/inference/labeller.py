"""Labels clips with a trained model of classes or tags."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from gru_audio.inference.trained_model import TrainedModel
from gru_audio.tasks.task import Task

_BATCH = 32  # clips per model call
_THRESHOLD = 0.5  # least probability of a predicted tag
_SHOWN = 3  # labels in a text


@dataclass(frozen=True, repr=False)
class Prediction:
    """The predicted labels of a clip.

    Attributes:
      labels: the most probable class; or all tags with a probability of at least 0.5, the most
        probable one first.
      probabilities: label -> probability in [0, 1], for all labels, the most probable one first.
    """

    labels: tuple[str, ...]
    probabilities: Mapping[str, float]

    @property
    def label(self) -> str:
        """The most probable label."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of `label`."""
        return self.probabilities[self.label]

    def __str__(self) -> str:
        first = itertools.islice(self.probabilities.items(), _SHOWN)
        return ", ".join(f"{label} {probability:.1%}" for label, probability in first)

    def __repr__(self) -> str:
        return f"<Prediction {self}>"


@dataclass(frozen=True)
class Labeller:
    """A trained model of classes or tags."""

    trained: TrainedModel

    @functools.cached_property
    def _task(self) -> Task:
        return self.trained.program().task

    def probabilities(self, clips: Sequence[np.ndarray], batch: int = _BATCH) -> np.ndarray:
        """Returns the probabilities of the labels of clips, float32 (N, labels).

        A clip longer than `config.data.crop_seconds` is cropped to its middle, as in an evaluation.

        Args:
          clips: N signals of the kind that the model was trained on; at least one.
          batch: clips per model call; each value is compiled once.
        """
        return self.trained.probabilities([self.trained.middle(clip) for clip in clips], batch)

    def prediction(self, probabilities: np.ndarray) -> Prediction:
        """Returns the labels of a clip from their probabilities (labels,)."""
        found = ranked(self._task.output_names, probabilities)
        if self._task.several:
            return Prediction(tuple(name for name, p in found.items() if p >= _THRESHOLD), found)
        return Prediction(tuple(found)[:1], found)


def activated(task: Task, logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of logits (..., outputs), by the task's activation."""
    return expit(logits) if task.activation == "sigmoid" else softmax(logits, axis=-1)


def ranked(names: Sequence[str], probabilities: np.ndarray) -> dict[str, float]:
    """Returns label -> probability, the most probable label first.

    Args:
      names: the labels.
      probabilities: (labels,).
    """
    order = np.argsort(-probabilities, kind="stable")
    return {names[label]: float(probabilities[label]) for label in order}
