"""Two-dimensional convolution whose gradients are fast on a CPU too, inside a compiled loop.

XLA:CPU runs a convolution by Eigen if its dimensions are in Eigen's order, and by plain loops
otherwise. It brings others into that order, but not inside a loop or a branch, where training
happens; and the gradients that JAX derives are others. Here they are written in that order.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

_ORDER = ("NHWC", "HWIO", "NHWC")  # Eigen's, of inputs, kernel and outputs

Padding = tuple[tuple[int, int], ...]


def convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **plain: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` without dilation, as linen's `Conv` takes it.

    Args:
      inputs: (batch, height, width, channels).
      kernel: (height, width, channels, features).
      strides: for height and width.
      padding: before and after, for height and width.
      plain: what linen's `Conv` says of a convolution that has neither dilation nor groups.

    Returns:
      (batch, new height, new width, features).
    """
    if jax.default_backend() == "cpu":
        return _convolution(inputs, kernel, tuple(strides), tuple(map(tuple, padding)))
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, **plain)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(
    inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Padding
) -> jax.Array:
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=_ORDER)


def _forward(inputs, kernel, strides, padding):
    return _convolution(inputs, kernel, strides, padding), (inputs, kernel)


def _backward(strides: tuple[int, ...], padding: Padding, saved, gradient):
    """Both gradients are convolutions with the outputs' one, spread out by the strides."""
    inputs, kernel = saved
    spread = [(n - 1) * stride + 1 for n, stride in zip(gradient.shape[1:3], strides, strict=True)]
    of_inputs, of_kernel = [], []
    for size, taps, wide, (before, _) in zip(
        inputs.shape[1:3], kernel.shape[:2], spread, padding, strict=True
    ):
        of_inputs.append((taps - 1 - before, size - wide + before))
        of_kernel.append((before, wide + taps - 1 - size - before))
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    inputs_gradient = jax.lax.conv_general_dilated(
        gradient, turned, (1, 1), of_inputs, lhs_dilation=strides, dimension_numbers=_ORDER
    )
    # Channels stand for examples, and examples for channels.
    kernel_gradient = jax.lax.conv_general_dilated(
        inputs.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        of_kernel,
        rhs_dilation=strides,
        dimension_numbers=_ORDER,
    )
    return inputs_gradient, kernel_gradient.transpose(1, 2, 0, 3)


_convolution.defvjp(_forward, _backward)
