"""What members that train side by side, under `vmap`, share: when to go on, and for which lengths.

All functions leave a member that is alone as it is. JAX's own rules for a loop of members with
conditions of their own would make its index an array of one for each member, and with it the choice
of a branch by that index: all branches would be computed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Tree = Any  # a pytree of arrays


@custom_vmap
def any_member(goes_on: jax.Array) -> jax.Array:
    """Whether any of the members goes on: bool (), the same for all of them."""
    return goes_on


@any_member.def_vmap
def _(members: int, batched: list[bool], goes_on: jax.Array) -> tuple[jax.Array, bool]:
    return jnp.any(goes_on), False


@custom_vmap
def longest_of(bucket: jax.Array) -> jax.Array:
    """The bucket of the longest examples of any member: int32 (), the same for all of them."""
    return bucket


@longest_of.def_vmap
def _(members: int, batched: list[bool], bucket: jax.Array) -> tuple[jax.Array, bool]:
    return jnp.max(bucket), False


@custom_vmap
def keep_stopped(goes_on: jax.Array, new: Tree, old: Tree) -> Tree:
    """The new arrays of a member that goes on, and the old ones of one that does not.

    A member that is alone goes on: its loop would have ended.
    """
    return new


@keep_stopped.def_vmap
def _(members: int, batched: list[Tree], goes_on: jax.Array, new: Tree, old: Tree):
    def select(goes_on: jax.Array, new: Tree, old: Tree) -> Tree:
        return jax.tree.map(lambda n, o: jnp.where(goes_on, n, o), new, old)

    axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
    kept = jax.vmap(select, axes, axis_size=members)(goes_on, new, old)
    return kept, jax.tree.map(lambda _: True, kept)
