"""What the Pallas kernels share: parameters cut into one block a gate, and padding to tiles.

Padding never changes a number: the added hidden units have zero weights to all others, and the
added frames and examples lie past every length.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gru_audio.rnn.equations import Bias, Cell, Diagonal, Matrix, Params, wide_dtype


def in_blocks(cell: Cell, params: Params, hidden: int) -> dict[str, jax.Array]:
    """Matrices as (gates, hidden, hidden), vectors as (gates, 1, hidden), padded with zeros."""

    def block(name: str, gates: int) -> jax.Array:
        param = params[name]
        rows = param.shape[0] if param.ndim == 2 else 1
        parts = jnp.moveaxis(param.reshape(rows, gates, -1), 1, 0)
        return padded(parts, {1: hidden if param.ndim == 2 else 1, 2: hidden})

    sizes = {name: len(gates) for name, gates in (cell.kernels | cell.vectors).items()}
    return {name: block(name, gates) for name, gates in sizes.items()}


def padded(array: jax.Array, sizes: Mapping[int, int]) -> jax.Array:
    """Zeros added at the end of the axes named, up to the sizes given."""
    widths = [(0, sizes.get(axis, size) - size) for axis, size in enumerate(array.shape)]
    return jnp.pad(array, widths) if any(after for _, after in widths) else array


def round_up(size: int, multiple: int) -> int:
    """The least multiple that is not below `size`."""
    return -(-size // multiple) * multiple


class Blocks:
    """Parameters inside a kernel: references to what `in_blocks` made, or lists of its blocks."""

    def __init__(self, refs: Mapping[str, Any]):
        self._refs = refs

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        blocks = self._refs[matrix.param]
        return [product(value, blocks[gate], 0) for gate in range(len(matrix.gates))]

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        blocks = self._refs[matrix.param]
        parts = [product(value, blocks[gate], 1) for gate, value in enumerate(gradients)]
        return sum(parts[1:], parts[0])

    def vectors(self, equation: Diagonal | Bias) -> list[jax.Array]:
        blocks = [self._refs[equation.param][gate] for gate in range(len(equation.gates))]
        return [block.astype(wide_dtype(block.dtype)) for block in blocks]


def product(value: jax.Array, block: jax.Array, contracted: int) -> jax.Array:
    """``value @ block``, or ``value @ block^T`` with `contracted` 1; operands as the block is."""
    return lax.dot_general(
        value.astype(block.dtype),
        block,
        (((1,), (contracted,)), ((), ())),
        # Narrow operands are multiplied exactly as it is, and Mosaic refuses to do more for them.
        precision=lax.Precision.DEFAULT if block.dtype.itemsize < 4 else None,
        preferred_element_type=wide_dtype(block.dtype),
    )
