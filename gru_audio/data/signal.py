"""What an example is a sequence of: samples of sound, or frames of values."""

import math
from dataclasses import dataclass
from typing import Any

BLOCK = 128  # samples: 8 ms at 16 kHz
SOUND, FRAMES = "audio", "frames"  # what sequences are called in records


@dataclass(frozen=True)
class Signal:
    """The steps of a sequence, as a data set stores them.

    Attributes:
      rate: steps a second: Hz of sound; 1 where steps have no duration.
      dtype: of the values.
      shape: of one step: () for a sample, (features,) for a frame.
      block: steps; sequences begin at multiples of it in memory, padded lengths are multiples.
    """

    rate: int
    dtype: str = "int16"
    shape: tuple[int, ...] = ()
    block: int = BLOCK

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
