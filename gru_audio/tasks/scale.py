"""How the values of a metric are written: factor, decimals, unit."""

from dataclasses import dataclass
from typing import Protocol

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"

_ROUNDING = 1e-9  # a smaller number is a rounding error of zero


class Interval(Protocol):
    """A value between two ends: a confidence interval, or the range of a few replicates."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def is_interval(self) -> bool: ...


@dataclass(frozen=True)
class Scale:
    """How numbers are written.

    Attributes:
      factor: what a number is multiplied by.
      decimals: how many it has.
      unit, difference_unit: what follows a value, and a difference of two values.
      small: numbers below it have `decimals` significant digits instead: losses may be tiny.
    """

    factor: float
    decimals: int
    unit: str = ""
    difference_unit: str = ""
    small: float = 0.0

    def number(self, value: float, *, sign: bool = False) -> str:
        """The bare number, as on an axis."""
        scaled = value * self.factor
        style = "g" if _ROUNDING < abs(scaled) < self.small else "f"
        text = f"{scaled:{'+' if sign else ''}.{self.decimals}{style}}"
        if float(text) == 0:
            text = text.lstrip("+-")
        return text.replace("e-0", "e-").replace("-", MINUS)

    def value(self, value: float) -> str:
        """The number with its unit."""
        return self.number(value) + self.unit

    def difference(self, value: float, *, sign: bool = False) -> str:
        """A difference with its unit."""
        return self.number(value, sign=sign) + self.difference_unit

    def interval(self, estimate: Interval) -> str:
        """The interval in brackets; the range of two replicates in parentheses."""
        low, high = self.number(estimate.low), self.number(estimate.high)
        if estimate.is_interval:
            return f"[{low},{SPACE}{high}]"
        return f"({low}{SPACE}to{SPACE}{high})" if estimate.low < estimate.high else ""

    def estimate(self, estimate: Interval) -> str:
        """The value with its unit, and the interval."""
        return f"{self.value(estimate.value)} {self.interval(estimate)}".rstrip()

    @property
    def axis_unit(self) -> str:
        """What an axis label adds: " (%)" or nothing."""
        return f" ({self.unit.strip()})" if self.unit else ""


PERCENT = Scale(100, 1, f"{SPACE}%", f"{SPACE}points")
PLAIN = Scale(1, 3, small=0.1)  # nats, squared errors
