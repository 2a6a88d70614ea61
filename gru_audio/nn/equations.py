"""A recurrent cell as a list of equations, with the time step and gradient that follow from them.

A time step works on named values of shape (batch, hidden): the carry, the input projections of the
gates, and the results of the equations. Parameters are only added to a value or multiplied with
one and then added; everything else is elementwise. So all derivatives except those of the matrix
products are elementwise. JAX derives them from the functions, for every implementation.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from gru_audio.nn.ssa import (
    SSA,
    Assignment,
    Bias,
    Diagonal,
    Equation,
    Matrix,
    Pointwise,
    Values,
    to_ssa,
)

Params = Mapping[str, jax.Array]
Carry = tuple[jax.Array, ...]
Projections = tuple[jax.Array, ...]


@dataclass(frozen=True)
class Activation:
    """``function(*gates)``, elementwise: a gate's activation, or the candidate of a cell."""

    function: Callable[..., jax.Array]
    gates: tuple[str, ...]


class Weights(Protocol):
    """The parameters of a step, in the layout of one implementation."""

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        """Returns ``value @ U_gate`` for each gate of the matrix."""

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        """Returns the sum over the gates of ``gradient @ U_gate^T``."""

    def vectors(self, equation: Diagonal | Bias) -> list[jax.Array]:
        """Returns one vector for each gate, (hidden,) or (1, hidden)."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The equations of one time step, in execution order.

    Attributes:
      gates: names of the input projections, in the order of the blocks of the input kernel.
      carry: names of the values that the next step gets; the first is the output of the cell.
      equations: an equation reads the current values, and may assign or add to any name.
      activations: the usual gates of the cell by their usual names ("update", "forget", ...), for
        inspection. The equations do not use them.
      linear: whether the equations read exactly one carried value, and are elementwise linear in
        it. All time steps can then run in parallel.
    """

    gates: tuple[str, ...]
    carry: tuple[str, ...]
    equations: tuple[Equation, ...]
    activations: Mapping[str, Activation]
    linear: bool = False

    @functools.cached_property
    def kernels(self) -> dict[str, tuple[str, ...]]:
        """Recurrent matrices: name -> gates, one (hidden, hidden) block each, side by side."""
        return {e.param: e.gates for e in self.equations if isinstance(e, Matrix)}

    @functools.cached_property
    def vectors(self) -> dict[str, tuple[str, ...]]:
        """Recurrent biases and diagonals: name -> gates, one (hidden,) block each."""
        return {e.param: e.gates for e in self.equations if isinstance(e, Diagonal | Bias)}

    @functools.cached_property
    def ssa(self) -> SSA:
        """The equations in static single assignment form."""
        return to_ssa(self.gates, self.carry, self.equations)

    @functools.cached_property
    def sums(self) -> tuple[str, ...]:
        """Values that parameters are added to: the gates, then those without input projection."""
        return tuple(self.ssa.sums)

    @functools.cached_property
    def projectable(self) -> bool:
        """Whether the equations use the previous output in matrix products only.

        Then a projection of the output can replace the output in a step.
        """
        output, *_ = self.carry
        elsewhere = any(
            output in e.arguments if isinstance(e, Pointwise) else output == e.value
            for e in self.equations
            if isinstance(e, Pointwise | Diagonal)
        )
        return bool(self.kernels) and not elsewhere

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of the values that the parameters multiply."""
        return self.ssa.operands

    @functools.cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the local derivatives that the backward pass needs; the sums' come first.

        "a/b" is the derivative of value `a` by argument `b`. One derivative by each sum has the
        name of the sum, because the sum's gradient later overwrites it.
        """
        return self.ssa.slots

    def slot_dtypes(self, dtype: jax.typing.DTypeLike) -> dict[str, jax.typing.DTypeLike]:
        """Returns the type of each of the `slots` for a computation in `dtype`.

        Derivatives along the carry have a wide type. The backward pass multiplies them over
        thousands of steps. In bfloat16, rounding would turn a factor near 1 into exactly 1, or
        make the product vanish.
        """
        return {name: dtype if name in self.sums else wide_dtype(dtype) for name in self.slots}

    def initial_carry(self, batch: int, hidden: int, dtype: jax.typing.DTypeLike) -> Carry:
        """Returns zeros (batch, hidden) in `wide_dtype(dtype)`, the type of every carry."""
        return tuple(jnp.zeros((batch, hidden), wide_dtype(dtype)) for _ in self.carry)

    def step(self, params: Params, carry: Carry, projections: Projections) -> Carry:
        """Runs one time step. The carry and the projections are (batch, hidden) arrays."""
        values, _, _ = self._evaluate(Fused(params), carry, projections, derivatives=False)
        return self._new_carry(values)

    def step_with_activations(
        self, params: Params, carry: Carry, projections: Projections
    ) -> tuple[Carry, Values]:
        """Runs one time step; also returns the `activations`, (batch, hidden) each."""
        values, _, _ = self._evaluate(Fused(params), carry, projections, derivatives=False)
        activations = {
            name: activation.function(*(values[self._last(gate)] for gate in activation.gates))
            for name, activation in self.activations.items()
        }
        return self._new_carry(values), activations

    def forward(
        self,
        weights: Weights,
        carry: Carry,
        projections: Projections,
        valid: jax.Array | None,
        *,
        derivatives: bool,
    ) -> tuple[jax.Array, Carry, Values, Values]:
        """Runs one time step of a padded batch, in float32 or wider.

        Args:
          weights: the parameters.
          carry: from the previous step, (batch, hidden) each.
          projections: of this frame, (batch, hidden) each.
          valid: bool, broadcastable to (batch, hidden): whether the frame lies within the example.
            Elsewhere the output is zero and the carry stays unchanged. None: all frames are valid.
          derivatives: whether to return local derivatives and operands.

        Returns:
          The output; the new carry; the local derivatives by the names of `slots`; and the values
          that the parameters multiply, by the names of `operands`.
        """
        values, slots, operands = self._evaluate(
            weights, carry, projections, derivatives=derivatives
        )
        new = self._new_carry(values)
        if valid is None:
            return new[0], new, slots, operands
        return jnp.where(valid, new[0], 0), _where(valid, new, carry), slots, operands

    def _evaluate(
        self, weights: Weights, carry: Carry, projections: Projections, *, derivatives: bool
    ) -> tuple[Values, Values, Values]:
        """Returns all values by SSA name, local derivatives and operands."""
        values = {n: _wide(v) for n, v in zip(self.gates, projections, strict=True)}
        values |= {n: _wide(v) for n, v in zip(self.carry, carry, strict=True)}
        shape = projections[0].shape
        slots: Values = {}
        operands: Values = {}
        for step in self.ssa.steps:
            if isinstance(step, Assignment):
                value = step(values)
                if derivatives:
                    value, local = step.with_derivatives(values)
                    slots |= {name: jnp.broadcast_to(d, shape) for name, d in local.items()}
                values[step.value] = jnp.broadcast_to(value, shape)
                continue
            match step.equation:
                case Matrix():
                    operand = operands[step.operand] = values[step.value]
                    terms = weights.times(step.equation, operand)
                case Diagonal():
                    operand = operands[step.operand] = values[step.value]
                    terms = [u * operand for u in weights.vectors(step.equation)]
                case Bias():
                    terms = weights.vectors(step.equation)
            _accumulate(values, zip(step.gates, terms, strict=True), shape)
        if derivatives:
            zeros = jnp.zeros_like(values[self.gates[0]])
            slots = {name: slots.get(name, zeros) for name in self.slots}
        return values, slots, operands

    def _new_carry(self, values: Values) -> Carry:
        # The carry stays wide. In bfloat16 the small update of a slow gate would be rounded away.
        return tuple(values[self._last(name)] for name in self.carry)

    def _last(self, name: str) -> str:
        return self.ssa.last[name]

    def backward(
        self,
        weights: Weights,
        slots: Values,
        d_output: jax.Array,
        d_carry: Carry,
        valid: jax.Array | None,
    ) -> tuple[Values, Carry]:
        """Differentiates one time step of a padded batch.

        Args:
          weights: the parameters.
          slots: local derivatives from `forward`.
          d_output: gradient of the output, (batch, hidden).
          d_carry: gradients of the new carry, (batch, hidden) each.
          valid: as in `forward`. Elsewhere the gradient of the carry passes through unchanged.

        Returns:
          The gradients of all `sums`, and those of the previous carry.
        """
        gradients = (d_carry[0] + d_output, *d_carry[1:])
        if valid is None:
            return self._differentiate(weights, slots, gradients)
        zeros = tuple(jnp.zeros_like(d) for d in d_carry)
        d_sums, d_previous = self._differentiate(weights, slots, _where(valid, gradients, zeros))
        return d_sums, _where(valid, d_previous, d_carry)

    def _differentiate(
        self, weights: Weights, slots: Values, gradients: Carry
    ) -> tuple[Values, Carry]:
        """Returns the gradients of all sums and of the previous carry, from the new carry's."""
        zeros, shape = jnp.zeros_like(_wide(gradients[0])), gradients[0].shape
        d_values: Values = {
            self._last(n): _wide(d) for n, d in zip(self.carry, gradients, strict=True)
        }
        for step in reversed(self.ssa.steps):
            if isinstance(step, Assignment):
                gradient = d_values.get(step.value)
                if gradient is not None:  # None: the loss does not depend on this value
                    terms = [(a.value, gradient * _wide(slots[a.slot])) for a in step.arguments]
                    _accumulate(d_values, terms, shape)
                continue
            d_gates = [d_values.get(gate, zeros) for gate in step.gates]
            match step.equation:
                case Matrix():
                    product = weights.times_transposed(step.equation, d_gates)
                    _accumulate(d_values, [(step.value, product)], shape)
                case Diagonal():
                    products = map(jnp.multiply, weights.vectors(step.equation), d_gates)
                    _accumulate(d_values, [(step.value, term) for term in products], shape)
        return (
            {name: d_values.get(name, zeros) for name in self.sums},
            tuple(d_values.get(name, zeros) for name in self.carry),
        )


class Fused:
    """Parameters in the layer's layout: one product computes all gates of a matrix."""

    def __init__(self, params: Params):
        self.params = params
        # Transposed once here, not in every step.
        self._transposed = {name: param.T for name, param in params.items() if param.ndim == 2}

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        kernel = self.params[matrix.param]
        return jnp.split(_product(value, kernel), len(matrix.gates), axis=-1)

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        return _product(jnp.concatenate(gradients, axis=-1), self._transposed[matrix.param])

    def vectors(self, equation: Diagonal | Bias) -> list[jax.Array]:
        return jnp.split(_wide(self.params[equation.param]), len(equation.gates))


def wide_dtype(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
    """Returns the type of sums, elementwise functions and the carry: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def _wide(value: jax.Array) -> jax.Array:
    return value.astype(wide_dtype(value.dtype))


def _product(value: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies in the kernel's type and accumulates in the wide type."""
    wide = wide_dtype(kernel.dtype)
    return jnp.matmul(value.astype(kernel.dtype), kernel, preferred_element_type=wide)


def _accumulate(
    values: Values, terms: Iterable[tuple[str, jax.Array]], shape: tuple[int, ...]
) -> None:
    """Adds each term to the value of its name; a new value gets the shape `shape`."""
    for name, term in terms:
        values[name] = values[name] + term if name in values else jnp.broadcast_to(term, shape)


def _where(condition: jax.Array, values: Carry, others: Carry) -> Carry:
    return tuple(jnp.where(condition, a, b) for a, b in zip(values, others, strict=True))
