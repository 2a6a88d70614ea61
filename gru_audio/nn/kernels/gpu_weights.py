"""Recurrent weights inside a GPU kernel: kept in shared memory, or streamed in each step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from gru_audio.nn.equations import Matrix
from gru_audio.nn.kernels.blocks import Blocks, product


class Resident(Blocks):
    """Matrices that are loaded once, before the loop over time."""

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        return [_product(value, block) for block in self._refs[matrix.param]]

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        blocks = self._refs[matrix.param]
        first, *rest = map(_product, gradients, blocks)
        return sum(rest, first)


class Streamed(Blocks):
    """Matrices that are loaded slice by slice in each step, in a loop that Triton pipelines."""

    def __init__(self, refs: Mapping[str, Any], chunk: int):
        super().__init__(refs)
        self._chunk = chunk

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        blocks = self._refs[matrix.param]

        def add(i, sums):
            part, at = self._columns(value, i), pl.ds(i * self._chunk, self._chunk)
            return [total + _product(part, blocks[gate, :, at]) for gate, total in enumerate(sums)]

        return self._over_slices(add, [jnp.zeros_like(value) for _ in matrix.gates])

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        blocks = self._refs[matrix.param]

        def add(i, total):
            at = pl.ds(i * self._chunk, self._chunk)
            for gate, gradient in enumerate(gradients):
                total += _product(self._columns(gradient, i), blocks[gate, :, at])
            return total

        return self._over_slices(add, jnp.zeros_like(gradients[0]))

    def _over_slices(self, add: Callable[..., Any], start: Any) -> Any:
        width = jax.tree.leaves(start)[0].shape[-1]
        return lax.fori_loop(0, width // self._chunk, add, start)

    def _columns(self, value: jax.Array, i: jax.Array) -> jax.Array:
        """Returns columns ``[i * chunk, (i + 1) * chunk)``.

        Triton cannot slice an array. So the other columns are set to 0 and summed.
        """
        slices = value.reshape(len(value), -1, self._chunk)
        selected = lax.broadcasted_iota(jnp.int32, slices.shape, 1) == i
        return jnp.where(selected, slices, 0).sum(1)


def _product(value: jax.Array, block: jax.Array) -> jax.Array:
    """Returns ``value @ block^T``, computed as ``(block @ value^T)^T``.

    So hidden units, not examples, fill the 16 or 64 rows of a tensor core's operand.
    """
    return product(block, value.astype(block.dtype), 1).T
