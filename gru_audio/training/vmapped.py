"""What members in one `vmap` share: when their loop ends, and the padded length of a step.

JAX would turn the index of a loop under per-member conditions into an array, and a branch that is
chosen by it into all branches. A member that is alone is not changed by these functions.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Tree = Any  # a pytree of arrays


@custom_vmap
def any_member(condition: jax.Array) -> jax.Array:
    """Whether the condition holds for any member: bool (), the same for all of them."""
    return condition


@any_member.def_vmap
def _(members: int, batched: list[bool], condition: jax.Array) -> tuple[jax.Array, bool]:
    return jnp.any(condition), False


@custom_vmap
def max_over_members(bucket: jax.Array) -> jax.Array:
    """The largest bucket of any member: int32 (), the same for all of them."""
    return bucket


@max_over_members.def_vmap
def _(members: int, batched: list[bool], bucket: jax.Array) -> tuple[jax.Array, bool]:
    return jnp.max(bucket), False


@custom_vmap
def where_active(active: jax.Array, new: Tree, old: Tree) -> Tree:
    """The new arrays of an active member, the old ones of another.

    A member that is alone is active: otherwise its loop would have ended.
    """
    return new


@where_active.def_vmap
def _(members: int, batched: list[Tree], active: jax.Array, new: Tree, old: Tree):
    def select(active: jax.Array, new: Tree, old: Tree) -> Tree:
        return jax.tree.map(lambda n, o: jnp.where(active, n, o), new, old)

    axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
    selected = jax.vmap(select, axes, axis_size=members)(active, new, old)
    return selected, jax.tree.map(lambda _: True, selected)
