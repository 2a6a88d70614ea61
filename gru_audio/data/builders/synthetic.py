"""Two tests of memory, the adding problem and copying, in the sizes of Bai et al. 2018.

Both go back to Hochreiter and Schmidhuber 1997. Sizes of the splits are those of the generators of
Bai, Kolter and Koltun (arXiv 1803.01271); a validation split is added, of which they have none.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio
from gru_audio.data.builders.clips import REFUSE, Clip, ClipBuilder
from gru_audio.data.signal import Signal, frames

SYMBOLS = 10  # of copying: 0 is a blank, 1 to 8 are to be remembered, 9 asks for them
COPIED = 10  # symbols to be remembered
_RATE = 1  # steps have no duration


class Synthetic(ClipBuilder):
    """Sequences drawn at random, always the same ones."""

    VERSION = tfds.core.Version("1.0.0")
    fields = ()
    steps: ClassVar[int]
    sizes: ClassVar[dict[str, int]]

    def __init__(self, *, data_dir: Path | str):
        super().__init__(data_dir=data_dir, sample_rate=_RATE, on_bad_file=REFUSE, steps=self.steps)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        """One sequence (length, values)."""
        raise NotImplementedError

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        return [
            Clip(f"{split}_{i}", split, {}, functools.partial(self._read, number, i))
            for number, (split, size) in enumerate(self.sizes.items())
            for i in range(size)
        ]

    def _read(self, split: int, i: int, rate: int) -> Audio:
        # Only the bits of a generator are the same in all versions of NumPy.
        rng = np.random.Generator(np.random.PCG64((self.steps, split, i)))
        return Audio(self.draw(rng, self.steps), rate, rate)


class Adding(Synthetic):
    """Uniform numbers in [0, 1), and marks at one of each half of them, float32 (steps, 2)."""

    sizes: ClassVar[dict[str, int]] = {"train": 50_000, "validation": 1000, "test": 1000}

    @property
    def signal(self) -> Signal:
        return frames(2, "float32", _RATE)

    @staticmethod
    def draw(rng: np.random.Generator, steps: int) -> np.ndarray:
        numbers, marks, half = rng.random(steps), np.zeros(steps), steps // 2
        first, second = rng.random(2)
        marks[[int(first * half), half + int(second * (steps - half))]] = 1
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
