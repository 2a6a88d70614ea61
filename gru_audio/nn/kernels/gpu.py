"""The loops as Pallas kernels for NVIDIA GPUs, compiled by Triton.

One program processes one tile of examples over all time steps, with the carry in registers. So
programs never wait for each other. Recurrent weights that fit stay in the shared memory of the
program's multiprocessor. Others are streamed from the L2 cache in every step. `vmap` adds a grid
dimension, so that many small models run in parallel, each with its own weights.

The tests compare the kernels with the plain loop in interpret mode, lower them for CUDA, and on a
GPU compare them with float64 (tests/nn/test_gpu.py). They passed on an NVIDIA H200 with JAX 0.11,
whose Pallas warns that it will remove its Triton backend.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from gru_audio.nn.equations import Carry, Cell, Params, Projections, Values, wide_dtype
from gru_audio.nn.kernels.blocks import Blocks, in_blocks, padded, round_up
from gru_audio.nn.kernels.gpu_weights import Resident, Streamed
from gru_audio.nn.kernels.gradient import Forward
from gru_audio.settings import UserError

_KIBIBYTE = 1024
# KiB of shared memory for one program, by the GPU's compute capability (CUDA programming guide,
# table of technical specifications). Every GPU that Triton supports has at least the smallest.
_SHARED_MEMORY = {"8.0": 163, "8.6": 99, "8.7": 163, "8.9": 99, "9.0": 227, "10.0": 227, "12.0": 99}
_WORTHWHILE = 512 * _KIBIBYTE  # bytes of recurrent weights; see `pays`
_WIDEST = 256  # hidden units; the registers of eight warps hold the values of so many
# Precisions for which Triton rounds float32 operands to TF32 and multiplies once.
_ONE_PASS = {None, "default", "bfloat16", "tensorfloat32", "high", "TF32_TF32_F32"}
_Batched = tuple[Any, int | None]  # a pytree of arrays, and their batch axis


@dataclass(frozen=True)
class PallasGpu:
    """The loops for a GPU; see `gru_audio.nn.kernels.gradient.Loops`.

    Products follow `jax.default_matmul_precision`. Unless it asks for more, float32 operands are
    rounded to TF32.

    Attributes:
      rows: examples per program, a power of two, at least 8. From 16 on, Triton uses the matrix
        instructions of Hopper (wgmma). With 8, twice as many programs share the work.
      warps: warps (32 threads each) per program; None: one per 16 units, at most 8.
      stages: pipeline stages of the loop that streams weights.
      resident: whether the weights stay in shared memory; None: as `stay` decides. A kernel that
        needs more shared memory than the GPU has does not compile.
      memory: bytes of shared memory per program; None: as `shared_memory` returns.
      interpret: use Pallas' interpreter, which runs on any platform.

    Raises:
      UserError: by both loops, if `fits` is False.
    """

    rows: int = 8
    warps: int | None = None
    stages: int = 3
    resident: bool | None = None
    memory: int | None = None
    interpret: bool = False

    def forward(
        self,
        cell: Cell,
        params: Params,
        projections: Projections,
        carry: Carry,
        lengths: jax.Array | None,
        reverse: bool,
        derivatives: bool,
    ) -> Forward:
        time = len(projections[0])
        frames = jax.ShapeDtypeStruct(projections[0].shape, projections[0].dtype)
        ends = tuple(jax.ShapeDtypeStruct(value.shape, value.dtype) for value in carry)
        kept = cell.slot_dtypes(frames.dtype) if derivatives else {}
        slots = {name: jax.ShapeDtypeStruct(frames.shape, dtype) for name, dtype in kept.items()}
        operands = dict.fromkeys(cell.operands if derivatives else (), frames)

        def kernel(blocks, lengths, projections, carry, outputs, ends, slots, operands):
            weights = self._weights(cell, blocks, projections[0])
            limits = None if lengths is None else lengths[...]

            def read(t):
                return tuple(ref[t] for ref in projections)

            def step(t, frame, carry):
                valid = None if limits is None else (t < limits)[:, None]
                output, new, local, multiplied = cell.forward(
                    weights, carry, frame, valid, derivatives=derivatives
                )
                outputs[t] = output.astype(outputs.dtype)
                if derivatives:
                    _put_all(slots, local, t)
                    _put_all(operands, multiplied, t)
                return new

            _put(ends, _over_time(time, reverse, read, step, tuple(ref[...] for ref in carry)))

        results = self._call(
            kernel,
            inputs=(
                (self._blocks(cell, params, frames, transposed=True), None),
                (lengths, 0),
                (projections, 1),
                (carry, 0),
            ),
            outputs=((frames, 1), (ends, 0), (slots, 1), (operands, 1)),
        )
        return Forward(*results)

    def backward(
        self,
        cell: Cell,
        params: Params,
        slots: Values,
        d_outputs: jax.Array,
        d_carry: Carry,
        lengths: jax.Array | None,
        reverse: bool,
    ) -> tuple[Values, Carry]:
        time = len(d_outputs)
        sums = {name: slots[name] for name in cell.sums}
        others = {name: slots[name] for name in cell.slots if name not in sums}
        d_carry = tuple(d.astype(wide_dtype(d.dtype)) for d in d_carry)

        def kernel(sums, blocks, others, lengths, d_outputs, d_final, d_sums, d_initial):
            weights = self._weights(cell, blocks, d_outputs)
            limits = None if lengths is None else lengths[...]

            def read(t):
                return {name: ref[t] for name, ref in (sums | others).items()}, d_outputs[t]

            def step(t, frame, d_carry):
                local, d_output = frame
                valid = None if limits is None else (t < limits)[:, None]
                gradients, d_carry = cell.backward(weights, local, d_output, d_carry, valid)
                _put_all(d_sums, gradients, t)
                return d_carry

            start = tuple(ref[...] for ref in d_final)
            _put(d_initial, _over_time(time, not reverse, read, step, start))

        return self._call(
            kernel,
            inputs=(
                (sums, 1),
                (self._blocks(cell, params, d_outputs, transposed=False), None),
                (others, 1),
                (lengths, 0),
                (d_outputs, 1),
                (d_carry, 0),
            ),
            outputs=((sums, 1), (d_carry, 0)),
            # The gradient of a sum overwrites the local derivative that it is computed from.
            in_place=len(sums),
        )

    def _blocks(
        self, cell: Cell, params: Params, like: Any, transposed: bool
    ) -> dict[str, jax.Array]:
        """Returns the parameters in blocks; `transposed` gives matrices as (gates, to, from).

        `like` has the hidden size and the type of the computation.
        """
        hidden = like.shape[-1]
        if not fits(cell, hidden, like.dtype, self.memory):
            raise UserError(
                f'model.implementation="pallas_gpu" cannot run {hidden} units in {like.dtype}: it '
                f"needs at most {_WIDEST} units, float32, bfloat16 or float16, and weights that "
                f"can be streamed through {self._memory // _KIBIBYTE} KiB of shared memory. "
                'Set model.implementation="loop".'
            )
        blocks = in_blocks(cell, params, _width(hidden))
        if transposed:
            blocks |= {name: jnp.swapaxes(blocks[name], 1, 2) for name in cell.kernels}
        return blocks

    def _weights(self, cell: Cell, blocks: Mapping[str, Any], like: Any) -> Blocks:
        """Returns the weights inside a kernel; `like` has the padded hidden size and the type."""
        width, dtype = like.shape[-1], like.dtype
        resident = self.resident
        if resident is None:
            resident = stay(cell, width, dtype, self.rows, self.memory)
        loaded = cell.vectors | (cell.kernels if resident else {})
        values = {
            name: [blocks[name][i] for i in range(len(gates))] for name, gates in loaded.items()
        }
        if resident:
            return Resident(values)
        wide = _streaming(cell, width, dtype, 32, self.rows, self.stages) <= self._memory
        return Streamed({**blocks, **values}, min(width, 32 if wide else 16))

    @property
    def _memory(self) -> int:
        return shared_memory() if self.memory is None else self.memory

    def _call(
        self,
        kernel: Callable[..., None],
        inputs: tuple[_Batched, ...],
        outputs: tuple[_Batched, ...],
        in_place: int = 0,
    ) -> tuple[Any, ...]:
        """Pads the batch to whole tiles, runs a kernel on each tile, and removes the padding.

        The first `in_place` arrays of the outputs reuse the memory of the first inputs.
        """
        _, batch, hidden = jax.tree.leaves(outputs[0][0])[0].shape
        examples, width = round_up(batch, self.rows), _width(hidden)

        def padded_shape(array, axis):
            # The batch axis comes second, because it is also the last axis of a vector.
            sizes = {} if axis is None else {array.ndim - 1: width, axis: examples}
            return tuple(sizes.get(i, size) for i, size in enumerate(array.shape))

        def spec(array, axis):
            shape = padded_shape(array, axis)
            block = tuple(self.rows if i == axis else size for i, size in enumerate(shape))
            return pl.BlockSpec(
                block, lambda tile: tuple(tile if i == axis else 0 for i in range(array.ndim))
            )

        results = pl.pallas_call(
            kernel,
            out_shape=_each(
                lambda a, axis: jax.ShapeDtypeStruct(padded_shape(a, axis), a.dtype), outputs
            ),
            grid=(examples // self.rows,),
            in_specs=_each(spec, inputs),
            out_specs=_each(spec, outputs),
            input_output_aliases={i: i for i in range(in_place)},
            compiler_params=plgpu.CompilerParams(
                num_warps=self.warps or min(8, width // 16), num_stages=self.stages
            ),
            interpret=self.interpret,
        )(*_each(lambda a, axis: padded(a, dict(enumerate(padded_shape(a, axis)))), inputs))
        shapes = tuple(tree for tree, _ in outputs)
        return jax.tree.map(lambda a, like: a[tuple(map(slice, like.shape))], results, shapes)


def shared_memory(capability: str | None = None) -> int:
    """Returns the bytes of shared memory that one program may use.

    Args:
      capability: compute capability of the GPU, such as "9.0"; None: that of the first device. An
        unknown capability gives the smallest known size.
    """
    if capability is None:
        capability = getattr(jax.devices()[0], "compute_capability", None)
    return _KIBIBYTE * _SHARED_MEMORY.get(str(capability), min(_SHARED_MEMORY.values()))


def fits(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike, memory: int | None = None) -> bool:
    """Returns whether `PallasGpu` can run a cell of this size; `memory` as there.

    The values of a step are (rows, hidden) tiles in registers, which hold up to 256 units. Streamed
    weights must fit into shared memory.
    """
    memory = shared_memory() if memory is None else memory
    width, dtype = _width(hidden), jnp.dtype(dtype)
    supported = dtype in map(jnp.dtype, (jnp.float32, jnp.bfloat16, jnp.float16))
    return supported and width <= _WIDEST and _streaming(cell, width, dtype, 16) <= memory


def pays(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike, memory: int | None = None) -> bool:
    """Returns whether the kernels were faster than the loop in XLA on an H200.

    They were for up to half a MiB of recurrent weights, and for products of one pass (TF32 or
    narrower). An LSTM with 1 MiB of weights was slower. More precise products were measured at one
    size only.
    """
    width, size = _width(hidden), jnp.dtype(dtype).itemsize
    small = _matrices(cell) * width * width * size <= _WORTHWHILE
    return small and _one_pass(dtype) and fits(cell, hidden, dtype, memory)


def _one_pass(dtype: jax.typing.DTypeLike) -> bool:
    narrow = jnp.dtype(dtype).itemsize < 4
    return narrow or jax.config.values["jax_default_matmul_precision"] in _ONE_PASS


def stay(
    cell: Cell,
    hidden: int,
    dtype: jax.typing.DTypeLike,
    rows: int = PallasGpu.rows,
    memory: int | None = None,
) -> bool:
    """Returns whether all recurrent matrices fit into shared memory, with a tile of rows for each.

    On Hopper the limit is 128 units, for an LSTM in float32 64. False, too, if float32 products
    must be more precise than TF32: Triton then makes copies that do not fit.
    """
    memory = shared_memory() if memory is None else memory
    width, dtype = _width(hidden), jnp.dtype(dtype)
    needed = _matrices(cell) * width * (width + rows) * dtype.itemsize
    return _one_pass(dtype) and needed <= memory


def _streaming(
    cell: Cell,
    width: int,
    dtype: jax.typing.DTypeLike,
    chunk: int,
    rows: int = PallasGpu.rows,
    stages: int = PallasGpu.stages,
) -> int:
    """Returns the bytes of shared memory for slices of `chunk` units and a tile of rows.

    Each stage except one has a buffer. With 16 rows or more the products overlap with the next
    transfer, and need one more buffer.
    """
    buffers = max(1, stages - (rows < 16))
    return _matrices(cell) * chunk * width * jnp.dtype(dtype).itemsize * buffers + rows * width * 4


def _matrices(cell: Cell) -> int:
    return sum(map(len, cell.kernels.values()))


def _width(hidden: int) -> int:
    """Returns the padded hidden size: a power of two for Triton, at least 16 for tensor cores."""
    return max(16, pl.next_power_of_2(hidden))


def _over_time(
    time: int,
    reverse: bool,
    read: Callable[[jax.Array], Any],
    step: Callable[[jax.Array, Any, Carry], Carry],
    start: Carry,
) -> Carry:
    """Runs the steps in order. Each frame is read one step ahead, to hide the memory latency."""

    def index(i):
        return time - 1 - i if reverse else i

    def body(i, state):
        frame, carry = state
        next_frame = read(index(jnp.minimum(i + 1, time - 1)))
        return next_frame, step(index(i), frame, carry)

    return lax.fori_loop(0, time, body, (read(index(0)), start))[1]


def _each(function: Callable[..., Any], arrays: tuple[_Batched, ...]) -> tuple[Any, ...]:
    """Maps `function(array, axis)` over the pytrees; `axis` is the batch axis."""
    return tuple(
        jax.tree.map(functools.partial(function, axis=axis), tree) for tree, axis in arrays
    )


def _put(refs: tuple[Any, ...], values: Carry) -> None:
    for ref, value in zip(refs, values, strict=True):
        ref[...] = value


def _put_all(refs: Mapping[str, Any], values: Values, t: jax.Array) -> None:
    for name, value in values.items():
        refs[name][t] = value.astype(refs[name].dtype)
