"""Tests of memory that are drawn at random: the adding problem, copying, counting.

The first two go back to Hochreiter and Schmidhuber 1997. Sizes of their splits are those of the
generators of Bai, Kolter and Koltun 2018 (arXiv 1803.01271); a validation split is added, of which
they have none.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio
from gru_audio.data.datasets.clips import REFUSE, Clip, ClipBuilder
from gru_audio.data.fields import classes
from gru_audio.data.signal import Signal, frames

SYMBOLS = 10  # of copying: 0 is a blank, 1 to 8 are to be remembered, 9 asks for them
COPIED = 10  # symbols to be remembered
_RATE = 1  # steps have no duration


class Synthetic(ClipBuilder):
    """Sequences drawn at random, always the same ones.

    Attributes:
      steps: what `draw` is given; by split, or for all of them.
      sizes: sequences in each split.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields = classes()
    steps: ClassVar[int | dict[str, int]]
    sizes: ClassVar[dict[str, int]]

    def __init__(self, *, data_dir: Path | str):
        super().__init__(data_dir=data_dir, sample_rate=_RATE, on_bad_file=REFUSE, steps=self.steps)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        """One sequence (length, values)."""
        raise NotImplementedError

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        return [
            Clip(f"{split}_{i}", split, {}, functools.partial(self._read, split, i))
            for split, size in self.sizes.items()
            for i in range(size)
        ]

    def _read(self, split: str, i: int, rate: int) -> Audio:
        steps = self.steps if isinstance(self.steps, int) else self.steps[split]
        # Only the bits of a generator are the same in all versions of NumPy.
        rng = np.random.Generator(np.random.PCG64((steps, list(self.sizes).index(split), i)))
        return Audio(self.draw(rng, steps), rate, rate)


class Adding(Synthetic):
    """Uniform numbers in [0, 1), and marks at two of them, float32 (steps, 2)."""

    sizes: ClassVar[dict[str, int]] = {"train": 50_000, "validation": 1000, "test": 1000}

    @property
    def signal(self) -> Signal:
        return frames(2, "float32", _RATE)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        numbers, marks = rng.random(steps), np.zeros(steps)
        first, second = int(rng.random() * steps), int(rng.random() * (steps - 1))
        marks[[first, second + (second >= first)]] = 1  # two different ones
        return np.stack([numbers, marks], axis=-1).astype(np.float32)


class CopyMemory(Synthetic):
    """Ten symbols, T - 1 blanks, eleven 9s that ask for the symbols: uint8 (T + 20, 1)."""

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
    """Copying after 500 steps."""

    name, steps = "copy_memory_500", 500


class CopyMemory1000(CopyMemory):
    """Copying after 1,000 steps."""

    name, steps = "copy_memory_1000", 1000


class CopyMemory2000(CopyMemory):
    """Copying after 2,000 steps."""

    name, steps = "copy_memory_2000", 2000


class Counting(Synthetic):
    """Brackets that open and close, uint8 (steps, 2): which of the two, one-hot.

    At depth 0 a bracket opens, else it opens or closes by even chance. What is tested on is eight
    times as long as what is learnt from (as in Suzgun et al. 2019, arXiv 1906.03648).
    """

    steps: ClassVar[dict[str, int]] = {"train": 50, "validation": 100, "test": 400}
    sizes: ClassVar[dict[str, int]] = {"train": 5000, "validation": 200, "test": 200}

    @property
    def signal(self) -> Signal:
        return frames(2, "uint8", _RATE)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        brackets, depth = np.zeros((steps, 2), np.uint8), 0
        for step, chance in enumerate(rng.random(steps)):
            closes = int(depth > 0 and chance < 0.5)
            brackets[step, closes] = 1
            depth += 1 - 2 * closes
        return brackets
