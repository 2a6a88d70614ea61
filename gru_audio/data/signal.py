"""The kind of sequence that a data set stores: samples of sound, or frames of values."""

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.settings import UserError

BLOCK = 128  # samples: 8 ms at 16 kHz
_HIGHEST_RATE = 10**7  # Hz: above ultrasound, and too low for integer overflow
_WIDEST = 2**20  # values per step
SOUND, FRAMES = "audio", "frames"  # names of the feature in records


@dataclass(frozen=True)
class Signal:
    """The format of the sequences of a data set.

    Attributes:
      rate: steps per second: the sample rate of sound in Hz; 1 if steps have no duration.
      dtype: the dtype of the stored values.
      shape: the shape of one step: () for a sample, (features,) for a frame.
      block: steps per block. In memory sequences begin at block boundaries, and padded lengths are
        multiples of the block.

    Raises:
      UserError: an attribute is invalid.
    """

    rate: int
    dtype: str = "int16"
    shape: tuple[int, ...] = ()
    block: int = BLOCK

    def __post_init__(self) -> None:
        counts = (self.rate, self.block, *self.shape)
        whole = all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in counts)
        if not whole or min(counts) < 1 or len(self.shape) > 1:
            raise UserError(f"{self} is not a valid signal: its numbers must be positive integers.")
        if self.rate > _HIGHEST_RATE or max(self.block, self.width) > _WIDEST:
            raise UserError(
                f"{self} is not a valid signal: its rate is at most {_HIGHEST_RATE} Hz, and a step "
                f"has at most {_WIDEST} values."
            )
        if not isinstance(self.dtype, str) or np.dtype(self.dtype).kind not in "iuf":
            raise UserError(f"{self} is not a valid signal: its values must be numbers.")

    @property
    def is_sound(self) -> bool:
        """Whether steps are samples of sound; otherwise they are frames, which need no frontend."""
        return not self.shape

    @property
    def feature(self) -> str:
        """The name of the sequence in a record."""
        return SOUND if self.is_sound else FRAMES

    @property
    def width(self) -> int:
        """Values per step."""
        return math.prod(self.shape)

    def floats(self, values: Any) -> Any:
        """Converts stored values to float32: samples to [-1, 1), frames without scaling."""
        return values.astype("float32") / 32768 if self.is_sound else values.astype("float32")


def frames(width: int, dtype: str, rate: int = 1) -> Signal:
    """Returns the signal of frames of `width` values, in blocks of 8 to limit padding."""
    return Signal(rate, dtype, (width,), block=8)
