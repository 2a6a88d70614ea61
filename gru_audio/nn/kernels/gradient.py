"""The gradient of a recurrence, from a forward and a backward loop over time.

The forward loop stores the local derivatives of each step, which are elementwise. The backward loop
computes the gradients of the gates from them, and propagates the gradient of the carry through the
recurrent products. The gradient of each parameter is then one product over all steps, outside the
loops.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gru_audio.nn.equations import Carry, Cell, Params, Projections, Values, wide_dtype
from gru_audio.nn.ssa import Addition, Bias, Matrix
from gru_audio.settings import UserError


class Forward(NamedTuple):
    """The result of a forward loop.

    Attributes:
      outputs: (time, batch, hidden); zero past an example's length.
      carry: after the last valid frame, (batch, hidden) each.
      slots: local derivatives by the names of `Cell.slots`, each (time, batch, hidden). Past an
        example's length the values are finite but arbitrary. Empty without `derivatives`.
      operands: the values that the parameters multiply, by the names of `Cell.operands`, with the
        same shape, padding and condition.
    """

    outputs: jax.Array
    carry: Carry
    slots: Values
    operands: Values


class Loops(Protocol):
    """The forward and the backward loop of an implementation.

    Parameters have the type of the projections. The carry has `wide_dtype` of it.
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
        """Runs the cell over time; `derivatives`: whether to return slots and operands."""

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
        """Returns the gradients of `Cell.sums`, (time, batch, hidden) each, and of the carry.

        `slots` are those of `forward`; `d_outputs` (time, batch, hidden) and `d_carry` (batch,
        hidden) are the gradients of its results. The second result is that of the initial carry.
        """


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
    """Runs the recurrence with `loops`; see `gru_audio.nn.recurrence`.

    Only first derivatives in reverse mode are defined.

    Raises:
      TypeError: by JAX, in forward mode.
      UserError: on a second derivative.
    """
    params = _cast(params, projections)
    result = loops.forward(cell, params, projections, carry, lengths, reverse, False)
    return result.outputs, result.carry


def _forward(loops, cell, params, projections, carry, lengths, reverse):
    def run(params, projections, carry, lengths):
        cast = _cast(params, projections)
        return loops.forward(cell, cast, projections, carry, lengths, reverse, True)

    result = _first_order_only(run)(params, projections, carry, lengths)
    residuals = (params, carry, lengths, result.slots, result.operands)
    return (result.outputs, result.carry), residuals


def _backward(loops, cell, reverse, residuals, gradients):
    def run(params, carry, lengths, slots, operands, d_outputs, d_carry):
        dtype = d_outputs.dtype
        cast = {name: param.astype(dtype) for name, param in params.items()}
        d_sums, d_carry = loops.backward(cell, cast, slots, d_outputs, d_carry, lengths, reverse)
        d_projections = tuple(d_sums[gate].astype(dtype) for gate in cell.gates)
        d_carry = tuple(d.astype(value.dtype) for d, value in zip(d_carry, carry, strict=True))
        return _parameter_gradients(cell, params, operands, d_sums), d_projections, d_carry

    return *_first_order_only(run)(*residuals, *gradients), None


differentiable.defvjp(_forward, _backward)


def _parameter_gradients(cell: Cell, params: Params, operands: Values, d_sums: Values) -> Params:
    """Returns the gradients of the recurrent parameters, each in the parameter's type."""

    def gradient_of(addition: Addition) -> jax.Array:
        gradients = [d_sums[gate] for gate in addition.gates]
        wide = wide_dtype(gradients[0].dtype)
        if isinstance(addition.equation, Bias):
            return jnp.concatenate([gradient.sum((0, 1), dtype=wide) for gradient in gradients])
        # One product for each gate. Concatenating the gradients first would copy them all.
        spec = "tbh,tbk->hk" if isinstance(addition.equation, Matrix) else "tbh,tbh->h"
        product = functools.partial(
            jnp.einsum, spec, operands[addition.operand], preferred_element_type=wide
        )
        return jnp.concatenate([product(gradient) for gradient in gradients], axis=-1)

    totals: Values = {}
    for step in cell.ssa.steps:
        if isinstance(step, Addition):
            name, term = step.equation.param, gradient_of(step)
            totals[name] = totals[name] + term if name in totals else term
    return {name: total.astype(params[name].dtype) for name, total in totals.items()}


def _cast(params: Params, projections: Projections) -> Params:
    return {name: param.astype(projections[0].dtype) for name, param in params.items()}


def _first_order_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes JAX raise a `UserError` when it differentiates `function`."""
    guarded = jax.custom_jvp(function)

    @guarded.defjvp
    def refuse(primals, tangents):
        raise UserError(
            "This implementation of the recurrence has no second derivatives. Set "
            'model.implementation="scan", which has derivatives of any order.'
        )

    return guarded
