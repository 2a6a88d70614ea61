"""Trials of a sweep: all points of a grid, or random points; `optuna.Search` proposes others.

With the same number of runs, random search tries more values of each important hyperparameter than
a grid (Bergstra and Bengio 2012). Chung et al. 2014 (arXiv 1412.3555) sample learning rates
log-uniformly.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.settings import UserError

Distribution = Callable[[float], Any]  # an inverse CDF: a number in [0, 1) -> a value

_DIGITS = 3  # significant digits of a random value, so that run names stay short
_TRIES = 100  # samples per trial, since duplicates are discarded


@dataclass(frozen=True)
class Range:
    """A uniform distribution, or a log-uniform one, between `low` and `high`."""

    low: float
    high: float
    log: bool = False

    def __call__(self, u: float) -> float:
        if self.log:
            return self.value(self.low * (self.high / self.low) ** u)
        return self.value(self.low + (self.high - self.low) * u)

    def value(self, drawn: float) -> float:
        """Returns the value of a run, which is rounded."""
        return float(f"{drawn:.{_DIGITS}g}")


@dataclass(frozen=True)
class Choice:
    """A uniform distribution over options."""

    options: tuple[Any, ...]

    def __call__(self, u: float) -> Any:
        return self.value(int(u * len(self.options)))

    def value(self, drawn: int) -> Any:
        """Returns the option of this number."""
        return self.options[drawn]


def grid(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Returns every combination of the values of each config key."""
    combinations = itertools.product(*values.values())
    return [dict(zip(values, point, strict=True)) for point in combinations]


def random(
    count: int, seed: int, distributions: Mapping[str, Distribution]
) -> list[dict[str, Any]]:
    """Returns `count` different random points. A smaller `count` returns the first of these points.

    Args:
      count: number of points.
      seed: equal seeds give equal points on any machine.
      distributions: config key -> `log_uniform(..)`, `uniform(..)` or `choice(..)`.

    Raises:
      UserError: the distributions have fewer different points.
    """
    # NumPy guarantees only the bit stream of a generator; `random` depends on little else.
    uniform = np.random.Generator(np.random.PCG64(seed)).random
    points: list[dict[str, Any]] = []
    for _ in range(_TRIES * count):
        if len(points) == count:
            break
        point = {name: inverse(uniform()) for name, inverse in distributions.items()}
        if point not in points:
            points.append(point)
    if len(points) < count:
        raise UserError(
            f"{count} trials were requested, but the distributions gave only {len(points)} "
            "different ones."
        )
    return points


def log_uniform(low: float, high: float) -> Range:
    """Log-uniform distribution between `low` and `high`.

    Raises:
      UserError: not 0 < low < high.
    """
    if not 0 < low < high:
        raise UserError(f"log_uniform({low:g}, {high:g}) needs 0 < low < high.")
    return Range(low, high, log=True)


def uniform(low: float, high: float) -> Range:
    """Uniform distribution between `low` and `high`.

    Raises:
      UserError: not low < high.
    """
    if not low < high:
        raise UserError(f"uniform({low:g}, {high:g}) needs low < high.")
    return Range(low, high)


def choice(*options: Any) -> Choice:
    """Uniform distribution over the options.

    Raises:
      UserError: there are no options.
    """
    if not options:
        raise UserError("choice() needs an option.")
    return Choice(options)
