"""Timing that can be believed: contestants take turns, and quartiles are shown."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np
from rich.console import Console

_PAUSE = 0.005  # seconds between turns: thread pools spin for a while before they sleep
LEAST_ROUNDS = 8
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "torch")

Spread = dict[str, float]  # "q1", "median", "q3"


def interleave(
    contestants: Mapping[str, Callable[[int], None]], seconds: float
) -> dict[str, np.ndarray]:
    """Wall times of contestants that take turns, so that what slows the machine slows all.

    Args:
      contestants: by name; each is called with the number of the round and returns when its work is
        done. The order moves on by one each round.
      seconds: for all rounds together; there are at least `LEAST_ROUNDS`, and one before that
        which does not count.

    Returns:
      Seconds, (rounds,) for each contestant: row i of all of them is one round.
    """
    names = list(contestants)
    times: list[list[float]] = []
    began, round_ = time.perf_counter(), 0
    while round_ <= LEAST_ROUNDS or time.perf_counter() - began < seconds:
        order = names[round_ % len(names) :] + names[: round_ % len(names)]
        taken = {}
        for name in order:
            time.sleep(_PAUSE)
            start = time.perf_counter()
            contestants[name](round_)
            taken[name] = time.perf_counter() - start
        if round_:
            times.append([taken[name] for name in names])
        round_ += 1
    return dict(zip(names, np.array(times).T, strict=True))


def turn(run: Callable[[], Any]) -> Callable[[int], None]:
    """A contestant of `interleave` out of a function that asks for no number."""

    def contestant(_: int) -> None:
        run()

    return contestant


def spread(values: np.ndarray) -> Spread:
    """Median and quartiles."""
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"q1": q1, "median": median, "q3": q3}


def speed(ours: np.ndarray, peer: np.ndarray) -> Spread:
    """How many times as fast as the peer: the ratio of times, taken round by round."""
    return spread(peer / ours)


def fastest(times: Mapping[str, np.ndarray]) -> str:
    """The name of the contestant whose median is the least."""
    return min(times, key=lambda name: float(np.median(times[name])))


def host() -> dict[str, Any]:
    """Machine, threads and versions, for the record."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "processor": _processor(),
        "cores": cores(),
        "load_before": os.getloadavg()[0],
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        "python": platform.python_version(),
        "versions": versions,
    }


def show_host(about: dict[str, Any], console: Console) -> None:
    """Prints what `host` returned."""
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    console.print(
        f"{about['processor']}, {about['cores']} cores, load {about['load_before']:.1f} before; "
        f"{about['devices']} {about['device']} device; Python {about['python']}, {versions}"
    )


def shown(values: Spread) -> str:
    """The median, with the quartiles in brackets."""
    digits = 2 if values["median"] < 10 else 1
    low, middle, high = (f"{values[k]:.{digits}f}" for k in ("q1", "median", "q3"))
    return f"{middle} [{low}, {high}]"


def cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
