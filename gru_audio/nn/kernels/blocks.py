"""Code that the Pallas kernels share: parameters split into one block per gate, and padding.

Padding does not change any result. Added hidden units have zero weights to all others. Added frames
and examples lie past every example's length.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gru_audio.nn.equations import Bias, Cell, Diagonal, Matrix, Params, wide_dtype


def in_blocks(cell: Cell, params: Params, hidden: int) -> dict[str, jax.Array]:
    """Returns matrices (gates, hidden, hidden) and vectors (gates, 1, hidden), padded with zeros.

    `hidden` is the padded number of units.
    """

    def block(name: str, gates: int) -> jax.Array:
        param = params[name]
        rows = param.shape[0] if param.ndim == 2 else 1
        parts = jnp.moveaxis(param.reshape(rows, gates, -1), 1, 0)
        return padded(parts, {1: hidden if param.ndim == 2 else 1, 2: hidden})

    sizes = {name: len(gates) for name, gates in (cell.kernels | cell.vectors).items()}
    return {name: block(name, gates) for name, gates in sizes.items()}


def padded(array: jax.Array, sizes: Mapping[int, int]) -> jax.Array:
    """Pads an array with zeros at the end of each axis in `sizes`, to the size given there."""
    widths = [(0, sizes.get(axis, size) - size) for axis, size in enumerate(array.shape)]
    return jnp.pad(array, widths) if any(width for _, width in widths) else array


def round_up(size: int, multiple: int) -> int:
    """Returns the smallest multiple of `multiple` that is at least `size`."""
    return -(-size // multiple) * multiple


class Blocks:
    """The parameters inside a kernel: references to the arrays of `in_blocks`, or block lists."""

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
    """Returns ``value @ block``, or ``value @ block^T`` with `contracted` 1, in a wide type.

    The operands have the type of the block.
    """
    return lax.dot_general(
        value.astype(block.dtype),
        block,
        (((1,), (contracted,)), ((), ())),
        # Products of narrow operands are exact. Mosaic refuses a higher precision for them.
        precision=lax.Precision.DEFAULT if block.dtype.itemsize < 4 else None,
        preferred_element_type=wide_dtype(block.dtype),
    )
