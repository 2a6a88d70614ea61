"""A recurrent cell as a list of equations, and what follows from them: its step and its gradient.

A time step works on named values of shape (batch, hidden): the carry, the gates' input projections,
and what the equations add. Every parameter acts by adding to a gate before it is used, everything
else is elementwise. So the derivatives of a step, but for its products, are elementwise too. They
follow from the functions themselves, and serve every implementation of the recurrence.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

Params = Mapping[str, jax.Array]
Carry = tuple[jax.Array, ...]
Projections = tuple[jax.Array, ...]
Values = dict[str, jax.Array]


@dataclass(frozen=True)
class Matrix:
    """``gate += value @ U_gate`` for each gate; the blocks (hidden, hidden) lie side by side."""

    param: str
    value: str
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Diagonal:
    """``gate += value * u_gate`` for each gate, ``u`` a vector: a peephole."""

    param: str
    value: str
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Bias:
    """``gate += b_gate`` for each gate, beside the input bias that every projection has."""

    param: str
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Pointwise:
    """``value = function(...)``, elementwise; the function's arguments are named as the values."""

    value: str
    function: Callable[..., jax.Array]

    @functools.cached_property
    def arguments(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.function).parameters)

    def with_derivatives(self, values: Values) -> tuple[jax.Array, Values]:
        """The value, and its derivative by each argument, both elementwise."""
        arguments = {name: values[name] for name in self.arguments}
        derivatives = {}
        for name, primal in arguments.items():
            others = {k: v for k, v in arguments.items() if k != name}
            alone = functools.partial(_named, self.function, name, others)
            value, derivatives[name] = jax.jvp(alone, (primal,), (jnp.ones_like(primal),))
        return value, derivatives


def _named(function, name, others, argument):
    return function(**others, **{name: argument})


Equation = Matrix | Diagonal | Bias | Pointwise


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
      equations: an equation uses the values as they stand then; to set one anew replaces it.
      activations: the gates as they are known in the field, for who looks into a cell; a step
        works them out by itself, within its functions.
      linear: whether the new carry is a linear function of the old one, elementwise: the steps can
        then be worked out side by side.
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
    def sums(self) -> tuple[str, ...]:
        """All gates: those with an input projection first, then those that are recurrent alone."""
        names = [g for e in self.equations if not isinstance(e, Pointwise) for g in e.gates]
        return tuple(dict.fromkeys((*self.gates, *names)))

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
        """Names of the parameters that something is multiplied with."""
        return tuple(e.param for e in self.equations if isinstance(e, Matrix | Diagonal))

    @functools.cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the local derivatives that the backward pass needs, the gates' first.

        A gate's is named as the gate; that of a value `a` by a value `b` is "a/b".
        """
        return *self.sums, *(
            f"{e.value}/{argument}"
            for e in self.equations
            if isinstance(e, Pointwise)
            for argument in e.arguments
            if argument not in self.sums
        )

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
            name: activation.function(*(values[gate] for gate in activation.gates))
            for name, activation in self.activations.items()
        }
        return self._new_carry(values), opened

    def forward(
        self, weights: Weights, carry: Carry, projections: Projections, *, derivatives: bool
    ) -> tuple[Carry, Values, Values]:
        """A step, worked out in float32 or wider.

        Returns:
          The new carry, wide; with `derivatives` also the local ones, by the names of `slots`, and
          what the matrices and diagonals were multiplied with, by the names of their parameters.
        """
        values, slots, operands = self._work_out(
            weights, carry, projections, derivatives=derivatives
        )
        return self._new_carry(values), slots, operands

    def _work_out(
        self, weights: Weights, carry: Carry, projections: Projections, *, derivatives: bool
    ) -> tuple[Values, Values, Values]:
        """All values as the equations leave them (sums stay as they were used), slots, operands."""
        values = {n: _wide(v) for n, v in zip(self.gates, projections, strict=True)}
        values |= {name: _wide(value) for name, value in self._carried(carry)}
        slots: Values = {}
        operands: Values = {}
        for equation in self.equations:
            match equation:
                case Matrix():
                    operand = operands[equation.param] = values[equation.value]
                    _add(values, equation, weights.times(equation, operand))
                case Diagonal():
                    operand = operands[equation.param] = values[equation.value]
                    _add(values, equation, [u * operand for u in weights.vectors(equation)])
                case Bias():
                    _add(values, equation, weights.vectors(equation))
                case Pointwise() if derivatives:
                    value, local = equation.with_derivatives(values)
                    values[equation.value] = value
                    slots |= {self._slot(equation, name): d for name, d in local.items()}
                case Pointwise():
                    arguments = {name: values[name] for name in equation.arguments}
                    values[equation.value] = equation.function(**arguments)
        return values, slots, operands

    def _new_carry(self, values: Values) -> Carry:
        # Wide: in bfloat16 what a slow gate adds in a step would be rounded away.
        return tuple(values[name] for name in self.carry)

    def backward(self, weights: Weights, slots: Values, gradients: Carry) -> tuple[Values, Carry]:
        """The gradients of all gates, and of the carry before the step from those after it."""
        wide = {name: _wide(value) for name, value in slots.items()}
        found = {name: _wide(value) for name, value in self._carried(gradients)}
        for equation in reversed(self.equations):
            match equation:
                case Pointwise():
                    gradient = found.pop(equation.value)
                    local = {
                        n: gradient * wide[self._slot(equation, n)] for n in equation.arguments
                    }
                    _accumulate(found, local)
                case Matrix():
                    through = [found[gate] for gate in equation.gates]
                    back = weights.times_transposed(equation, through)
                    _accumulate(found, {equation.value: back})
                case Diagonal():
                    for u, gate in zip(weights.vectors(equation), equation.gates, strict=True):
                        _accumulate(found, {equation.value: u * found[gate]})
                case Bias():
                    pass
        return {gate: found[gate] for gate in self.sums}, tuple(found[n] for n in self.carry)

    def _carried(self, carry: Carry):
        return zip(self.carry, carry, strict=True)

    def _slot(self, equation: Pointwise, argument: str) -> str:
        return argument if argument in self.sums else f"{equation.value}/{argument}"


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


def _add(values: Values, equation: Matrix | Diagonal | Bias, terms: list[jax.Array]) -> None:
    _accumulate(values, dict(zip(equation.gates, terms, strict=True)))


def _accumulate(values: Values, terms: Values) -> None:
    for name, term in terms.items():
        values[name] = values[name] + term if name in values else term
