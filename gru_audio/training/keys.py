"""Random keys, each derived from (seed of the member, step, row of the global batch, use).

So random numbers do not depend on the number of devices or on gradient accumulation.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

# Uses of a member's key, and of a step's key for a row.
_INIT, _STEP = range(2)
TIME_SHIFT, GAIN, MIXUP, SPEC_AUGMENT, DROPOUT, SPEED, BACKGROUND, TEMPO, WARP = range(9)
# Uses were added in these groups: their count, and the first of their numbers. Each group has its
# own numbers, so that the keys of the others do not change. No row reaches the numbers of the next.
_GROUPS = ((5, 0), (2, 2**31 + 5), (2, 3 * 2**30))
_WEIGHT_NOISE = 2**32 - 1


@struct.dataclass
class Keys:
    """Typed keys of one step.

    Attributes:
      step: the key that all others are derived from, ().
      rows: keys for each row of this device and each use (B, uses).
    """

    step: jax.Array
    rows: jax.Array

    @property
    def weight_noise(self) -> jax.Array:
        """The key of the weight noise, which is the same for all rows."""
        return jax.random.fold_in(self.step, _WEIGHT_NOISE)

    def of_segment(self, number: jax.Array) -> "Keys":
        """Returns keys for a segment of time of each row."""
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))
        return Keys(self.step, fold(self.rows, number))


def initial_key(seed: jax.Array) -> jax.Array:
    """Returns the key of a member's initialisation."""
    return jax.random.fold_in(jax.random.key(seed), _INIT)


def step_keys(seed: jax.Array, step: jax.Array, rows: jax.Array) -> Keys:
    """Returns the keys of a member's step for rows (B,) of the global batch."""
    member = jax.random.fold_in(jax.random.key(seed), _STEP)
    key = jax.random.fold_in(member, step)
    row = rows[:, None].astype(jnp.uint32)
    numbers = jnp.concatenate(
        [
            np.uint32(first) + row * count + jnp.arange(count, dtype=jnp.uint32)
            for count, first in _GROUPS
        ],
        axis=1,
    )
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))
    return Keys(key, fold(key, numbers))
