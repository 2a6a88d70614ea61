"""Our gradients of convolutions against those that JAX derives, in a compiled loop and outside."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Contestant, Options, Row, compete, say, turn
from gru_audio.nn.conv import parse_block
from gru_audio.nn.convolution import convolution

PEER = "JAX's gradients"
BLOCKS = ("16 5x5 stride 2x2", "32 3x3 stride 2x2", "48 3x3 stride 2x2")
SIZES = ((16, 250, 64), (32, 122, 64))  # batch, time and bands
STEPS = {"alone": 1, "in a loop": 4}


def measure(
    options: Options,
    sizes: Sequence[tuple[int, int, int]] = SIZES,
    blocks: Sequence[str] = BLOCKS,
) -> Iterator[Row]:
    """Times steps of gradient descent on blocks of convolutions.

    Args:
      options: options of the command line.
      sizes: batch, time and bands.
      blocks: as in ``config.model.conv``, without pooling.
    """
    for size in sizes:
        for where, steps in STEPS.items():
            name = f"{' x '.join(map(str, size))}, {where}"
            say(name)
            makers = {
                whose: functools.partial(_contestant, convolve, size, blocks, steps)
                for whose, convolve in (("ours", convolution), (PEER, _derived))
            }
            for row in compete(makers, options.seconds / len(STEPS), [PEER]):
                yield {"table": f"A step of {', '.join(blocks)}", "case": name, **row}


def _derived(inputs, kernel, strides, padding):
    order = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=order)


def _contestant(
    convolve: Callable[..., jax.Array],
    size: tuple[int, int, int],
    blocks: Sequence[str],
    steps: int,
) -> Contestant:
    """Compiles `steps` steps of gradient descent; several steps are in a loop."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(*size, 1)), jnp.float32)
    parsed = [parse_block(block) for block in blocks]
    inputs = [1, *(block.channels for block in parsed)]
    kernels = [
        jnp.asarray(rng.normal(0, 0.1, (*block.kernel, channels, block.channels)), jnp.float32)
        for block, channels in zip(parsed, inputs, strict=False)
    ]

    def loss(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for kernel, block in zip(kernels, parsed, strict=True):
            padding = [((width - 1) // 2, width // 2) for width in kernel.shape[:2]]
            x = jax.nn.relu(convolve(x, kernel, block.stride, padding))
        return jnp.mean(x**2)

    def step(kernels: list[jax.Array], images: jax.Array) -> list[jax.Array]:
        gradients = jax.grad(loss)(kernels, images)
        return jax.tree.map(lambda k, g: k - 1e-3 * g, kernels, gradients)

    def run(kernels: list[jax.Array], images: jax.Array) -> list[jax.Array]:
        if steps == 1:
            return step(kernels, images)
        return jax.lax.fori_loop(0, steps, lambda _, k: step(k, images), kernels)

    call = jax.jit(run).lower(kernels, images).compile()
    return Contestant(turn(lambda: jax.block_until_ready(call(kernels, images))), steps=steps)
