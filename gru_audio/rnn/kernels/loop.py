"""The loops in plain XLA, for any platform.

Buffers are updated in place: a gate's projection gives way to its local derivative, and that to its
gradient, so that memory and its traffic stay low. Each gate has an array of its own, since slicing
one (time, batch, gates x hidden) inside a loop is slow on a CPU.
"""

import jax
import jax.numpy as jnp
from jax import lax

from gru_audio.rnn.equations import Carry, Cell, Fused, Params, Projections, Values, wide_dtype
from gru_audio.rnn.kernels import frame
from gru_audio.rnn.kernels.gradient import Forward


class Loop:
    """See `gru_audio.rnn.kernels.gradient.Loops`."""

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
        weights = Fused(params)
        time = len(projections[0])

        def step(t, now, carry):
            valid = None if lengths is None else (t < lengths)[:, None]
            return frame.forward(cell, weights, carry, now, valid, derivatives=derivatives)

        if not derivatives:

            def output_alone(carry, scanned):
                t, now = scanned
                output, new, _, _ = step(t, now, carry)
                return new, output.astype(projections[0].dtype)

            frames = (jnp.arange(time), projections)
            carry, outputs = lax.scan(output_alone, carry, frames, reverse=reverse)
            return Forward(outputs, carry, {}, {})

        shape, dtype = projections[0].shape, projections[0].dtype
        slots = {name: lax.empty(shape, kept) for name, kept in cell.slot_dtypes(dtype).items()}
        slots |= zip(cell.gates, projections, strict=True)
        operands = {name: lax.empty(shape, dtype) for name in cell.operands}

        def place(i):
            return time - 1 - i if reverse else i

        def read(slots, i):
            t = place(jnp.minimum(i, time - 1))
            return tuple(_at(slots[gate], t) for gate in cell.gates)

        def body(i, state):
            now, carry, outputs, slots, operands = state
            t = place(i)
            output, new, local, multiplied = step(t, now, carry)
            outputs = _put(outputs, output, t)
            slots, operands = _put_all(slots, local, t), _put_all(operands, multiplied, t)
            # The next frame is read from what was just written: were this one read here, while
            # other parts of the step still need it, XLA would copy the whole buffers to keep it.
            return read(slots, i + 1), new, outputs, slots, operands

        start = (read(slots, 0), carry, lax.empty(shape, dtype), slots, operands)
        _, carry, outputs, slots, operands = lax.fori_loop(0, time, body, start)
        return Forward(outputs, carry, slots, operands)

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
        weights = Fused(params)
        time = len(d_outputs)
        gates = {name: slots[name] for name in cell.sums}
        rest = {name: slots[name] for name in cell.slots if name not in gates}

        def body(step, state):
            d_after, gates = state
            t = step if reverse else time - 1 - step
            valid = None if lengths is None else (t < lengths)[:, None]
            local = {name: _at(slot, t) for name, slot in (gates | rest).items()}
            d_gates, d_before = frame.backward(
                cell, weights, local, _at(d_outputs, t), d_after, valid
            )
            return d_before, _put_all(gates, d_gates, t)

        start = tuple(d.astype(wide_dtype(d.dtype)) for d in d_carry)
        d_carry, gates = lax.fori_loop(0, time, body, (start, gates))
        return gates, d_carry


def _at(array: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(array, t, keepdims=False)


def _put(array: jax.Array, value: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_update_index_in_dim(array, value.astype(array.dtype), t, 0)


def _put_all(arrays: Values, values: Values, t: jax.Array) -> Values:
    return arrays | {name: _put(arrays[name], value, t) for name, value in values.items()}
