"""The kinds of equations of a cell, and their static single assignment (SSA) form.

A cell's equations may assign a name twice, or add to a value after another equation read it. Such a
name has no single gradient. SSA form gives each version of a value its own name ("h", then "h.1").
So a value is complete before an equation reads it, and its gradient is complete before the backward
pass uses it.
"""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

Values = dict[str, jax.Array]


@dataclass(frozen=True)
class Matrix:
    """``gate += value @ U_gate`` for each gate.

    The parameter is (hidden, gates x hidden): one (hidden, hidden) block for each gate.
    """

    param: str
    value: str
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Diagonal:
    """``gate += value * u_gate`` for each gate, with a vector ``u_gate`` (hidden,): a peephole."""

    param: str
    value: str
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Bias:
    """``gate += b_gate`` for each gate, in addition to the bias of the input projection."""

    param: str
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Pointwise:
    """``value = function(...)``, elementwise. The function's argument names are value names."""

    value: str
    function: Callable[..., jax.Array]

    @functools.cached_property
    def arguments(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.function).parameters)


Equation = Matrix | Diagonal | Bias | Pointwise


@dataclass(frozen=True)
class Addition:
    """A `Matrix`, `Diagonal` or `Bias` in SSA form.

    Attributes:
      equation: the cell's equation.
      gates: SSA names of the values that the equation adds to.
      value: SSA name of the value that the parameter multiplies; "" for a bias.
      operand: the key in `SSA.operands` under which this value is stored for the parameter's
        gradient; "" for a bias.
    """

    equation: Matrix | Diagonal | Bias
    gates: tuple[str, ...]
    value: str = ""
    operand: str = ""


@dataclass(frozen=True)
class Argument:
    """An argument of a pointwise function.

    Attributes:
      name: name of the function's parameter.
      value: SSA name of the value that is passed.
      slot: the key in `SSA.slots` under which the derivative by this argument is stored.
    """

    name: str
    value: str
    slot: str


@dataclass(frozen=True)
class Assignment:
    """A `Pointwise` in SSA form. No other equation assigns its value."""

    value: str
    function: Callable[..., jax.Array]
    arguments: tuple[Argument, ...]

    def __call__(self, values: Values) -> jax.Array:
        return self.function(**{a.name: values[a.value] for a in self.arguments})

    def with_derivatives(self, values: Values) -> tuple[jax.Array, Values]:
        """Returns the value, and the elementwise derivative by each argument, keyed by slot."""
        value, derivatives = self(values), {}
        for argument in self.arguments:
            primal = values[argument.value]
            if not (_is_real(primal) and _is_real(value)):  # e.g. a boolean such as gate > 0
                derivatives[argument.slot] = jnp.zeros(primal.shape)
                continue
            fixed = {a.name: values[a.value] for a in self.arguments if a is not argument}
            partial = functools.partial(_call_with, self.function, fixed, argument.name)
            tangent = jnp.ones_like(primal)
            value, derivatives[argument.slot] = jax.jvp(partial, (primal,), (tangent,))
        return value, derivatives


def _call_with(function, fixed, name, argument):
    return function(**fixed, **{name: argument})


def _is_real(value: jax.typing.ArrayLike) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def _copy(value: jax.Array) -> jax.Array:
    return value


@dataclass
class SSA:
    """A cell's equations in SSA form.

    Attributes:
      steps: the equations in execution order.
      sums: SSA names of the values that parameters are added to; the gates come first.
      last: maps each name to its SSA name after the last equation.
      read: SSA names that an equation reads.
    """

    steps: list[Addition | Assignment] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    last: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of the values that the parameters multiply."""
        additions = [step for step in self.steps if isinstance(step, Addition)]
        return tuple(step.operand for step in additions if step.operand)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the derivatives that the backward pass needs; those of the sums come first."""
        arguments = [a for s in self.steps if isinstance(s, Assignment) for a in s.arguments]
        return tuple(dict.fromkeys((*self.sums, *(argument.slot for argument in arguments))))


def to_ssa(gates: Sequence[str], carry: Sequence[str], equations: Sequence[Equation]) -> SSA:
    """Converts a cell's equations to SSA form.

    Args:
      gates: names of the values that start as input projections.
      carry: names of the values that start as the previous step's carry.
      equations: in execution order.
    """
    ssa = SSA(sums=list(gates), last={name: name for name in (*gates, *carry)})
    versions = Counter(ssa.last.keys())  # number of SSA names made from each name

    def new_version(name: str) -> str:
        versions[name] += 1
        return name if versions[name] == 1 else f"{name}.{versions[name] - 1}"

    def read(name: str) -> str:
        ssa.read.add(ssa.last[name])
        return ssa.last[name]

    def assign(name: str, function: Callable[..., jax.Array], inputs: Mapping[str, str]) -> None:
        arguments = []
        used = {a.slot for s in ssa.steps if isinstance(s, Assignment) for a in s.arguments}
        value = new_version(name)
        for argument, source in inputs.items():
            # The gradient of a sum later overwrites one derivative by it, in the same buffer.
            reuse = source in ssa.sums and source not in used
            slot = source if reuse else f"{value}/{argument}"
            arguments.append(Argument(argument, source, slot))
        ssa.last[name] = value
        ssa.steps.append(Assignment(value, function, tuple(arguments)))

    def sum_of(name: str) -> str:
        """The SSA name of a value that may be added to: nothing has read it yet."""
        if ssa.last.get(name) in ssa.read:
            assign(name, _copy, {"value": ssa.last[name]})
        elif name not in ssa.last:
            ssa.last[name] = new_version(name)
        version = ssa.last[name]
        if version not in ssa.sums:
            ssa.sums.append(version)
        return version

    for equation in equations:
        match equation:
            case Pointwise():
                inputs = {name: read(name) for name in equation.arguments}
                assign(equation.value, equation.function, inputs)
            case Bias():
                ssa.steps.append(Addition(equation, tuple(map(sum_of, equation.gates))))
            case _:
                value = read(equation.value)
                params = [s.equation.param for s in ssa.steps if isinstance(s, Addition)]
                uses = params.count(equation.param)
                operand = f"{equation.param}.{uses}" if uses else equation.param
                sums = tuple(map(sum_of, equation.gates))
                ssa.steps.append(Addition(equation, sums, value, operand))
    return ssa
