"""A data set in device memory: one flat buffer of all clips, which the compiled step reads.

The clips lie one after another, and each begins at a block boundary. A batch is a gather of whole
blocks, which works for clips of any length and for crops.
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

CENTRE = 0.5  # the crop position of an evaluation
_CHUNK = 1024  # clips per read


@struct.dataclass
class Batch:
    """A batch of examples.

    Attributes:
      signal: samples (B, L) or frames (B, L, features) as stored, zero past the length.
      length: steps, int32 (B,).
      start: the step of the clip where the signal begins, int32 (B,); 0 unless it is cropped.
      labels: the task's labels, a tree of arrays (B, ...); () for a task without labels.
      row: row index in the global batch, int32 (B,). It keys the augmentation noise, so the noise
        does not depend on the number of devices.
    """

    signal: Array
    length: Array
    start: Array
    labels: Any
    row: Array

    def padded_to(self, length: int) -> "Batch":
        """Returns the batch with its padding cut to `length` steps; all examples must fit."""
        return replace(self, signal=self.signal[:, :length])


class Mixing(NamedTuple):
    """Which signals a run mixes into its examples.

    Attributes:
      partners: other examples of the batch, by mixup.
      background: background clips.
    """

    partners: bool = False
    background: bool = False


class Mixed(NamedTuple):
    """The batches whose rows are mixed into the rows of another batch; None: not mixed."""

    partner: Batch | None = None
    background: Batch | None = None


@struct.dataclass
class Resident:
    """A data set in device memory.

    Attributes:
      buffer: all signals in blocks (blocks, block steps, ...); the last axes are those of a step.
      first_block: the index of each clip's first block, int32 (N,).
      length: steps, int32 (N,).
      labels: the task's labels, a tree of arrays (N, ...).
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
        """Gathers the examples `ids`, padded to `padded` steps.

        Args:
          ids: example ids, int32 (B,).
          rows: their row indices in the global batch, int32 (B,).
          padded: steps, a multiple of the signal's block.
          crop: where to crop a clip that is too long: a fraction in [0, 1) of the possible starts,
            (B,).
          longest: longer clips are cropped to this many steps, a multiple of the block and at most
            `padded`; by default `padded`.
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
    """Returns the first block of each crop, int32 (B,); 0 for clips that fit.

    Takes NumPy or JAX arrays.

    Args:
      length: steps of each clip (B,).
      padded: steps of the crop.
      crop: a fraction in [0, 1) of the possible starts (B,).
      block: steps per block.
    """
    xp = length.__array_namespace__()
    last = xp.maximum(-(-length // block) - padded // block, 0)
    start = xp.floor(crop * (last + 1).astype(xp.float32)).astype(xp.int32)
    return xp.minimum(start, last)


def load(source: Source, labels: Any, longest: int) -> Resident:
    """Reads the whole data set into host arrays.

    Args:
      source: the data set.
      labels: the task's labels of all examples, a tree of arrays (N, ...).
      longest: the longest padded length in steps. The buffer ends with that many zeros, so no
        gather reads past its end.

    Raises:
      UserError: the data set has too many blocks for an int32 index.
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
