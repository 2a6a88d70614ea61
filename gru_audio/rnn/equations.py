"""A recurrent cell as a list of equations, and what follows from them: its step and its gradient.

A time step works on named values of shape (batch, hidden): the carry, the gates' input
projections, and what the equations add. Every parameter acts by adding to a value, all else is
elementwise. So the derivatives of a step, but for its products, are elementwise too. They follow
from the functions themselves, and serve every implementation of the recurrence.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from gru_audio.rnn.numbering import (
    Assignment,
    Bias,
    Diagonal,
    Equation,
    Matrix,
    Numbered,
    Pointwise,
    Values,
    number,
)

Params = Mapping[str, jax.Array]
Carry = tuple[jax.Array, ...]
Projections = tuple[jax.Array, ...]


@dataclass(frozen=True)
class Activation:
    """``function(*gates)``, elementwise: how far a gate is open, or what a cell would write."""

    function: Callable[..., jax.Array]
    gates: tuple[str, ...]


class Weights(Protocol):
    """How an implementation holds the parameters of a step."""

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        """``value @ U_gate`` for each gate of the matrix."""

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        """The sum over the gates of ``gradient @ U_gate^T``."""

    def vectors(self, equation: Diagonal | Bias) -> list[jax.Array]:
        """One (hidden,) or (1, hidden) for each gate."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The equations of one time step, worked out from first to last.

    Attributes:
      gates: names of the input projections, in the order of the input kernel's blocks.
      carry: names of the values that go on to the next step; the first is the cell's output.
      equations: an equation uses the values as they stand then; it may set or add to any name.
      activations: the gates as they are known in the field, for who looks into a cell; a step
        works them out by itself, within its functions.
      linear: whether the equations read one carried value alone, and make it a linear function of
        itself, elementwise: the steps can then be worked out side by side.
    """

    gates: tuple[str, ...]
    carry: tuple[str, ...]
    equations: tuple[Equation, ...]
    activations: Mapping[str, Activation]
    linear: bool = False

    @functools.cached_property
    def kernels(self) -> dict[str, tuple[str, ...]]:
        """Recurrent matrices: name -> the gates whose (hidden, hidden) blocks lie side by side."""
        return {e.param: e.gates for e in self.equations if isinstance(e, Matrix)}

    @functools.cached_property
    def vectors(self) -> dict[str, tuple[str, ...]]:
        """Recurrent biases and diagonals, likewise with (hidden,) blocks."""
        return {e.param: e.gates for e in self.equations if isinstance(e, Diagonal | Bias)}

    @functools.cached_property
    def numbered(self) -> Numbered:
        """The equations with names that the gradient can work with."""
        return number(self.gates, self.carry, self.equations)

    @functools.cached_property
    def sums(self) -> tuple[str, ...]:
        """All that parameters add to: the gates first, then what has no input projection."""
        return tuple(self.numbered.sums)

    @functools.cached_property
    def projectable(self) -> bool:
        """Whether the equations read the old output in matrix products alone.

        A projection of the output is then all that a step needs of it.
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
        """Names of what the parameters are multiplied with."""
        return self.numbered.operands

    @functools.cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the local derivatives that the backward pass needs, the sums' first.

        That of a value `a` by an argument `b` is "a/b". One derivative by each sum has the name of
        the sum: its gradient takes its place.
        """
        return self.numbered.slots

    def slot_dtypes(self, dtype: jax.typing.DTypeLike) -> dict[str, jax.typing.DTypeLike]:
        """The types in which the `slots` of a computation in `dtype` are kept.

        The derivatives along the carry are wide: a slow gate's, multiplied over thousands of steps
        and rounded to bfloat16, would leave nothing or lose nothing.
        """
        return {name: dtype if name in self.sums else wide_dtype(dtype) for name in self.slots}

    def initial_carry(self, batch: int, hidden: int, dtype: jax.typing.DTypeLike) -> Carry:
        """Zeros, for a computation in `dtype`; they are wide, as every carry is."""
        return tuple(jnp.zeros((batch, hidden), wide_dtype(dtype)) for _ in self.carry)

    def step(self, params: Params, carry: Carry, projections: Projections) -> Carry:
        """``(params, carry, projections) -> carry``, all arrays of the last two (batch, hidden)."""
        return self.forward(Fused(params), carry, projections, derivatives=False)[0]

    def step_with_activations(
        self, params: Params, carry: Carry, projections: Projections
    ) -> tuple[Carry, Values]:
        """As `step`; also its `activations` (batch, hidden)."""
        values, _, _ = self._work_out(Fused(params), carry, projections, derivatives=False)
        opened = {
            name: activation.function(*(values[self._last(gate)] for gate in activation.gates))
            for name, activation in self.activations.items()
        }
        return self._new_carry(values), opened

    def forward(
        self, weights: Weights, carry: Carry, projections: Projections, *, derivatives: bool
    ) -> tuple[Carry, Values, Values]:
        """A step, worked out in float32 or wider.

        Returns:
          The new carry, wide; with `derivatives` also the local ones, by the names of `slots`, and
          what the parameters were multiplied with, by the names of `operands`.
        """
        values, slots, operands = self._work_out(
            weights, carry, projections, derivatives=derivatives
        )
        return self._new_carry(values), slots, operands

    def _work_out(
        self, weights: Weights, carry: Carry, projections: Projections, *, derivatives: bool
    ) -> tuple[Values, Values, Values]:
        """All values by their numbered names, slots and operands."""
        values = {n: _wide(v) for n, v in zip(self.gates, projections, strict=True)}
        values |= {n: _wide(v) for n, v in zip(self.carry, carry, strict=True)}
        shape = projections[0].shape
        slots: Values = {}
        operands: Values = {}
        for step in self.numbered.steps:
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
            nothing = jnp.zeros_like(values[self.gates[0]])
            slots = {name: slots.get(name, nothing) for name in self.slots}
        return values, slots, operands

    def _new_carry(self, values: Values) -> Carry:
        # Wide: in bfloat16 what a slow gate adds in a step would be rounded away.
        return tuple(values[self._last(name)] for name in self.carry)

    def _last(self, name: str) -> str:
        return self.numbered.last[name]

    def backward(self, weights: Weights, slots: Values, gradients: Carry) -> tuple[Values, Carry]:
        """The gradients of all sums, and of the carry before the step from those after it."""
        nothing, shape = jnp.zeros_like(_wide(gradients[0])), gradients[0].shape
        found: Values = {
            self._last(n): _wide(d) for n, d in zip(self.carry, gradients, strict=True)
        }
        for step in reversed(self.numbered.steps):
            if isinstance(step, Assignment):
                gradient = found.get(step.value)
                if gradient is not None:  # else nothing depends on it
                    local = [(a.value, gradient * _wide(slots[a.slot])) for a in step.arguments]
                    _accumulate(found, local, shape)
                continue
            through = [found.get(gate, nothing) for gate in step.gates]
            match step.equation:
                case Matrix():
                    back = weights.times_transposed(step.equation, through)
                    _accumulate(found, [(step.value, back)], shape)
                case Diagonal():
                    terms = map(jnp.multiply, weights.vectors(step.equation), through)
                    _accumulate(found, [(step.value, term) for term in terms], shape)
        return (
            {name: found.get(name, nothing) for name in self.sums},
            tuple(found.get(name, nothing) for name in self.carry),
        )


class Fused:
    """Parameters as the layer holds them: one product for all gates of a matrix."""

    def __init__(self, params: Params):
        self.params = params
        # Turned here, once for all steps.
        self._turned = {name: param.T for name, param in params.items() if param.ndim == 2}

    def times(self, matrix: Matrix, value: jax.Array) -> list[jax.Array]:
        kernel = self.params[matrix.param]
        return jnp.split(_product(value, kernel), len(matrix.gates), axis=-1)

    def times_transposed(self, matrix: Matrix, gradients: list[jax.Array]) -> jax.Array:
        return _product(jnp.concatenate(gradients, axis=-1), self._turned[matrix.param])

    def vectors(self, equation: Diagonal | Bias) -> list[jax.Array]:
        return jnp.split(_wide(self.params[equation.param]), len(equation.gates))


def wide_dtype(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
    """Of sums, elementwise functions and the carry: float32, or wider if `dtype` is."""
    return jnp.promote_types(dtype, jnp.float32)


def _wide(value: jax.Array) -> jax.Array:
    return value.astype(wide_dtype(value.dtype))


def _product(value: jax.Array, kernel: jax.Array) -> jax.Array:
    """Operands in the kernel's type, their sum in a wide one."""
    wide = wide_dtype(kernel.dtype)
    return jnp.matmul(value.astype(kernel.dtype), kernel, preferred_element_type=wide)


def _accumulate(
    values: Values, terms: Iterable[tuple[str, jax.Array]], shape: tuple[int, ...]
) -> None:
    """Adds each term to the value of its name, which is of the shape given."""
    for name, term in terms:
        values[name] = values[name] + term if name in values else jnp.broadcast_to(term, shape)
