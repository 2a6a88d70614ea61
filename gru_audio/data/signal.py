"""What an example is a sequence of: samples of sound, or frames of values."""

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.settings import UserError

BLOCK = 128  # samples: 8 ms at 16 kHz
_HIGHEST_RATE = 10**7  # a second: above ultrasound, below what could overflow anything
_WIDEST = 2**20  # values in a step
SOUND, FRAMES = "audio", "frames"  # what sequences are called in records


@dataclass(frozen=True)
class Signal:
    """The steps of a sequence, as a data set stores them.

    Attributes:
      rate: steps a second: Hz of sound; 1 where steps have no duration.
      dtype: of the values.
      shape: of one step: () for a sample, (features,) for a frame.
      block: steps; sequences begin at multiples of it in memory, padded lengths are multiples.

    Raises:
      UserError: for values that no signal can have.
    """

    rate: int
    dtype: str = "int16"
    shape: tuple[int, ...] = ()
    block: int = BLOCK

    def __post_init__(self) -> None:
        counts = (self.rate, self.block, *self.shape)
        whole = all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in counts)
        if not whole or min(counts) < 1 or len(self.shape) > 1:
            raise UserError(f"{self} is no signal: its numbers must be whole, and at least 1.")
        if self.rate > _HIGHEST_RATE or max(self.block, self.width) > _WIDEST:
            raise UserError(
                f"{self} is no signal: its rate may be {_HIGHEST_RATE} a second, and a step may "
                f"have {_WIDEST} values."
            )
        if not isinstance(self.dtype, str) or np.dtype(self.dtype).kind not in "iuf":
            raise UserError(f"{self} is no signal: its values must be numbers.")

    @property
    def is_sound(self) -> bool:
        """Whether steps are samples of sound; else they are frames, which need no frontend."""
        return not self.shape

    @property
    def feature(self) -> str:
        """What the sequence is called in a record."""
        return SOUND if self.is_sound else FRAMES

    @property
    def width(self) -> int:
        """Values in a step."""
        return math.prod(self.shape)

    def floats(self, values: Any) -> Any:
        """Stored values as float32: samples in [-1, 1), frames as they are."""
        return values.astype("float32") / 32768 if self.is_sound else values.astype("float32")


def frames(width: int, dtype: str, rate: int = 1) -> Signal:
    """Frames of so many values; in blocks of 8, as many as save padding on short sequences."""
    return Signal(rate, dtype, (width,), block=8)
