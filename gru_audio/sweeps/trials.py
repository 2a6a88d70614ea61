"""Draws of a sweep: every point of a grid, or points at random.

Random search covers the numbers that matter more finely than a grid of as many runs (Bergstra and
Bengio 2012). Chung et al. 2014 (arXiv 1412.3555) draw their learning rates log-uniformly.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.settings import UserError

Distribution = Callable[[float], Any]  # from a number in [0, 1) to a value: an inverse CDF

_DIGITS = 3  # of a random value: so that names of runs can be read and typed
_TRIES = 100  # for each trial to be another one than those before


def grid(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of each config key."""
    combinations = itertools.product(*values.values())
    return [dict(zip(values, point, strict=True)) for point in combinations]


def random(
    count: int, seed: int, distributions: Mapping[str, Distribution]
) -> list[dict[str, Any]]:
    """`count` different points; the first of them are those of any smaller `count`.

    Args:
      count: how many.
      seed: the same one gives the same points, on any machine.
      distributions: config key -> `log_uniform(..)`, `uniform(..)` or `choice(..)`.

    Raises:
      UserError: there are not so many different points.
    """
    # Only the bits of a generator are the same in all versions of NumPy: `random` keeps close.
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
            f"{count} trials were asked for, and only {len(points)} different ones come."
        )
    return points


def log_uniform(low: float, high: float) -> Distribution:
    """Between `low` and `high`, each order of magnitude as likely as another.

    Raises:
      UserError: not 0 < low < high.
    """
    if not 0 < low < high:
        raise UserError(f"log_uniform({low:g}, {high:g}) needs 0 < low < high.")
    return lambda u: _rounded(low * (high / low) ** u)


def uniform(low: float, high: float) -> Distribution:
    """Between `low` and `high`.

    Raises:
      UserError: not low < high.
    """
    if not low < high:
        raise UserError(f"uniform({low:g}, {high:g}) needs low < high.")
    return lambda u: _rounded(low + (high - low) * u)


def choice(*options: Any) -> Distribution:
    """One of the options, each as likely as another.

    Raises:
      UserError: there is none.
    """
    if not options:
        raise UserError("choice() needs an option.")
    return lambda u: options[int(u * len(options))]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
