"""Random keys, by what they are for: (member's seed, step, row of the global batch, use).

So no draw depends on how many devices share a batch, nor on how it is parted.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

# Uses of a member's key, and of a step's key for a row: no two draws are alike.
_INIT, _STEP = range(2)
TIME_SHIFT, GAIN, MIXUP, SPEC_AUGMENT, DROPOUT, SPEED, BACKGROUND = _ROW_USES = range(7)
_FIRST = 5  # of them came first; the others are numbered apart, so that old draws stay
_LATER = np.uint32(2**31)  # no row of a batch comes to this number,
_WEIGHT_NOISE = 2**32 - 1  # nor to this one


@struct.dataclass
class Keys:
    """Typed keys of the random draws of one step.

    Attributes:
      step: what all others come from, ().
      rows: for what is drawn for each row of this device, one a use (B, uses).
    """

    step: jax.Array
    rows: jax.Array

    @property
    def weight_noise(self) -> jax.Array:
        """The key of the noise on the weights, the same for all rows."""
        return jax.random.fold_in(self.step, _WEIGHT_NOISE)

    def of_segment(self, number: jax.Array) -> "Keys":
        """Other keys for each row, of a segment of time of it."""
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))
        return Keys(self.step, fold(self.rows, number))


def initial_key(seed: jax.Array) -> jax.Array:
    """What a member is initialised by."""
    return jax.random.fold_in(jax.random.key(seed), _INIT)


def step_keys(seed: jax.Array, step: jax.Array, rows: jax.Array) -> Keys:
    """The keys of a member's step for the given rows (B,) of the global batch."""
    member = jax.random.fold_in(jax.random.key(seed), _STEP)
    key = jax.random.fold_in(member, step)
    first, later = jnp.split(jnp.arange(len(_ROW_USES), dtype=jnp.uint32), [_FIRST])
    row = rows[:, None].astype(jnp.uint32)
    numbers = jnp.concatenate([row * _FIRST + first, _LATER + row * len(later) + later], axis=1)
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))
    return Keys(key, fold(key, numbers))
