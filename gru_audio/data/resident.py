"""Training data held in device memory: one flat buffer of all clips that a compiled step reads.

All clips lie one after the other, each from a block boundary, and a batch is a gather of whole
rows. That serves clips of any length, crops, and recordings of minutes.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gru_audio.data.fields import take
from gru_audio.data.plan import Array
from gru_audio.data.source import Source
from gru_audio.settings import UserError

CENTRE = 0.5  # where an evaluation crops: in the middle
_CHUNK = 1024  # clips read at a time while the buffer is filled


@struct.dataclass
class Batch:
    """Examples on their way into a step.

    Attributes:
      signal: samples (B, L) or frames (B, L, features) as stored, zero past the length.
      length: steps, int32 (B,).
      start: the step of the clip where the signal begins, int32 (B,); 0 unless it is cropped.
      labels: a tree of arrays (B, ...), the task's labels; () where it needs none.
      row: place in the global batch, int32 (B,): noise is keyed by it, so that it does not depend
        on the number of devices.
    """

    signal: Array
    length: Array
    start: Array
    labels: Any
    row: Array

    def padded_to(self, length: int) -> "Batch":
        """The batch with signals cut to `length` steps, all of them longer than the examples."""
        return replace(self, signal=self.signal[:, :length])


class Mixing(NamedTuple):
    """What a run mixes into its examples.

    Attributes:
      partners: other examples, by mixup.
      background: background noise.
    """

    partners: bool = False
    background: bool = False


class Mixed(NamedTuple):
    """What is mixed into the examples of a batch, row by row; None: nothing of the kind."""

    partner: Batch | None = None
    background: Batch | None = None


@struct.dataclass
class Resident:
    """A data set in device memory.

    Attributes:
      buffer: the signals' blocks (blocks, block, ...), a step's values last.
      first_block: int32 (N,).
      length: steps, int32 (N,).
      labels: a tree of arrays (N, ...).
    """

    buffer: Array
    first_block: Array
    length: Array
    labels: Any

    def batch(
        self,
        ids: jax.Array,
        rows: jax.Array,
        padded: int,
        crop: jax.Array,
        longest: Array | None = None,
    ) -> Batch:
        """The examples `ids` (B,), padded to `padded` steps.

        Args:
          ids: examples, int32 (B,).
          rows: their places in the global batch, int32 (B,).
          padded: steps, a multiple of the signal's block.
          crop: for a clip that is too long, where to cut it, as a fraction in [0, 1) of the room
            (B,).
          longest: clips of more steps are cropped to these, a multiple of the block; by default
            `padded`, which is the most.
        """
        _, block, *shape = self.buffer.shape
        longest = padded if longest is None else longest
        length = self.length[ids]
        first = crop_start(length, longest, crop, block)
        rows_of_buffer = (self.first_block[ids] + first)[:, None] + jnp.arange(padded // block)
        signal = self.buffer[rows_of_buffer].reshape(len(ids), padded, *shape)
        start = first * block
        length = jnp.minimum(length - start, longest)
        inside = (jnp.arange(padded) < length[:, None]).reshape(-1, padded, *[1] * len(shape))
        return Batch(jnp.where(inside, signal, 0), length, start, take(self.labels, ids), rows)


def crop_start(length, padded, crop, block: int):
    """The first block of a crop, int32 (B,): 0 for clips that fit. NumPy or JAX arrays."""
    xp = length.__array_namespace__()
    room = xp.maximum(-(-length // block) - padded // block, 0)
    start = xp.floor(crop * (room + 1).astype(xp.float32)).astype(xp.int32)
    return xp.minimum(start, room)


def load(source: Source, labels: Any, longest: int) -> Resident:
    """Reads the whole data set into host arrays, ready to be put on the devices.

    Args:
      source: the data set.
      labels: of every example, a tree of arrays (N, ...).
      longest: the longest padded length in steps; the buffer ends with that many zeros, so that no
        gather leaves it.
    """
    length = source.columns["length"].astype(np.int32)
    signal = source.signal
    blocks = -(-length.astype(np.int64) // signal.block)
    first = np.concatenate([[0], np.cumsum(blocks)])
    if first[-1] >= 2**31:
        raise UserError(
            f"{source.name} is too long to be resident: set config.data.loader=streamed."
        )
    flat = np.zeros((first[-1] * signal.block + longest, *signal.shape), signal.dtype)
    for begin in range(0, len(length), _CHUNK):
        ids = range(begin, min(begin + _CHUNK, len(length)))
        for i, steps in zip(ids, source.signals(ids), strict=True):
            flat[first[i] * signal.block :][: len(steps)] = steps
    buffer = flat.reshape(-1, signal.block, *signal.shape)
    return Resident(buffer, first[:-1].astype(np.int32), length, labels)
