"""The equations that a cell is made of, and the same equations with names that mean one thing each.

A cell's equations may set a name again, or add to it after it was read. The gradient cannot work
with such names. So they are numbered: a name that changes after it was read, or that is set again,
becomes a new one ("h", then "h.1"). Then a name is complete before anything reads it, and its
gradient is complete before anything passes it on.
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


Equation = Matrix | Diagonal | Bias | Pointwise


@dataclass(frozen=True)
class Addition:
    """A `Matrix`, `Diagonal` or `Bias` with numbered names.

    Attributes:
      equation: as the cell has it.
      gates: what it adds to.
      value: what it multiplies; "" for a bias.
      operand: under which name that value is kept for the parameter's gradient.
    """

    equation: Matrix | Diagonal | Bias
    gates: tuple[str, ...]
    value: str = ""
    operand: str = ""


@dataclass(frozen=True)
class Argument:
    """An argument of a function.

    Attributes:
      name: in the function.
      value: the numbered name of what is given.
      slot: under which name the derivative by it is kept.
    """

    name: str
    value: str
    slot: str


@dataclass(frozen=True)
class Assignment:
    """A `Pointwise` with numbered names; nothing else sets its value."""

    value: str
    function: Callable[..., jax.Array]
    arguments: tuple[Argument, ...]

    def __call__(self, values: Values) -> jax.Array:
        return self.function(**{each.name: values[each.value] for each in self.arguments})

    def with_derivatives(self, values: Values) -> tuple[jax.Array, Values]:
        """The value, and its derivative by each argument, elementwise, by the names of slots."""
        value, derivatives = self(values), {}
        for each in self.arguments:
            primal = values[each.value]
            if not (_is_real(primal) and _is_real(value)):  # such as where a gate is above 0
                derivatives[each.slot] = jnp.zeros(primal.shape)
                continue
            others = {e.name: values[e.value] for e in self.arguments if e is not each}
            alone = functools.partial(_named, self.function, each.name, others)
            value, derivatives[each.slot] = jax.jvp(alone, (primal,), (jnp.ones_like(primal),))
        return value, derivatives


def _named(function, name, others, argument):
    return function(**others, **{name: argument})


def _is_real(value: jax.typing.ArrayLike) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def _copy(value: jax.Array) -> jax.Array:
    return value


@dataclass
class Numbered:
    """Equations with numbered names.

    Attributes:
      steps: the equations, from first to last.
      sums: the gates, and all else that parameters are added to.
      last: from a name to its numbered name after the last equation.
      read: the numbered names that some equation reads.
    """

    steps: list[Addition | Assignment] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    last: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of what the parameters multiply."""
        additions = [step for step in self.steps if isinstance(step, Addition)]
        return tuple(step.operand for step in additions if step.operand)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the derivatives that the backward pass needs, those of the sums first."""
        arguments = [a for s in self.steps if isinstance(s, Assignment) for a in s.arguments]
        return tuple(dict.fromkeys((*self.sums, *(argument.slot for argument in arguments))))


def number(gates: Sequence[str], carry: Sequence[str], equations: Sequence[Equation]) -> Numbered:
    """Numbers the names of a cell's equations.

    Args:
      gates: names that have an input projection.
      carry: names that have a value from the step before.
      equations: from first to last.
    """
    result = Numbered(sums=list(gates), last={name: name for name in (*gates, *carry)})
    times = Counter(result.last.keys())  # how often each name was made

    def new(name: str) -> str:
        times[name] += 1
        return name if times[name] == 1 else f"{name}.{times[name] - 1}"

    def reads(name: str) -> str:
        result.read.add(result.last[name])
        return result.last[name]

    def assign(name: str, function: Callable[..., jax.Array], given: Mapping[str, str]) -> None:
        arguments = []
        taken = {a.slot for s in result.steps if isinstance(s, Assignment) for a in s.arguments}
        value = new(name)
        for argument, its in given.items():
            # The gradient of a sum takes the place of one derivative by it.
            own = its in result.sums and its not in taken
            arguments.append(Argument(argument, its, its if own else f"{value}/{argument}"))
        result.last[name] = value
        result.steps.append(Assignment(value, function, tuple(arguments)))

    def adds_to(name: str) -> str:
        if result.last.get(name) in result.read:
            assign(name, _copy, {"value": result.last[name]})
        elif name not in result.last:
            result.last[name] = new(name)
        its = result.last[name]
        if its not in result.sums:
            result.sums.append(its)
        return its

    for equation in equations:
        match equation:
            case Pointwise():
                given = {name: reads(name) for name in equation.arguments}
                assign(equation.value, equation.function, given)
            case Bias():
                result.steps.append(Addition(equation, tuple(map(adds_to, equation.gates))))
            case _:
                value = reads(equation.value)
                uses = [s.equation.param for s in result.steps if isinstance(s, Addition)]
                again = uses.count(equation.param)
                operand = f"{equation.param}.{again}" if again else equation.param
                to = tuple(map(adds_to, equation.gates))
                result.steps.append(Addition(equation, to, value, operand))
    return result
