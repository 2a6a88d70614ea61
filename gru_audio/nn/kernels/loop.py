"""The recurrence in plain XLA, for any platform: `Loop`, and `scan`, the reference.

`Loop` updates its buffers in place to save memory and bandwidth. The local derivative of a gate
overwrites its projection, and the gradient overwrites the derivative. Each gate has its own array,
because slicing one (time, batch, gates x hidden) array inside a loop is slow on a CPU.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from gru_audio.nn.equations import Carry, Cell, Fused, Params, Projections, Values, wide_dtype
from gru_audio.nn.kernels.gradient import Forward


class Loop:
    """The loops in plain XLA; see `gru_audio.nn.kernels.gradient.Loops`."""

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
        time = projections[0].shape[0]

        def step(t, frame, carry):
            valid = None if lengths is None else (t < lengths)[:, None]
            return cell.forward(weights, carry, frame, valid, derivatives=derivatives)

        if not derivatives:

            def output_only(carry, scanned):
                t, frame = scanned
                output, new, _, _ = step(t, frame, carry)
                return new, output.astype(projections[0].dtype)

            frames = (jnp.arange(time), projections)
            carry, outputs = lax.scan(output_only, carry, frames, reverse=reverse)
            return Forward(outputs, carry, {}, {})

        shape, dtype = projections[0].shape, projections[0].dtype
        slots = {name: lax.empty(shape, kept) for name, kept in cell.slot_dtypes(dtype).items()}
        slots |= zip(cell.gates, projections, strict=True)
        operands = {name: lax.empty(shape, dtype) for name in cell.operands}

        def index(i):
            return time - 1 - i if reverse else i

        def read(slots, i):
            t = index(jnp.minimum(i, time - 1))
            return tuple(_at(slots[gate], t) for gate in cell.gates)

        def body(i, state):
            frame, carry, outputs, slots, operands = state
            t = index(i)
            output, new, local, multiplied = step(t, frame, carry)
            outputs = _put(outputs, output, t)
            slots, operands = _put_all(slots, local, t), _put_all(operands, multiplied, t)
            # This step reads the next frame, after its writes. If a step read its own frame, XLA
            # would copy whole buffers to keep the frame for the rest of the step.
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
        time = d_outputs.shape[0]
        sums = {name: slots[name] for name in cell.sums}
        others = {name: slots[name] for name in cell.slots if name not in sums}

        def body(i, state):
            d_carry, sums = state
            t = i if reverse else time - 1 - i
            valid = None if lengths is None else (t < lengths)[:, None]
            local = {name: _at(slot, t) for name, slot in (sums | others).items()}
            d_sums, d_carry = cell.backward(weights, local, _at(d_outputs, t), d_carry, valid)
            return d_carry, _put_all(sums, d_sums, t)

        start = tuple(d.astype(wide_dtype(d.dtype)) for d in d_carry)
        d_carry, d_sums = lax.fori_loop(0, time, body, (start, sums))
        return d_sums, d_carry


def _at(array: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(array, t, keepdims=False)


def _put(array: jax.Array, value: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_update_index_in_dim(array, value.astype(array.dtype), t, 0)


def _put_all(arrays: Values, values: Values, t: jax.Array) -> Values:
    return arrays | {name: _put(arrays[name], value, t) for name, value in values.items()}


def scan(
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """Runs linen's scan over `Cell.step`; JAX derives the gradients, of any order.

    See `gru_audio.nn.recurrence`.
    """
    valid = None
    if lengths is not None:
        valid = (jnp.arange(projections[0].shape[0])[:, None] < lengths)[..., None]
    steps: Any = nn.scan(
        _Step, variable_broadcast="params", split_rngs={"params": False}, reverse=reverse
    )(cell, parent=None)
    final, outputs = steps.apply({"params": params}, carry, (projections, valid))
    return outputs, final


class _Step(nn.Module):
    """The body of the scan: one step of a cell; padding frames leave the carry unchanged."""

    cell: Cell

    @nn.compact
    def __call__(
        self, carry: Carry, inputs: tuple[Projections, jax.Array | None]
    ) -> tuple[Carry, jax.Array]:
        projections, valid = inputs
        dtype = projections[0].dtype
        # The cast is inside the step, so that gradients accumulate over time in the parameters'
        # own type.
        params = jax.tree.map(lambda param: param.astype(dtype), self.variables.get("params", {}))
        # In the backward pass, recomputing the gates is cheaper than reading them from memory.
        step = jax.checkpoint(
            self.cell.step, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False
        )
        new = step(params, carry, projections)
        if valid is None:
            return new, new[0].astype(dtype)
        output = jnp.where(valid, new[0], 0).astype(dtype)
        return tuple(jnp.where(valid, n, o) for n, o in zip(new, carry, strict=True)), output
