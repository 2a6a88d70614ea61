"""Two-dimensional convolution with gradients that are fast on a CPU inside a compiled loop.

XLA:CPU runs a convolution with Eigen if its dimensions have Eigen's order, and with slow loops
otherwise. It can reorder dimensions, but not inside a loop or a branch, where training runs. The
gradients that JAX derives have another order. This module writes them in Eigen's order.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gru_audio.platforms import platform

_ORDER = ("NHWC", "HWIO", "NHWC")  # Eigen's order for inputs, kernel and outputs

Padding = tuple[tuple[int, int], ...]


def convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **plain: Any,
) -> jax.Array:
    """Computes `jax.lax.conv_general_dilated` without dilation, for linen's `Conv`.

    Args:
      inputs: (batch, height, width, channels).
      kernel: (height, width, channels, features).
      strides: for height and width.
      padding: (before, after) for height and width.
      plain: other arguments of linen's `Conv`, which must not ask for dilation or groups.

    Returns:
      (batch, new height, new width, features).
    """
    if platform() == "cpu":
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
    """Computes both gradients as convolutions with the dilated gradient of the outputs."""
    inputs, kernel = saved
    dilated_sizes = [
        (n - 1) * stride + 1 for n, stride in zip(gradient.shape[1:3], strides, strict=True)
    ]
    inputs_padding, kernel_padding = [], []
    for size, taps, dilated, (before, _) in zip(
        inputs.shape[1:3], kernel.shape[:2], dilated_sizes, padding, strict=True
    ):
        inputs_padding.append((taps - 1 - before, size - dilated + before))
        kernel_padding.append((before, dilated + taps - 1 - size - before))
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    inputs_gradient = jax.lax.conv_general_dilated(
        gradient, flipped, (1, 1), inputs_padding, lhs_dilation=strides, dimension_numbers=_ORDER
    )
    # The convolution treats channels as examples, and examples as channels.
    kernel_gradient = jax.lax.conv_general_dilated(
        inputs.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        kernel_padding,
        rhs_dilation=strides,
        dimension_numbers=_ORDER,
    )
    return inputs_gradient, kernel_gradient.transpose(1, 2, 0, 3)


_convolution.defvjp(_forward, _backward)
