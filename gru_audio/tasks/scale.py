"""How the values of a metric are printed: factor, decimals, unit."""

from dataclasses import dataclass
from typing import Protocol

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"

_ROUNDING = 1e-9  # smaller numbers are rounding errors


class Interval(Protocol):
    """A value with a confidence interval, or with the range of a few replicates."""

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
    """How numbers are printed.

    Attributes:
      factor: factor of all numbers.
      decimals: number of decimals.
      unit, difference_unit: unit of a value, and of a difference of two values.
      small: smaller numbers are printed with `decimals` significant digits, because a loss may be
        tiny.
    """

    factor: float
    decimals: int
    unit: str = ""
    difference_unit: str = ""
    small: float = 0.0

    def number(self, value: float, *, sign: bool = False) -> str:
        """Returns a number without a unit, as on an axis."""
        scaled = value * self.factor
        style = "g" if _ROUNDING < abs(scaled) < self.small else "f"
        text = f"{scaled:{'+' if sign else ''}.{self.decimals}{style}}"
        if float(text) == 0:
            text = text.lstrip("+-")
        return text.replace("e-0", "e-").replace("-", MINUS)

    def value(self, value: float) -> str:
        """Returns a number with its unit."""
        return self.number(value) + self.unit

    def difference(self, value: float, *, sign: bool = False) -> str:
        """Returns a difference with its unit."""
        return self.number(value, sign=sign) + self.difference_unit

    def interval(self, estimate: Interval) -> str:
        """Returns an interval in brackets, or a range in parentheses."""
        low, high = self.number(estimate.low), self.number(estimate.high)
        if estimate.is_interval:
            return f"[{low},{SPACE}{high}]"
        return f"({low}{SPACE}to{SPACE}{high})" if estimate.low < estimate.high else ""

    def estimate(self, estimate: Interval) -> str:
        """Returns a value with its unit and its interval."""
        return f"{self.value(estimate.value)} {self.interval(estimate)}".rstrip()

    @property
    def axis_unit(self) -> str:
        """The suffix of an axis label: " (%)" or nothing."""
        return f" ({self.unit.strip()})" if self.unit else ""


PERCENT = Scale(100, 1, f"{SPACE}%", f"{SPACE}points")
PLAIN = Scale(1, 3, small=0.1)  # for nats and squared errors
