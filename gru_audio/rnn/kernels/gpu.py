"""The loops as Pallas kernels for NVIDIA GPUs, through Triton.

One program takes a tile of examples through all time, with the carry in registers: no two programs
ever wait for each other. Recurrent weights that fit stay in the shared memory of the program's
multiprocessor; others are streamed from the L2 cache at every step. Under `vmap` the grid gains a
dimension, so that many small models run side by side, each with its own weights at hand.

Checked in interpret mode against the plain loop and lowered for CUDA (tests/rnn/test_gpu.py); not
run on a GPU. From JAX 0.12 on Pallas warns that its way to Triton will be removed.
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

from gru_audio.rnn.equations import Carry, Cell, Matrix, Params, Projections, Values, wide_dtype
from gru_audio.rnn.kernels import frame
from gru_audio.rnn.kernels.blocks import Blocks, in_blocks, padded, product, round_up
from gru_audio.rnn.kernels.gradient import Forward
from gru_audio.settings import UserError

_KIBIBYTE = 1024
# Of shared memory that one program may use, by the GPU's compute capability (CUDA's programming
# guide, table of technical specifications). The least is what any GPU that Triton serves has.
_SHARED_MEMORY = {"8.0": 163, "8.6": 99, "8.7": 163, "8.9": 99, "9.0": 227, "10.0": 227, "12.0": 99}
_WIDEST = 256  # hidden units whose values stay in the registers of eight warps
# Precisions at which Triton rounds float32 operands to TF32 and multiplies once.
_ONE_PASS = {None, "default", "bfloat16", "tensorfloat32", "high", "TF32_TF32_F32"}
_Placed = tuple[Any, int | None]  # a tree of arrays, and the axis of their examples


@dataclass(frozen=True)
class PallasGpu:
    """See `gru_audio.rnn.kernels.gradient.Loops`.

    Products follow `jax.default_matmul_precision`; float32 operands are rounded to TF32 unless it
    asks for more.

    Attributes:
      rows: examples to a program, a power of two, at least 8. From 16 on Triton takes the products
        that Hopper added (wgmma); with 8, twice as many programs share the work.
      warps: of 32 threads, to a program; None: one for 16 units, but at most 8.
      stages: how many steps ahead streamed weights are fetched, this one included.
      resident: whether the weights stay in shared memory; None: where `stay` says so. A kernel that
        takes more of it than there is does not compile.
      memory: bytes of shared memory that a program may use; None: as many as `shared_memory` finds.
      interpret: run by Pallas' interpreter, on any platform.

    Raises:
      UserError: from both loops, where not `fits`.
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

            def step(t, now, carry):
                valid = None if limits is None else (t < limits)[:, None]
                output, new, local, multiplied = frame.forward(
                    cell, weights, carry, now, valid, derivatives=derivatives
                )
                outputs[t] = output.astype(outputs.dtype)
                if derivatives:
                    _put_all(slots, local, t)
                    _put_all(operands, multiplied, t)
                return new

            _put(ends, _over_time(time, reverse, read, step, tuple(ref[...] for ref in carry)))

        found = self._call(
            kernel,
            inputs=(
                (self._blocks(cell, params, frames, turned=True), None),
                (lengths, 0),
                (projections, 1),
                (carry, 0),
            ),
            outputs=((frames, 1), (ends, 0), (slots, 1), (operands, 1)),
        )
        return Forward(*found)

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
        gates = {name: slots[name] for name in cell.sums}
        rest = {name: slots[name] for name in cell.slots if name not in gates}
        after = tuple(d.astype(wide_dtype(d.dtype)) for d in d_carry)

        def kernel(gates, blocks, rest, lengths, d_outputs, after, d_gates, before):
            weights = self._weights(cell, blocks, d_outputs)
            limits = None if lengths is None else lengths[...]

            def read(t):
                return {name: ref[t] for name, ref in (gates | rest).items()}, d_outputs[t]

            def step(t, now, d_after):
                local, d_output = now
                valid = None if limits is None else (t < limits)[:, None]
                found, d_before = frame.backward(cell, weights, local, d_output, d_after, valid)
                _put_all(d_gates, found, t)
                return d_before

            _put(before, _over_time(time, not reverse, read, step, tuple(d[...] for d in after)))

        return self._call(
            kernel,
            inputs=(
                (gates, 1),
                (self._blocks(cell, params, d_outputs, turned=False), None),
                (rest, 1),
                (lengths, 0),
                (d_outputs, 1),
                (after, 0),
            ),
            outputs=((gates, 1), (after, 0)),
            # The gradient of a gate takes the place of the local derivative it is made from.
            in_place=len(gates),
        )

    def _blocks(self, cell: Cell, params: Params, like: Any, turned: bool) -> dict[str, jax.Array]:
        """The parameters; matrices lie as (gates, to, from), so forward they are turned."""
        hidden = like.shape[-1]
        if not fits(cell, hidden, like.dtype, self.memory):
            raise UserError(
                f'model.implementation="pallas_gpu" serves up to {_WIDEST} units in float32, '
                f"bfloat16 or float16 whose weights can be streamed through "
                f"{self._memory // _KIBIBYTE} KiB of shared memory, not {hidden} in {like.dtype}. "
                'Set model.implementation="loop".'
            )
        blocks = in_blocks(cell, params, _width(hidden))
        if turned:
            blocks |= {name: jnp.swapaxes(blocks[name], 1, 2) for name in cell.kernels}
        return blocks

    def _weights(self, cell: Cell, blocks: Mapping[str, Any], like: Any) -> Blocks:
        """For use in a kernel; `like` tells the padded hidden size and the type."""
        width, dtype = like.shape[-1], like.dtype
        resident = self.resident
        if resident is None:
            resident = stay(cell, width, dtype, self.rows, self.memory)
        held = cell.vectors | (cell.kernels if resident else {})
        values = {
            name: [blocks[name][i] for i in range(len(gates))] for name, gates in held.items()
        }
        if resident:
            return _Held(values)
        wide = _streaming(cell, width, dtype, 32, self.rows, self.stages) <= self._memory
        return _Streamed({**blocks, **values}, min(width, 32 if wide else 16))

    @property
    def _memory(self) -> int:
        return shared_memory() if self.memory is None else self.memory

    def _call(
        self,
        kernel: Callable[..., None],
        inputs: tuple[_Placed, ...],
        outputs: tuple[_Placed, ...],
        in_place: int = 0,
    ) -> tuple[Any, ...]:
        """Runs a kernel on tiles of examples, padded to whole ones, and cuts the padding off.

        The first `in_place` arrays of the inputs become the first of the outputs.
        """
        _, batch, hidden = jax.tree.leaves(outputs[0][0])[0].shape
        examples, width = round_up(batch, self.rows), _width(hidden)

        def whole(array, axis):
            # In this order, since a vector's only axis is that of the examples.
            sizes = {} if axis is None else {array.ndim - 1: width, axis: examples}
            return tuple(sizes.get(i, size) for i, size in enumerate(array.shape))

        def spec(array, axis):
            shape = whole(array, axis)
            block = tuple(self.rows if i == axis else size for i, size in enumerate(shape))
            return pl.BlockSpec(
                block, lambda tile: tuple(tile if i == axis else 0 for i in range(array.ndim))
            )

        found = pl.pallas_call(
            kernel,
            out_shape=_each(lambda a, axis: jax.ShapeDtypeStruct(whole(a, axis), a.dtype), outputs),
            grid=(examples // self.rows,),
            in_specs=_each(spec, inputs),
            out_specs=_each(spec, outputs),
            input_output_aliases={i: i for i in range(in_place)},
            compiler_params=plgpu.CompilerParams(
                num_warps=self.warps or min(8, width // 16), num_stages=self.stages
            ),
            interpret=self.interpret,
        )(*_each(lambda a, axis: padded(a, dict(enumerate(whole(a, axis)))), inputs))
        cut = tuple(tree for tree, _ in outputs)
        return jax.tree.map(lambda array, like: array[tuple(map(slice, like.shape))], found, cut)


def shared_memory(capability: str | None = None) -> int:
    """Bytes of shared memory that one program may use.

    Args:
      capability: compute capability of the GPU, such as "9.0"; None: of the first device. Where it
        is none that we know, the least of all is taken.
    """
    if capability is None:
        capability = getattr(jax.devices()[0], "compute_capability", None)
    return _KIBIBYTE * _SHARED_MEMORY.get(str(capability), min(_SHARED_MEMORY.values()))


def fits(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike, memory: int | None = None) -> bool:
    """Whether `PallasGpu` serves a cell of this size; `memory` is as there.

    The values of a step are (rows, hidden) tiles in registers, which hold them up to 256 units; the
    weights that are being streamed must fit into shared memory.
    """
    memory = shared_memory() if memory is None else memory
    width, dtype = _width(hidden), jnp.dtype(dtype)
    served = dtype in map(jnp.dtype, (jnp.float32, jnp.bfloat16, jnp.float16))
    return served and width <= _WIDEST and _streaming(cell, width, dtype, 16) <= memory


def stay(
    cell: Cell,
    hidden: int,
    dtype: jax.typing.DTypeLike,
    rows: int = PallasGpu.rows,
    memory: int | None = None,
) -> bool:
    """Whether the recurrent matrices all fit into shared memory, beside a tile of rows for each.

    On Hopper they do up to 128 units, but for an LSTM's in float32, of which 64 do. They are
    streamed too where float32 is to be better than TF32: Triton then keeps copies of them that do
    not fit.
    """
    memory = shared_memory() if memory is None else memory
    width, dtype = _width(hidden), jnp.dtype(dtype)
    needed = _matrices(cell) * width * (width + rows) * dtype.itemsize
    one_pass = dtype.itemsize < 4 or jax.config.values["jax_default_matmul_precision"] in _ONE_PASS
    return one_pass and needed <= memory


def _streaming(
    cell: Cell,
    width: int,
    dtype: jax.typing.DTypeLike,
    chunk: int,
    rows: int = PallasGpu.rows,
    stages: int = PallasGpu.stages,
) -> int:
    """Bytes of shared memory that slices of so many units take, and a tile of rows.

    Each stage but one has a buffer. The products of 16 rows and more run on while the next slice
    comes, and take another.
    """
    buffers = max(1, stages - (rows < 16))
    return _matrices(cell) * chunk * width * jnp.dtype(dtype).itemsize * buffers + rows * width * 4


class _Held(Blocks):
    """Matrices that were fetched ahead."""

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        return [_product(value, block) for block in self._refs[matrix.param]]

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        blocks = self._refs[matrix.param]
        first, *others = map(_product, gradients, blocks)
        return sum(others, first)


class _Streamed(Blocks):
    """Matrices fetched a slice at a time, the next ones meanwhile: Triton pipelines such loops."""

    def __init__(self, refs: Mapping[str, Any], chunk: int):
        super().__init__(refs)
        self._chunk = chunk

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        blocks = self._refs[matrix.param]

        def add(i, sums):
            part, at = self._part(value, i), pl.ds(i * self._chunk, self._chunk)
            return [total + _product(part, blocks[gate, :, at]) for gate, total in enumerate(sums)]

        return self._over_parts(add, [jnp.zeros_like(value) for _ in matrix.gates])

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        blocks = self._refs[matrix.param]

        def add(i, total):
            at = pl.ds(i * self._chunk, self._chunk)
            for gate, gradient in enumerate(gradients):
                total += _product(self._part(gradient, i), blocks[gate, :, at])
            return total

        return self._over_parts(add, jnp.zeros_like(gradients[0]))

    def _over_parts(self, add: Callable[..., Any], start: Any) -> Any:
        width = jax.tree.leaves(start)[0].shape[-1]
        return lax.fori_loop(0, width // self._chunk, add, start)

    def _part(self, value: jax.Array, i: jax.Array) -> jax.Array:
        """Columns ``[i * chunk, (i + 1) * chunk)``; Triton has no slices, so all others are 0."""
        parts = value.reshape(len(value), -1, self._chunk)
        here = lax.broadcasted_iota(jnp.int32, parts.shape, 1) == i
        return jnp.where(here, parts, 0).sum(1)


def _product(value: jax.Array, block: jax.Array) -> jax.Array:
    """``value @ block^T`` as ``(block @ value^T)^T``.

    The 16 or 64 rows that a tensor core takes are then filled by hidden units, not by examples.
    """
    return product(block, value.astype(block.dtype), 1).T


def _matrices(cell: Cell) -> int:
    return sum(map(len, cell.kernels.values()))


def _width(hidden: int) -> int:
    """The hidden size inside the kernels: Triton's arrays have powers of two, tensor cores 16."""
    return max(16, pl.next_power_of_2(hidden))


def _over_time(
    time: int,
    reverse: bool,
    read: Callable[[jax.Array], Any],
    step: Callable[[jax.Array, Any, Carry], Carry],
    start: Carry,
) -> Carry:
    """Steps through time; what a step reads is fetched one step ahead, to hide the latency."""

    def at(i):
        return time - 1 - i if reverse else i

    def body(i, state):
        now, carry = state
        ahead = read(at(jnp.minimum(i + 1, time - 1)))
        return ahead, step(at(i), now, carry)

    return lax.fori_loop(0, time, body, (read(at(0)), start))[1]


def _each(function: Callable[..., Any], arrays: tuple[_Placed, ...]) -> tuple[Any, ...]:
    """`function(array, axis)` for all arrays, in trees as they came."""
    return tuple(
        jax.tree.map(functools.partial(function, axis=axis), tree) for tree, axis in arrays
    )


def _put(refs: tuple[Any, ...], values: Carry) -> None:
    for ref, value in zip(refs, values, strict=True):
        ref[...] = value


def _put_all(refs: Mapping[str, Any], values: Values, t: jax.Array) -> None:
    for name, value in values.items():
        refs[name][t] = value.astype(refs[name].dtype)
