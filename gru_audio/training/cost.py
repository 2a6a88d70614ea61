"""Operations of a traced function, counted before compilation.

The compiler's own count has each loop once, and a recurrence is a loop. Here, the body of a loop
with a known number of iterations counts for each of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """The cost of a function on one device.

    Attributes:
      flops: floating-point operations of matrix products, convolutions and Fourier transforms. A
        multiplication and an addition are two.
      iterations: loop iterations that must follow one another, such as steps of a recurrence.
      bytes: bytes that these operations read and write, each time. Values that stay in a cache
        count too. Elementwise operations do not, because the compiler merges them into others. A
        Pallas kernel counts its arguments and results.
    """

    flops: float = 0.0
    iterations: int = 0
    bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.iterations + other.iterations,
            self.bytes + other.bytes,
        )

    def times(self, count: int) -> "Cost":
        """Returns the cost of `count` iterations of a loop with this body."""
        return Cost(count * self.flops, count * max(1, self.iterations), count * self.bytes)


def cost_of(jaxpr: Any) -> Cost:
    """Counts a jaxpr.

    A loop with an unknown number of iterations counts once, so that the loop over training steps
    gives the cost of one step. Of several branches, the one with most operations counts.
    """
    total = Cost()
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name in _COUNTED:
            total += Cost(_COUNTED[name](equation), bytes=_moved(equation))
            continue
        inner = [cost_of(part) for part in _jaxprs(params)]
        if name == "cond":
            total += max(inner, key=lambda cost: cost.flops)
            continue
        cost = sum(inner, Cost())
        if name == "scan":
            cost = cost.times(params["length"])
        elif name == "pallas_call":  # programs of the grid run side by side, or in any order
            flops = math.prod(params["grid_mapping"].grid) * cost.flops
            cost = Cost(flops, cost.iterations, _moved(equation))
        total += cost
    return total


def _moved(equation: Any) -> float:
    """Returns the bytes of the operands and results of an equation."""
    values = [v.aval for v in (*equation.invars, *equation.outvars)]
    return float(sum(v.size * v.dtype.itemsize for v in values if hasattr(v, "dtype")))


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)


def _convolution(equation: Any) -> float:
    kernel = equation.invars[1].aval
    features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * equation.outvars[0].aval.size * kernel.size / features


def _fourier(equation: Any) -> float:
    """Returns 5 n log2(n) operations for n complex values, and half of it for real ones."""
    length = math.prod(equation.params["fft_lengths"])
    signals = max(v.aval.size for v in (*equation.invars, *equation.outvars)) / length
    real = any(v.aval.dtype.kind == "f" for v in (*equation.invars, *equation.outvars))
    return math.ceil(signals) * 5 * length * math.log2(max(length, 2)) / (1 + real)


_COUNTED = {"dot_general": _product, "conv_general_dilated": _convolution, "fft": _fourier}


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """Yields the jaxprs among the parameters of an equation."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
