"""The loops as Pallas kernels for a TPU.

The grid is of tiles of the batch, side by side, and of chunks of time, one after the other. The
recurrent weights are fetched once and stay in VMEM. So does the carry, in the block of the final
one, which all chunks of a tile revisit. What belongs to a frame streams through in chunks, the next
on its way while this one is worked on. Within a chunk a loop applies the cell frame by frame.

Checked in interpret mode, with race detection, and compiled for a TPU (v5e); not run on one.
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

from gru_audio.rnn.equations import Carry, Cell, Matrix, Params, Projections, Values, wide_dtype
from gru_audio.rnn.kernels import frame
from gru_audio.rnn.kernels.blocks import Blocks, in_blocks, padded, product, round_up
from gru_audio.rnn.kernels.gradient import Forward
from gru_audio.settings import UserError

LANES = 128
MOST_ROWS = 128  # of a tile: enough for each loading of weights into the matrix unit
MOST_FRAMES = 32  # of a chunk: nothing is worked on while the first is on its way
MEBIBYTE = 1 << 20
WEIGHTS = 48 * MEBIBYTE  # of VMEM; a core has 64 or more from TPU v5e on, 16 before
STREAMS = 8 * MEBIBYTE  # of VMEM for all else
SCOPED = 16 * MEBIBYTE  # of VMEM for a kernel that does not ask for more

OUTPUT = "output"  # beside the names of slots and parameters

Refs = Mapping[str, Any]
# One frame: (weights, what streams in, state, where it is valid) -> (what streams out, state).
Step = Callable[[Refs, Values, Carry, jax.Array | None], tuple[Values, Carry]]


def fits(cell: Cell, hidden: int, dtype: jax.typing.DTypeLike) -> bool:
    """Whether VMEM holds the recurrent weights, on a TPU v5e or later."""
    return _bytes_of_weights(cell, hidden, dtype) <= WEIGHTS


def tile(
    shape: tuple[int, int, int], streams: Sequence[jax.typing.DTypeLike], states: int
) -> tuple[int, int]:
    """Frames and rows of a block: as many rows as are of use, then as many frames as find room.

    Args:
      shape: (time, batch, hidden) of all that streams, hidden in whole lanes.
      streams: the types of the arrays of that shape that go in or out.
      states: how many (batch, hidden) are carried on.
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
    """Two buffers for each block, and one frame's values in float32."""
    frames, rows, hidden = block
    streamed = 2 * frames * sum(jnp.dtype(dtype).itemsize for dtype in streams)
    return rows * hidden * (streamed + 4 * (2 * 2 * states + len(streams)))


@dataclass(frozen=True)
class PallasTpu:
    """See `gru_audio.rnn.kernels.gradient.Loops`. Products are at JAX's default precision.

    Attributes:
      frames, rows: of a block; None: as `tile` has it.
      interpret: as `pl.pallas_call` takes it; True or `pltpu.InterpretParams` need no TPU.
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
        """As the protocol says.

        Raises:
          UserError: VMEM does not hold the weights.
        """
        hidden, dtype = projections[0].shape[-1], projections[0].dtype
        if not fits(cell, hidden, dtype):
            raise UserError(
                "The TPU kernel keeps the recurrent weights in VMEM, which does not hold those of "
                f'{hidden} units. Set model.implementation="loop".'
            )
        outputs: dict[str, jax.typing.DTypeLike] = {OUTPUT: dtype}
        if derivatives:
            outputs |= cell.slot_dtypes(dtype) | dict.fromkeys(cell.operands, dtype)

        def step(refs, now, carry, valid):
            gates = tuple(now[gate] for gate in cell.gates)
            output, new, slots, operands = frame.forward(
                cell, Blocks(refs), carry, gates, valid, derivatives=derivatives
            )
            return {OUTPUT: output} | slots | operands, new

        found, carry = self._run(
            step,
            cell,
            in_blocks(cell, params, round_up(hidden, LANES)),
            dict(zip(cell.gates, projections, strict=True)),
            outputs,
            carry,
            lengths,
            backwards=reverse,
        )
        slots = {name: found[name] for name in cell.slots if name in outputs}
        operands = {name: found[name] for name in cell.operands if name in outputs}
        return Forward(found[OUTPUT], carry, slots, operands)

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
        turned = {name: weights[name].swapaxes(1, 2) for name in cell.kernels}

        def step(refs, now, after, valid):
            local = {name: now[name] for name in cell.slots}
            return frame.backward(cell, _Turned(refs), local, now[OUTPUT], after, valid)

        return self._run(
            step,
            cell,
            weights | turned,
            slots | {OUTPUT: d_outputs},
            {gate: slots[gate].dtype for gate in cell.sums},
            tuple(d.astype(wide_dtype(d.dtype)) for d in d_carry),
            lengths,
            backwards=not reverse,
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
        backwards: bool,
    ) -> tuple[Values, Carry]:
        """Applies `step` along time; what streams out, and the state.

        `outputs` names what streams out, and says of which type it is.
        What streams in gives way to what goes out under the same name.
        """
        example = next(iter(streams.values()))
        time, batch, hidden = example.shape
        shape = (time, round_up(batch, _sublanes(example.dtype)), round_up(hidden, LANES))
        traffic = [array.dtype for array in streams.values()] + list(outputs.values())
        frames, rows = tile(shape, traffic, len(state))
        frames, rows = self.frames or frames, self.rows or rows
        needed = _bytes_of_weights(cell, hidden, example.dtype)
        needed += _bytes_of_blocks((frames, rows, shape[2]), traffic, len(state))

        streams = {name: padded(a, dict(enumerate(shape))) for name, a in streams.items()}
        state = tuple(padded(value, dict(enumerate(shape[1:]))) for value in state)
        if lengths is not None:
            lengths = padded(lengths.astype(jnp.int32)[:, None], {0: shape[1]})

        chunks = pl.cdiv(time, frames)
        stream = pl.BlockSpec(
            (frames, rows, shape[2]),
            lambda tile, chunk: (chunks - 1 - chunk if backwards else chunk, tile, 0),
        )
        carried, bounds = (
            pl.BlockSpec((rows, width), lambda tile, chunk: (tile, 0)) for width in (shape[2], 1)
        )
        resident = functools.partial(
            pl.BlockSpec, index_map=lambda tile, chunk: (0, 0, 0), pipeline_mode=pl.Buffered(1)
        )
        found, state = pl.pallas_call(
            functools.partial(_kernel, step, time, backwards),
            name="recurrence",
            grid=(pl.cdiv(shape[1], rows), chunks),
            in_specs=(
                dict.fromkeys(streams, stream),
                (carried,) * len(state),
                None if lengths is None else bounds,
                {name: resident(array.shape) for name, array in weights.items()},
            ),
            out_specs=(dict.fromkeys(outputs, stream), (carried,) * len(state)),
            out_shape=(
                {name: jax.ShapeDtypeStruct(shape, dtype) for name, dtype in outputs.items()},
                tuple(jax.ShapeDtypeStruct(value.shape, value.dtype) for value in state),
            ),
            # Both are numbered in the order of their names.
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
            {name: array[:, :batch, :hidden] for name, array in found.items()},
            tuple(value[:batch, :hidden] for value in state),
        )


def _kernel(step, time, backwards, streams, start, lengths, weights, outputs, state):
    """One chunk of one tile."""
    chunk = pl.program_id(1)
    frames = next(iter(streams.values())).shape[0]
    first = (pl.num_programs(1) - 1 - chunk if backwards else chunk) * frames
    valid_frames = jnp.minimum(frames, time - first)  # the last chunk may hang over the end

    @pl.when(chunk == 0)
    def begin():
        for ref, value in zip(state, start, strict=True):
            ref[...] = value[...]

    ends = None if lengths is None else lengths[...]

    def body(i, nothing):
        t = valid_frames - 1 - i if backwards else i
        now = {name: ref[t] for name, ref in streams.items()}
        valid = None if ends is None else first + t < ends
        found, new = step(weights, now, tuple(ref[...] for ref in state), valid)
        for name, ref in outputs.items():
            ref[t] = found[name].astype(ref.dtype)
        for ref, value in zip(state, new, strict=True):
            ref[...] = value
        return nothing

    lax.fori_loop(0, valid_frames, body, None)


class _Turned(Blocks):
    """Matrices that were turned ahead, so that the matrix unit takes them as they lie."""

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        blocks = self._refs[matrix.param]
        parts = [product(value, blocks[gate], 0) for gate, value in enumerate(gradients)]
        return sum(parts[1:], parts[0])
