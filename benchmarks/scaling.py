"""Scaling: what more devices bring, measured here and by a model of the cost.

Measured, at 1, 2, 4, ... devices that take turns:

  strong   one run's batch is shared: steps/s, and efficiency as the share of n-fold speed
  weak     the batch grows with the devices: likewise
  members  every device has a run of its own, as in a sweep: run steps/s, and efficiency
  losses   how far the first steps' losses of the shared batch are from those of one device

On a CPU the devices are virtual and share the cores: the losses mean something there, the speeds do
not.

The model says to how many chips sharing a batch pays, from times taken on one device. A step on n
devices takes

    step(n) = fixed + shared / n + reduce(n)
    reduce(n) = 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency

`fixed` and `shared` follow from the time of a step with the whole batch and with half of it: a
recurrence takes its time steps one after another, however few rows there are, and that part no
device takes away. `reduce` is a ring all-reduce of the gradients (Patarasu and Yuan 2009). It pays
to the largest n at which the efficiency step(1) / (n step(n)) is at least a half.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks.setting import Row, Setting, make_setting, say
from benchmarks.timing import host, interleave, show_host, shown, spread
from gru_audio.config import check, override
from gru_audio.data.source import open_source

_ONE = "one device"
_KINDS = ("strong", "weak", "members")
_CHECKED_STEPS = 50  # whose losses are compared
_MOST_STEPS = 200  # of a turn
_PAYS = 0.5  # efficiency
_MOST_CHIPS = 4096


@dataclass(frozen=True)
class Link:
    """What joins the chips.

    Attributes:
      bandwidth: bytes/s that a chip sends.
      latency: seconds from one chip to the next; an order of magnitude, no measurement.
    """

    bandwidth: float
    latency: float


# Half of what the makers call bidirectional, and of one ring.
LINKS: Mapping[str, Link] = {
    "TPU v5e, inter-chip interconnect (1.6 Tbit/s a chip, Google)": Link(100e9, 1e-6),
    "H100/H200, NVLink 4 (900 GB/s both ways, NVIDIA)": Link(450e9, 1e-6),
    "between hosts, Ethernet 100 Gbit/s": Link(12.5e9, 20e-6),
}


def measure(config: ConfigDict, seconds: float, most: int = 1024) -> dict[str, Any]:
    """Runs the benchmark. Numbers are in the unit that their names tell.

    Args:
      config: an experiment's.
      seconds: to spend on each comparison, beside compilation.
      most: devices to use.

    Raises:
      UserError: the config is impossible or its data set is not prepared.
    """
    check(config)
    source = open_source(config.data.name, config.data.dir)
    counts = _device_counts(config.train.batch_size, most)
    half = override(config, {"train.batch_size": max(1, config.train.batch_size // 2)})
    settings = {_ONE: make_setting(config, source), "half": make_setting(half, source)}
    for n in counts[1:]:
        wide = {"parallel.data": n}
        settings[f"strong {n}"] = make_setting(config, source, wide)
        larger = override(config, {"train.batch_size": n * config.train.batch_size})
        settings[f"weak {n}"] = make_setting(larger, source, wide)
        settings[f"members {n}"] = make_setting(config, source, {"parallel.member": n}, members=n)
    if jax.default_backend() == "gpu":
        settings["deterministic"] = make_setting(config, source, {"parallel.deterministic": True})
    ms, losses = _times(settings, seconds)
    return {
        "benchmark": "scaling",
        "data": source.name,
        "host": host(),
        "platform": jax.default_backend(),
        "batch_size": config.train.batch_size,
        "measured": [_row(n, ms, losses) for n in counts[1:]],
        "one_step_ms": spread(ms[_ONE]),
        "deterministic_ratio": (
            spread(ms["deterministic"] / ms[_ONE]) if "deterministic" in ms else None
        ),
        "model": _model(settings[_ONE], ms),
    }


def efficiency(n: int, fixed: float, shared: float, reduced_bytes: int, link: Link) -> float:
    """step(1) / (n step(n)) of the model above; times in seconds."""
    reduce = 2 * (n - 1) / n * reduced_bytes / link.bandwidth + 2 * (n - 1) * link.latency
    return (fixed + shared) / (n * (fixed + shared / n + reduce))


def pays_to(fixed: float, shared: float, reduced_bytes: int, link: Link) -> int:
    """The most chips, in powers of two, at which the efficiency is at least a half."""
    n = 1
    while n < _MOST_CHIPS and efficiency(2 * n, fixed, shared, reduced_bytes, link) >= _PAYS:
        n *= 2
    return n


def _device_counts(batch_size: int, most: int) -> list[int]:
    """1, 2, 4, ... as far as there are devices, and rows for them."""
    counts = [2**i for i in range(min(most, len(jax.devices())).bit_length())]
    return [n for n in counts if n <= len(jax.devices()) and batch_size % n == 0]


def _times(
    settings: Mapping[str, Setting], seconds: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Milliseconds a step, round by round, and the losses of the first steps."""
    turns: dict[str, Callable[[int], None]] = {}
    losses: dict[str, np.ndarray] = {}
    for name, setting in settings.items():
        say(f"{name}: compiling")
        turns[name], losses[name] = _turn(setting)
    say(f"{len(turns)} contestants in turns")
    times = interleave(turns, seconds * len(turns))
    return {
        name: taken / _steps_a_turn(settings[name]) * 1e3 for name, taken in times.items()
    }, losses


def _steps_a_turn(setting: Setting) -> int:
    return min(_MOST_STEPS, setting.data.plan.epoch_steps)


def _turn(setting: Setting) -> tuple[Callable[[int], None], np.ndarray]:
    """Trains an epoch each turn."""
    feed = setting.feed("resident")
    alive, count = np.ones(len(setting.data.seeds), bool), _steps_a_turn(setting)
    state = feed.initial_state(setting.hyper)
    state, metrics = feed.train(state, alive, 0, _CHECKED_STEPS)
    box = {"state": state}

    def turn(round_: int) -> None:
        start = _CHECKED_STEPS + round_ * count
        box["state"], _ = feed.train(box["state"], alive, start, start + count)

    return turn, metrics["loss"]


def _row(n: int, ms: Mapping[str, np.ndarray], losses: Mapping[str, np.ndarray]) -> Row:
    one, strong, weak, members = (ms[k] for k in (_ONE, *(f"{k} {n}" for k in _KINDS)))
    return {
        "devices": n,
        "strong_steps_per_second": spread(1e3 / strong),
        "strong_efficiency": spread(one / strong / n),
        "weak_steps_per_second": spread(1e3 / weak),
        "weak_efficiency": spread(one / weak),
        "members_run_steps_per_second": spread(n * 1e3 / members),
        "members_efficiency": spread(one / members),
        "loss_difference": float(np.abs(losses[f"strong {n}"] - losses[_ONE]).max()),
    }


def _model(setting: Setting, ms: Mapping[str, np.ndarray]) -> dict[str, Any]:
    whole, half = (float(np.median(ms[name])) / 1e3 for name in (_ONE, "half"))
    shared = min(max(2 * (whole - half), 0.0), whole)
    params = setting.feed("resident").initial_state(setting.hyper).weights.params
    reduced = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {
        "fixed_ms": (whole - shared) * 1e3,
        "shared_ms": shared * 1e3,
        "reduced_bytes": reduced,
        "pays_to": {
            name: pays_to(whole - shared, shared, reduced, link) for name, link in LINKS.items()
        },
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Prints tables of what `measure` returns: medians, with quartiles in brackets."""
    show_host(result["host"], console)
    table = Table(title=f"Devices, batch {result['batch_size']} of {result['data']}")
    columns = ("devices", "strong: steps/s", "efficiency", "weak: steps/s", "efficiency")
    for column in (*columns, "members: run steps/s", "efficiency", "losses differ by"):
        table.add_column(column, justify="right")
    for row in result["measured"]:
        kinds = ("strong_steps", "weak_steps", "members_run_steps")
        cells = []
        for kind, rate in zip(_KINDS, kinds, strict=True):
            cells += [
                shown(row[f"{rate}_per_second"]),
                f"{row[f'{kind}_efficiency']['median']:.2f}",
            ]
        table.add_row(str(row["devices"]), *cells, f"{row['loss_difference']:.0e}")
    table.caption = f"One device: {shown(result['one_step_ms'])} ms a step."
    if result["platform"] == "cpu":
        table.caption += " Virtual devices share the cores: these speeds say nothing about scaling."
    console.print(table)
    if result["deterministic_ratio"]:
        console.print(f"deterministic: {shown(result['deterministic_ratio'])} times the time")
    model = result["model"]
    table = Table(
        title=f"By the model: {model['fixed_ms']:.2f} ms fixed, {model['shared_ms']:.2f} shared, "
        f"{model['reduced_bytes'] / 1e6:.2f} MB reduced a step"
    )
    table.add_column("chips joined by")
    table.add_column("sharing a batch pays to", justify="right")
    for name, n in model["pays_to"].items():
        table.add_row(name, f"{n} chips")
    console.print(table)
