"""The gradient of a whole recurrence, around loops over time that know nothing of parameters.

The forward loop keeps the local derivatives of each step, which are elementwise; the backward loop
turns them into the gradients of the gates and hands the carry's back through the recurrent
products. What the parameters get is then one large product over all steps, outside any loop.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gru_audio.rnn.equations import Carry, Cell, Params, Projections, Values, wide_dtype
from gru_audio.rnn.numbering import Addition, Bias, Matrix
from gru_audio.settings import UserError


class Forward(NamedTuple):
    """What a forward loop returns.

    Attributes:
      outputs: (time, batch, hidden), zero past an example's length.
      carry: after the last valid frame.
      slots: local derivatives by the names of `Cell.slots`, each (time, batch, hidden); past an
        example's length anything finite. Empty where no gradient was asked for.
      operands: what the parameters were multiplied with, by the names of `Cell.operands`; likewise.
    """

    outputs: jax.Array
    carry: Carry
    slots: Values
    operands: Values


class Loops(Protocol):
    """The two loops of an implementation.

    Parameters come in the type of the projections, the carry in `wide_dtype` of it.
    """

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
        """Runs the cell over time; `derivatives`: whether slots and operands are wanted."""

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
        """The gradients of all gates, (time, batch, hidden) each, and of the initial carry."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 6))
def differentiable(
    loops: Loops,
    cell: Cell,
    params: Params,
    projections: Projections,
    carry: Carry,
    lengths: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, Carry]:
    """The recurrence by `loops`; see `gru_audio.rnn.recurrence`. Differentiable once, in reverse.

    Raises:
      TypeError: (by JAX) in forward mode.
      UserError: when differentiated a second time.
    """
    params = _cast(params, projections)
    run = loops.forward(cell, params, projections, carry, lengths, reverse, False)
    return run.outputs, run.carry


def _forward(loops, cell, params, projections, carry, lengths, reverse):
    def run(params, projections, carry, lengths):
        cast = _cast(params, projections)
        return loops.forward(cell, cast, projections, carry, lengths, reverse, True)

    found = _only_once(run)(params, projections, carry, lengths)
    return (found.outputs, found.carry), (params, carry, lengths, found.slots, found.operands)


def _backward(loops, cell, reverse, residuals, gradients):
    def run(params, carry, lengths, slots, operands, d_outputs, d_carry):
        dtype = d_outputs.dtype
        cast = {name: param.astype(dtype) for name, param in params.items()}
        gates, d_carry = loops.backward(cell, cast, slots, d_outputs, d_carry, lengths, reverse)
        d_projections = tuple(gates[gate].astype(dtype) for gate in cell.gates)
        d_carry = tuple(d.astype(old.dtype) for d, old in zip(d_carry, carry, strict=True))
        return _of_parameters(cell, params, operands, gates), d_projections, d_carry

    return *_only_once(run)(*residuals, *gradients), None


differentiable.defvjp(_forward, _backward)


def _of_parameters(cell: Cell, params: Params, operands: Values, gates: Values) -> Params:
    """The gradients of the recurrent parameters, in their types, from those of the gates."""

    def total(addition: Addition) -> jax.Array:
        gradients = [gates[gate] for gate in addition.gates]
        wide = wide_dtype(gradients[0].dtype)
        if isinstance(addition.equation, Bias):
            return jnp.concatenate([gradient.sum((0, 1), dtype=wide) for gradient in gradients])
        # One product a gate: to lay the gradients side by side first would copy them all.
        spec = "tbh,tbk->hk" if isinstance(addition.equation, Matrix) else "tbh,tbh->h"
        product = functools.partial(
            jnp.einsum, spec, operands[addition.operand], preferred_element_type=wide
        )
        return jnp.concatenate([product(gradient) for gradient in gradients], axis=-1)

    totals: Values = {}
    for step in cell.numbered.steps:
        if isinstance(step, Addition):
            name, term = step.equation.param, total(step)
            totals[name] = totals[name] + term if name in totals else term
    return {name: total.astype(params[name].dtype) for name, total in totals.items()}


def _cast(params: Params, projections: Projections) -> Params:
    return {name: param.astype(projections[0].dtype) for name, param in params.items()}


def _only_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which says what to do when JAX comes to differentiate it."""
    guarded = jax.custom_jvp(function)

    @guarded.defjvp
    def refuse(primals, tangents):
        raise UserError(
            "This implementation of the recurrence has no second derivatives. Set "
            'model.implementation="scan", which has derivatives of any order.'
        )

    return guarded
