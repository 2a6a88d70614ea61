"""Values that all members of one `vmap` share: the loop condition and the padded length of a step.

If they differed between members, JAX would batch the loop index and execute all branches of a
`switch`. Without `vmap`, these functions do nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Tree = Any  # a pytree of arrays


@custom_vmap
def any_member(condition: jax.Array) -> jax.Array:
    """Returns whether the condition holds for any member, bool ()."""
    return condition


@any_member.def_vmap
def _(members: int, batched: list[bool], condition: jax.Array) -> tuple[jax.Array, bool]:
    return jnp.any(condition), False


@custom_vmap
def max_over_members(bucket: jax.Array) -> jax.Array:
    """Returns the largest bucket of all members, int32 ()."""
    return bucket


@max_over_members.def_vmap
def _(members: int, batched: list[bool], bucket: jax.Array) -> tuple[jax.Array, bool]:
    return jnp.max(bucket), False


@custom_vmap
def where_active(active: jax.Array, new: Tree, old: Tree) -> Tree:
    """Returns the new arrays for active members and the old arrays for others.

    Without `vmap`, the member is active, because its loop would have ended otherwise.
    """
    return new


@where_active.def_vmap
def _(members: int, batched: list[Tree], active: jax.Array, new: Tree, old: Tree):
    def select(active: jax.Array, new: Tree, old: Tree) -> Tree:
        return jax.tree.map(lambda n, o: jnp.where(active, n, o), new, old)

    axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
    selected = jax.vmap(select, axes, axis_size=members)(active, new, old)
    return selected, jax.tree.map(lambda _: True, selected)
