"""Dropout whose mask belongs to the example, not to its place in the batch."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Dropout:
    """Inverted dropout (Srivastava et al. 2014), one random key an example.

    The mask of an example depends on its key, the salt and the frame only: not on the other rows
    of the batch, nor on how far it is padded. linen's own needs a rate that is a Python number;
    this one may be traced, so that runs of different rates share a program.

    Attributes:
      keys: typed PRNG keys (batch,).
      rate: probability of dropping a value, in [0, 1].
    """

    keys: jax.Array
    rate: jax.typing.ArrayLike

    def __call__(self, x: jax.Array, salt: int) -> jax.Array:
        """Drops values of ``x``, (batch, units) or (batch, time, ...).

        Args:
          x: what to drop from; with three axes or more the second is time.
          salt: tells apart the places of a model that use the same keys.
        """
        keys = jax.vmap(jax.random.fold_in, (0, None))(self.keys, salt)
        if x.ndim > 2:
            frames = jnp.arange(x.shape[1])
            keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys, frames)
        units = x.shape[keys.ndim :]
        uniform = jax.vmap(lambda key: jax.random.uniform(key, units))(keys.reshape(-1))
        keep = uniform.reshape(x.shape) >= self.rate
        return jnp.where(keep, x / (1 - jnp.asarray(self.rate, x.dtype)), 0)
