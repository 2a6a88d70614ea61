"""What convolutions cost where training happens, inside a compiled loop: our gradients or JAX's."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.setting import say
from benchmarks.timing import host, interleave, show_host, shown, speed, spread, turn
from gru_audio.models.conv import parse_block
from gru_audio.models.convolution import convolution

PEER = "JAX's gradients"
BLOCKS = ("16 5x5 stride 2x2", "32 3x3 stride 2x2", "48 3x3 stride 2x2")
SIZES = ((16, 250, 64), (32, 122, 64))
_STEPS = 4  # of the loop


def measure(
    config_file: str,
    seconds: float,
    sizes: Sequence[tuple[int, int, int]] = SIZES,
    blocks: Sequence[str] = BLOCKS,
) -> dict[str, Any]:
    """Times steps of gradient descent on some blocks of convolutions, in turns.

    Args:
      config_file: has no effect.
      seconds: to spend on each size, beside compilation.
      sizes: batch, time and bands.
      blocks: as in ``config.model.conv``, without pooling.
    """
    rows = [row for size in sizes for row in _measure_size(size, seconds, blocks)]
    about = {"benchmark": "convolution", "host": host(), "platform": jax.default_backend()}
    return about | {"peer": PEER, "blocks": list(blocks), "rows": rows}


def _measure_size(
    size: tuple[int, int, int], seconds: float, blocks: Sequence[str]
) -> Iterator[dict[str, Any]]:
    name = " x ".join(map(str, size))
    say(name)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(*size, 1)), jnp.float32)
    parsed = [parse_block(block) for block in blocks]
    inputs = [1, *(block.channels for block in parsed)]
    kernels = [
        jnp.asarray(rng.normal(0, 0.1, (*block.kernel, channels, block.channels)), jnp.float32)
        for block, channels in zip(parsed, inputs, strict=False)
    ]
    strides = [block.stride for block in parsed]
    contestants = {
        f"{whose}, {where}": _compiled(convolve, strides, steps, kernels, images)
        for whose, convolve in (("ours", convolution), (PEER, _derived))
        for where, steps in (("alone", 1), ("in a loop", _STEPS))
    }
    times = interleave({n: turn(run) for n, run in contestants.items()}, seconds)
    for where, steps in (("alone", 1), ("in a loop", _STEPS)):
        ours, peer = times[f"ours, {where}"], times[f"{PEER}, {where}"]
        yield {
            "size": name,
            "where": where,
            "ours_ms": spread(ours / steps * 1e3),
            "peer_ms": spread(peer / steps * 1e3),
            "speed": speed(ours, peer),
        }


def _derived(inputs, kernel, strides, padding):
    order = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=order)


def _compiled(
    convolve: Callable[..., jax.Array],
    strides: Sequence[tuple[int, int]],
    steps: int,
    kernels: list[jax.Array],
    images: jax.Array,
) -> Callable[[], Any]:
    """Steps of descent, ready to be taken: as a loop where there are several."""

    def loss(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for kernel, stride in zip(kernels, strides, strict=True):
            around = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
            x = jax.nn.relu(convolve(x, kernel, stride, around))
        return jnp.mean(x**2)

    def step(kernels: list[jax.Array], images: jax.Array) -> list[jax.Array]:
        gradients = jax.grad(loss)(kernels, images)
        return jax.tree.map(lambda k, g: k - 1e-3 * g, kernels, gradients)

    def many(kernels: list[jax.Array], images: jax.Array) -> list[jax.Array]:
        if steps == 1:
            return step(kernels, images)
        return jax.lax.fori_loop(0, steps, lambda _, k: step(k, images), kernels)

    call = jax.jit(many).lower(kernels, images).compile()
    return lambda: jax.block_until_ready(call(kernels, images))


def show(result: dict[str, Any], console: Console) -> None:
    """Prints what `measure` returned."""
    show_host(result["host"], console)
    table = Table(title=f"A step of {', '.join(result['blocks'])}; as fast as {result['peer']}")
    for column in ("batch x time x bands", "where", "ours, ms", "peer, ms", "as fast"):
        table.add_column(column)
    for row in result["rows"]:
        told = (shown(row[name]) for name in ("ours_ms", "peer_ms", "speed"))
        table.add_row(row["size"], row["where"], *told)
    console.print(table)
