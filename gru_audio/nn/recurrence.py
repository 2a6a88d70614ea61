"""A cell run over time, by one of several implementations with the same results.

`in_chunks` runs a recurrence in chunks of time, to save memory in the backward pass.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gru_audio.nn.equations import Carry, Cell, Params, Projections, wide_dtype
from gru_audio.nn.kernels import gpu, tpu
from gru_audio.nn.kernels.choice import Run, chosen
from gru_audio.nn.kernels.gradient import differentiable
from gru_audio.nn.kernels.linear import associative
from gru_audio.nn.kernels.loop import Loop, scan
from gru_audio.platforms import platform
from gru_audio.settings import UserError, choose


@dataclass(frozen=True)
class Implementation:
    """One way to run a cell over time.

    Attributes:
      run: has the positional arguments of `recurrence`, up to `reverse`, and its results.
      serves: ``(cell, hidden, dtype)`` -> whether it can run the cell with `hidden` units.
      platform: "gpu" or "tpu" if it runs only there; None: it runs on all platforms.
    """

    run: Run
    serves: Callable[[Cell, int, jax.typing.DTypeLike], bool] = lambda cell, hidden, dtype: True
    platform: str | None = None


def recurrence(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None = None,
    *,
    reverse: bool = False,
    implementation: str = "auto",
) -> tuple[jax.Array, Carry]:
    """Runs ``cell`` over the valid frames of each example.

    Past an example's length the carry does not change and the outputs are zero. So the results of
    an example do not depend on how far the batch is padded.

    Args:
      cell: an entry of `gru_audio.nn.cells.CELLS`.
      params: the cell's recurrent parameters by name. They are cast to the type of the projections.
        Their gradients accumulate over time in float32 or wider.
      projections: one array (time, batch, hidden) for each gate of the cell.
      carry: one array (batch, hidden) for each carried value of the cell. It is cast to float32 or
        wider, because narrow types would round small updates away.
      lengths: int (batch,), valid frames of each example; None: all frames are valid.
      reverse: run from the last valid frame to the first.
      implementation: a key of `IMPLEMENTATIONS`.

    Returns:
      The outputs (time, batch, hidden), in frame order and in the type of the projections, and the
      final carry, in float32 or wider.

    Raises:
      UserError: the implementation is unknown, or cannot run this cell on this platform.
    """
    chosen = choose("implementation", implementation, IMPLEMENTATIONS)
    backend = platform()
    if chosen.platform not in (None, backend):
        raise UserError(
            f'model.implementation="{implementation}" needs a {chosen.platform.upper()}, but JAX '
            f'runs on the {backend.upper()} here. Set "auto", which runs on every platform.'
        )
    wide = wide_dtype(projections[0].dtype)
    carry = tuple(value.astype(wide) for value in carry)
    return chosen.run(cell, params, projections, carry, lengths, reverse)


_loop = functools.partial(differentiable, Loop())
_pallas_gpu = functools.partial(differentiable, gpu.PallasGpu())


def _auto(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """Runs the implementation that was measured for this program, or that a rule chooses.

    Training on an accelerator measures (`gru_audio.training.tuning`). The rule is what was the
    fastest on a CPU and an NVIDIA H200; docs/performance.md has the figures.
    """
    like = projections[0]
    run: Run = _loop
    if choice := chosen(cell, projections, lengths, reverse):
        run = choice.run
    elif cell.linear and platform() != "cpu":
        run = associative
    elif platform() == "gpu" and gpu.pays(cell, like.shape[-1], like.dtype):
        run = _pallas_gpu
    return run(cell, params, projections, carry, lengths, reverse)


IMPLEMENTATIONS: Mapping[str, Implementation] = {
    "auto": Implementation(_auto),
    "scan": Implementation(scan),
    "loop": Implementation(_loop),
    "associative": Implementation(associative, lambda cell, hidden, dtype: cell.linear),
    "pallas_tpu": Implementation(
        functools.partial(differentiable, tpu.PallasTpu()), tpu.fits, "tpu"
    ),
    "pallas_gpu": Implementation(_pallas_gpu, gpu.fits, "gpu"),
}


def usable(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike) -> list[str]:
    """Returns the implementations, except "auto", that can run the cell on this platform."""
    return [
        name
        for name, implementation in IMPLEMENTATIONS.items()
        if name != "auto"
        and implementation.platform in (None, platform())
        and implementation.serves(cell, hidden, dtype)
    ]


def in_chunks(
    run: Callable[[jax.Array, jax.Array | None, Carry], tuple[jax.Array, Carry]],
    inputs: jax.Array,
    lengths: jax.Array | None,
    carry: Carry,
    *,
    frames: int,
    reverse: bool = False,
) -> tuple[jax.Array, Carry]:
    """Computes ``run(inputs, lengths, carry)`` with rematerialisation (Chen et al. 2016).

    The backward pass recomputes one chunk of time after another (arXiv 1604.06174). It stores the
    inputs, the outputs, the carry of each chunk and the activations of one chunk: for T frames in
    chunks of K, the activations of K frames and T / K carries.

    Args:
      run: ``(inputs, lengths, carry) -> (outputs, carry)``. It must not change the carry past an
        example's length.
      inputs: (time, batch, features).
      lengths: int (batch,), valid frames; None: all frames are valid.
      carry: the initial carry.
      frames: number of frames in a chunk.
      reverse: whether `run` goes from the last valid frame to the first.

    Returns:
      The outputs (time, batch, units) and the final carry.
    """
    time, batch, features = inputs.shape
    chunks = -(-time // frames)
    padding = chunks * frames - time
    if padding:
        inputs = jnp.pad(inputs, ((0, padding), (0, 0), (0, 0)))
        lengths = jnp.full(batch, time, jnp.int32) if lengths is None else lengths

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the scan already prevents it
    def chunk(carry: Carry, part: tuple[jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
        start, inputs = part
        remaining = None if lengths is None else jnp.clip(lengths - start, 0, frames)
        outputs, carry = run(inputs, remaining, carry)
        return carry, outputs

    starts = frames * jnp.arange(chunks)
    parts = inputs.reshape(chunks, frames, batch, features)
    carry, outputs = jax.lax.scan(chunk, carry, (starts, parts), reverse=reverse)
    return outputs.reshape(chunks * frames, batch, -1)[:time], carry
