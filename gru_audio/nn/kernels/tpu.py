"""The loops as Pallas kernels for a TPU.

The grid has parallel tiles of the batch and sequential chunks of time. The recurrent weights are
loaded once and stay in VMEM. The carry stays there, too, in the block of the final carry, which all
chunks of a tile use. Per-frame arrays are streamed in chunks: the next chunk is loaded while the
kernel works on the current one. In a chunk, a loop runs the cell frame by frame.

The tests run the kernels in interpret mode with race detection. The kernels were compiled for a
TPU v5e, but have not run on one.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from gru_audio.nn.equations import Carry, Cell, Matrix, Params, Projections, Values, wide_dtype
from gru_audio.nn.kernels.blocks import Blocks, in_blocks, padded, product, round_up
from gru_audio.nn.kernels.gradient import Forward
from gru_audio.settings import UserError

LANES = 128
MOST_ROWS = 128  # of a tile: enough to amortise loading the weights into the matrix unit
MOST_FRAMES = 32  # of a chunk: the kernel waits while the first chunk is loaded
MEBIBYTE = 1 << 20
WEIGHTS = 48 * MEBIBYTE  # VMEM for weights; a core has at least 64 since TPU v5e, 16 before
STREAMS = 8 * MEBIBYTE  # VMEM for everything else
SCOPED = 16 * MEBIBYTE  # default VMEM limit of a kernel

OUTPUT = "output"  # a key next to the names of slots and parameters

Refs = Mapping[str, Any]
# Runs one frame: (weights, streamed inputs, state, valid) -> (streamed outputs, new state).
Step = Callable[[Refs, Values, Carry, jax.Array | None], tuple[Values, Carry]]


def fits(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike) -> bool:
    """Returns whether the recurrent weights fit into the VMEM of a TPU v5e or later."""
    return _bytes_of_weights(cell, hidden, dtype) <= WEIGHTS


def tile(
    shape: tuple[int, int, int], streams: Sequence[jax.typing.DTypeLike], states: int
) -> tuple[int, int]:
    """Returns the frames and rows of a block: first as many rows as useful, then frames that fit.

    Args:
      shape: (time, batch, hidden) of the streamed arrays, hidden padded to whole lanes.
      streams: the types of all streamed inputs and outputs.
      states: number of carried arrays (batch, hidden).
    """
    time, batch, hidden = shape
    fewest = max(map(_sublanes, streams))
    rows = round_up(pl.cdiv(batch, pl.cdiv(batch, MOST_ROWS)), fewest)
    while _bytes_of_blocks((1, rows, hidden), streams, states) > STREAMS:
        if rows == fewest:
            return 1, rows
        rows = round_up(rows // 2, fewest)
    frames = min(time, MOST_FRAMES)
    while _bytes_of_blocks((frames, rows, hidden), streams, states) > STREAMS:
        frames -= 1
    return pl.cdiv(time, pl.cdiv(time, frames)), rows


def _sublanes(dtype: jax.typing.DTypeLike) -> int:
    return 32 // jnp.dtype(dtype).itemsize


def _bytes_of_weights(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike) -> int:
    hidden = round_up(hidden, LANES)
    rows = sum(hidden * len(gates) for gates in cell.kernels.values())
    rows += sum(_sublanes(dtype) * len(gates) for gates in cell.vectors.values())
    return rows * hidden * jnp.dtype(dtype).itemsize


def _bytes_of_blocks(
    block: tuple[int, int, int], streams: Sequence[jax.typing.DTypeLike], states: int
) -> int:
    """Returns the bytes of two buffers for each block and one frame's values in float32."""
    frames, rows, hidden = block
    streamed = 2 * frames * sum(jnp.dtype(dtype).itemsize for dtype in streams)
    return rows * hidden * (streamed + 4 * (2 * 2 * states + len(streams)))


@dataclass(frozen=True)
class PallasTpu:
    """The loops for a TPU; see `gru_audio.nn.kernels.gradient.Loops`.

    Products have JAX's default precision.

    Attributes:
      frames, rows: of a block; None: as `tile` returns.
      interpret: passed to `pl.pallas_call`; True or `pltpu.InterpretParams` need no TPU.
    """

    frames: int | None = None
    rows: int | None = None
    interpret: Any = False

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
        """Runs the cell over time; see `Loops.forward`.

        Raises:
          UserError: the weights do not fit into VMEM.
        """
        hidden, dtype = projections[0].shape[-1], projections[0].dtype
        if not fits(cell, hidden, dtype):
            raise UserError(
                f"The TPU kernel keeps the recurrent weights in VMEM, and those of {hidden} units "
                'do not fit. Set model.implementation="loop".'
            )
        outputs: dict[str, jax.typing.DTypeLike] = {OUTPUT: dtype}
        if derivatives:
            outputs |= cell.slot_dtypes(dtype) | dict.fromkeys(cell.operands, dtype)

        def step(refs, frame, carry, valid):
            gates = tuple(frame[gate] for gate in cell.gates)
            output, new, slots, operands = cell.forward(
                Blocks(refs), carry, gates, valid, derivatives=derivatives
            )
            return {OUTPUT: output} | slots | operands, new

        results, carry = self._run(
            step,
            cell,
            in_blocks(cell, params, round_up(hidden, LANES)),
            dict(zip(cell.gates, projections, strict=True)),
            outputs,
            carry,
            lengths,
            reverse=reverse,
        )
        slots = {name: results[name] for name in cell.slots if name in outputs}
        operands = {name: results[name] for name in cell.operands if name in outputs}
        return Forward(results[OUTPUT], carry, slots, operands)

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
        weights = in_blocks(cell, params, round_up(d_outputs.shape[-1], LANES))
        transposed = {name: weights[name].swapaxes(1, 2) for name in cell.kernels}

        def step(refs, frame, d_carry, valid):
            local = {name: frame[name] for name in cell.slots}
            return cell.backward(_Transposed(refs), local, frame[OUTPUT], d_carry, valid)

        return self._run(
            step,
            cell,
            weights | transposed,
            slots | {OUTPUT: d_outputs},
            {gate: slots[gate].dtype for gate in cell.sums},
            tuple(d.astype(wide_dtype(d.dtype)) for d in d_carry),
            lengths,
            reverse=not reverse,
        )

    def _run(
        self,
        step: Step,
        cell: Cell,
        weights: Mapping[str, jax.Array],
        streams: Values,
        outputs: Mapping[str, jax.typing.DTypeLike],
        state: Carry,
        lengths: jax.Array | None,
        *,
        reverse: bool,
    ) -> tuple[Values, Carry]:
        """Runs `step` over time.

        Args:
          step: processes one frame.
          cell: the cell.
          weights: the blocks of the parameters, which stay in VMEM.
          streams: inputs, (time, batch, hidden) each. An output overwrites the input of its name.
          outputs: the names and types of the outputs.
          state: the initial state, (batch, hidden) each.
          lengths: int (batch,), valid frames; None: all.
          reverse: from the last frame to the first.

        Returns:
          The outputs, (time, batch, hidden) each, and the final state.
        """
        example = next(iter(streams.values()))
        time, batch, hidden = example.shape
        shape = (time, round_up(batch, _sublanes(example.dtype)), round_up(hidden, LANES))
        dtypes = [array.dtype for array in streams.values()] + list(outputs.values())
        frames, rows = tile(shape, dtypes, len(state))
        frames, rows = self.frames or frames, self.rows or rows
        needed = _bytes_of_weights(cell, hidden, example.dtype)
        needed += _bytes_of_blocks((frames, rows, shape[2]), dtypes, len(state))

        streams = {name: padded(a, dict(enumerate(shape))) for name, a in streams.items()}
        state = tuple(padded(value, dict(enumerate(shape[1:]))) for value in state)
        if lengths is not None:
            lengths = padded(lengths.astype(jnp.int32)[:, None], {0: shape[1]})

        chunks = pl.cdiv(time, frames)
        stream = pl.BlockSpec(
            (frames, rows, shape[2]),
            lambda tile, chunk: (chunks - 1 - chunk if reverse else chunk, tile, 0),
        )
        state_spec, length_spec = (
            pl.BlockSpec((rows, width), lambda tile, chunk: (tile, 0)) for width in (shape[2], 1)
        )
        resident = functools.partial(
            pl.BlockSpec, index_map=lambda tile, chunk: (0, 0, 0), pipeline_mode=pl.Buffered(1)
        )
        results, state = pl.pallas_call(
            functools.partial(_kernel, step, time, reverse),
            name="recurrence",
            grid=(pl.cdiv(shape[1], rows), chunks),
            in_specs=(
                dict.fromkeys(streams, stream),
                (state_spec,) * len(state),
                None if lengths is None else length_spec,
                {name: resident(array.shape) for name, array in weights.items()},
            ),
            out_specs=(dict.fromkeys(outputs, stream), (state_spec,) * len(state)),
            out_shape=(
                {name: jax.ShapeDtypeStruct(shape, dtype) for name, dtype in outputs.items()},
                tuple(jax.ShapeDtypeStruct(value.shape, value.dtype) for value in state),
            ),
            # JAX flattens a dict in the order of its sorted keys.
            input_output_aliases={
                sorted(streams).index(name): sorted(outputs).index(name)
                for name in outputs
                if name in streams
            },
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "arbitrary"),
                vmem_limit_bytes=max(SCOPED, needed + SCOPED - STREAMS),
            ),
            interpret=self.interpret,
        )(streams, state, lengths, weights)
        return (
            {name: array[:, :batch, :hidden] for name, array in results.items()},
            tuple(value[:batch, :hidden] for value in state),
        )


def _kernel(step, time, reverse, streams, initial, lengths, weights, outputs, state):
    """Processes one chunk of one tile."""
    chunk = pl.program_id(1)
    frames = next(iter(streams.values())).shape[0]
    first = (pl.num_programs(1) - 1 - chunk if reverse else chunk) * frames
    count = jnp.minimum(frames, time - first)  # the last chunk may be shorter

    @pl.when(chunk == 0)
    def begin():
        for ref, value in zip(state, initial, strict=True):
            ref[...] = value[...]

    ends = None if lengths is None else lengths[...]

    def body(i, _):
        t = count - 1 - i if reverse else i
        frame = {name: ref[t] for name, ref in streams.items()}
        valid = None if ends is None else first + t < ends
        results, new = step(weights, frame, tuple(ref[...] for ref in state), valid)
        for name, ref in outputs.items():
            ref[t] = results[name].astype(ref.dtype)
        for ref, value in zip(state, new, strict=True):
            ref[...] = value

    lax.fori_loop(0, count, body, None)


class _Transposed(Blocks):
    """Matrices that were transposed outside the kernel, in the layout of the matrix unit."""

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        blocks = self._refs[matrix.param]
        parts = [product(value, blocks[gate], 0) for gate, value in enumerate(gradients)]
        return sum(parts[1:], parts[0])
