"""Random data sets that test the memory of a model: the adding problem, copying, counting.

The first two are from Hochreiter and Schmidhuber 1997. The sizes of their training and test splits
are those of Bai, Kolter and Koltun 2018 (arXiv 1803.01271), who have no validation split.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio
from gru_audio.data.copy_task import COPIED
from gru_audio.data.datasets.clips import REFUSE, Clip, ClipBuilder
from gru_audio.data.fields import classes
from gru_audio.data.signal import Signal, frames

_RATE = 1  # steps have no duration


class Synthetic(ClipBuilder):
    """Pseudorandom sequences, the same at each preparation.

    Attributes:
      steps: the argument of `draw`, for all splits or by split.
      sizes: the number of sequences in each split.
    """

    VERSION = tfds.core.Version("1.0.0")
    licence = "none, random numbers"
    fields = classes()
    steps: ClassVar[int | dict[str, int]]
    sizes: ClassVar[dict[str, int]]

    def __init__(self, *, data_dir: Path | str):
        super().__init__(data_dir=data_dir, sample_rate=_RATE, on_bad_file=REFUSE, steps=self.steps)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        """Draws one sequence (length, values)."""
        raise NotImplementedError

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        return [
            Clip(f"{split}_{i}", split, {}, functools.partial(self._read, split, i))
            for split, size in self.sizes.items()
            for i in range(size)
        ]

    def _read(self, split: str, i: int, rate: int) -> Audio:
        steps = self.steps if isinstance(self.steps, int) else self.steps[split]
        # NumPy keeps only the bits of a generator stable across versions.
        rng = np.random.Generator(np.random.PCG64((steps, list(self.sizes).index(split), i)))
        return Audio(self.draw(rng, steps), rate, rate)


class Adding(Synthetic):
    """The adding problem: numbers in [0, 1) and marks at two of them, float32 (steps, 2)."""

    sizes: ClassVar[dict[str, int]] = {"train": 50_000, "validation": 1000, "test": 1000}

    @property
    def signal(self) -> Signal:
        return frames(2, "float32", _RATE)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        numbers, marks = rng.random(steps), np.zeros(steps)
        first, second = int(rng.random() * steps), int(rng.random() * (steps - 1))
        marks[[first, second + (second >= first)]] = 1  # two different steps
        return np.stack([numbers, marks], axis=-1).astype(np.float32)


class CopyMemory(Synthetic):
    """The copy task: ten symbols, T - 1 blanks, eleven recall signals (9), uint8 (T + 20, 1)."""

    sizes: ClassVar[dict[str, int]] = {"train": 10_000, "validation": 1000, "test": 1000}

    @property
    def signal(self) -> Signal:
        return frames(1, "uint8", _RATE)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        symbols = 1 + (8 * rng.random(COPIED)).astype(np.uint8)
        sequence = [symbols, np.zeros(steps - 1, np.uint8), np.full(COPIED + 1, 9, np.uint8)]
        return np.concatenate(sequence)[:, None]


class Adding200(Adding):
    """The adding problem over 200 steps."""

    name, steps = "adding_200", 200


class Adding400(Adding):
    """The adding problem over 400 steps."""

    name, steps = "adding_400", 400


class Adding600(Adding):
    """The adding problem over 600 steps."""

    name, steps = "adding_600", 600


class CopyMemory500(CopyMemory):
    """The copy task over 500 steps."""

    name, steps = "copy_memory_500", 500


class CopyMemory1000(CopyMemory):
    """The copy task over 1,000 steps."""

    name, steps = "copy_memory_1000", 1000


class CopyMemory2000(CopyMemory):
    """The copy task over 2,000 steps."""

    name, steps = "copy_memory_2000", 2000


class Counting(Synthetic):
    """Random opening and closing brackets, one-hot uint8 (steps, 2).

    At depth 0 a bracket opens; otherwise it opens or closes with equal probability. Test sequences
    are eight times as long as training sequences (as in Suzgun et al. 2019, arXiv 1906.03648).
    """

    steps: ClassVar[dict[str, int]] = {"train": 50, "validation": 100, "test": 400}
    sizes: ClassVar[dict[str, int]] = {"train": 5000, "validation": 200, "test": 200}

    @property
    def signal(self) -> Signal:
        return frames(2, "uint8", _RATE)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        brackets, depth = np.zeros((steps, 2), np.uint8), 0
        for step, uniform in enumerate(rng.random(steps)):
            closes = int(depth > 0 and uniform < 0.5)
            brackets[step, closes] = 1
            depth += 1 - 2 * closes
        return brackets
