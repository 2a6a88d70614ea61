"""Training data held in device memory: one flat buffer of int16 samples that a compiled step reads.

All clips lie one after the other, each from a block boundary, and a batch is a gather of whole
rows. That serves clips of any length, crops, and recordings of minutes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gru_audio.config import UserError
from gru_audio.data.plan import BLOCK, Array
from gru_audio.data.source import Source

CENTRE = 0.5  # where an evaluation crops: in the middle
_CHUNK = 1024  # clips read at a time while the buffer is filled


@struct.dataclass
class Batch:
    """Examples on their way into a step.

    Attributes:
      audio: int16 (B, L), zero past the length.
      length: samples, int32 (B,).
      target: class, int32 (B,).
      row: place in the global batch, int32 (B,): noise is keyed by it, so that it does not depend
        on
        the number of devices.
    """

    audio: Array
    length: Array
    target: Array
    row: Array


@struct.dataclass
class Resident:
    """A data set in device memory.

    Attributes:
      buffer: int16 (blocks, BLOCK).
      first_block: int32 (N,).
      length: samples, int32 (N,).
      target: class, int32 (N,).
    """

    buffer: Array
    first_block: Array
    length: Array
    target: Array

    def batch(self, ids: jax.Array, rows: jax.Array, padded: int, crop: jax.Array) -> Batch:
        """The examples `ids` (B,), padded or cropped to `padded` samples.

        Args:
          ids: examples, int32 (B,).
          rows: their places in the global batch, int32 (B,).
          padded: samples, a multiple of `BLOCK`.
          crop: for a clip that is too long, where to cut it, as a fraction in [0, 1) of the room
            (B,).
        """
        blocks = padded // BLOCK
        length = self.length[ids]
        start = crop_start(length, padded, crop)
        rows_of_buffer = (self.first_block[ids] + start)[:, None] + jnp.arange(blocks)
        audio = self.buffer[rows_of_buffer].reshape(len(ids), padded)
        length = jnp.minimum(length - start * BLOCK, padded)
        inside = jnp.arange(padded) < length[:, None]
        return Batch(jnp.where(inside, audio, 0), length, self.target[ids], rows)


def crop_start(length, padded: int, crop):
    """The first block of a crop, int32 (B,): 0 for clips that fit. NumPy or JAX arrays."""
    xp = length.__array_namespace__()
    room = xp.maximum(-(-length // BLOCK) - padded // BLOCK, 0)
    start = xp.floor(crop * (room + 1).astype(xp.float32)).astype(xp.int32)
    return xp.minimum(start, room)


def load(source: Source, target: np.ndarray, longest: int) -> Resident:
    """Reads the whole data set into host arrays, ready to be put on the devices.

    Args:
      source: the data set.
      target: class of every example (N,) int32.
      longest: the longest padded length in samples; the buffer ends with that much silence, so that
        no gather leaves it.
    """
    length = source.columns["length"].astype(np.int32)
    blocks = -(-length.astype(np.int64) // BLOCK)
    first = np.concatenate([[0], np.cumsum(blocks)])
    if first[-1] >= 2**31:
        raise UserError(f"{source.name} is too long to be resident: set config.data.feed=streamed.")
    flat = np.zeros((first[-1] * BLOCK + longest,), np.int16)
    for begin in range(0, len(length), _CHUNK):
        ids = range(begin, min(begin + _CHUNK, len(length)))
        for i, samples in zip(ids, source.audio(ids), strict=True):
            flat[first[i] * BLOCK : first[i] * BLOCK + len(samples)] = samples
    buffer = flat.reshape(-1, BLOCK)
    return Resident(buffer, first[:-1].astype(np.int32), length, target.astype(np.int32))
