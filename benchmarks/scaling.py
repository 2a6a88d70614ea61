"""Scaling to several devices: measurements, and an estimate from a cost model.

Measurements with 1, 2, 4, ... devices:

  strong   the devices share the batch of one run; efficiency is the speed on n devices, divided by
           n times the speed on one device
  weak     the batch grows with the number of devices
  members  every device has its own run, as in a sweep
  losses   differences between the first losses with a shared batch and those on one device

On a CPU the devices are virtual and share the cores. There the losses are meaningful, but the
speeds are not.

The model estimates how many chips can usefully share a batch, from times on one device. A step on n
devices takes

    step(n) = fixed + shared / n + reduce(n)
    reduce(n) = 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency

`fixed` and `shared` follow from the times of a step with the whole batch and with half of it. The
time steps of a recurrence are sequential, so a part of the time does not depend on the number of
rows. `reduce` is a ring all-reduce of the gradients (Patarasu and Yuan 2009). Sharing is considered
useful up to the largest n at which the efficiency step(1) / (n step(n)) is at least a half.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.experiment import Setting, make_setting, source_of, training
from benchmarks.harness import Options, Row, compete
from gru_audio.config import override

ONE = "one device"
_CHECKED_STEPS = 50  # first steps, whose losses are compared
_MOST_STEPS = 200  # per turn
_MIN_EFFICIENCY = 0.5
_MOST_CHIPS = 4096


class Link(NamedTuple):
    """The connection between chips.

    Attributes:
      bandwidth: bytes/s that a chip sends.
      latency: seconds from one chip to the next; an order of magnitude, not a measurement.
    """

    bandwidth: float
    latency: float


# Half of the bidirectional bandwidth that the manufacturers give.
LINKS: Mapping[str, Link] = {
    "TPU v5e, inter-chip interconnect (1.6 Tbit/s a chip, Google)": Link(100e9, 1e-6),
    "H100/H200, NVLink 4 (900 GB/s both ways, NVIDIA)": Link(450e9, 1e-6),
    "between hosts, Ethernet 100 Gbit/s": Link(12.5e9, 20e-6),
}


def measure(options: Options, most: int = 1024) -> Iterator[Row]:
    """Times the devices, and applies the model.

    Args:
      options: options of the command line. The duration is for each contestant.
      most: largest number of devices.

    Raises:
      UserError: the data set is not prepared.
    """
    assert options.config
    config, source = options.config, source_of(options.config)
    batch = config.train.batch_size
    one = make_setting(config, source)
    half = override(config, {"train.batch_size": max(1, batch // 2)})
    # name -> number of devices, setting, and work of a step
    entrants: dict[str, tuple[int, Setting, float]] = {
        ONE: (1, one, 1),
        "half of the batch": (1, make_setting(half, source), 0.5),
    }
    counts = [2**i for i in range(1, min(most, len(jax.devices())).bit_length())]
    for n in (n for n in counts if batch % n == 0):
        wide = {"parallel.data": n}
        larger = override(config, {"train.batch_size": n * batch})
        members = make_setting(config, source, {"parallel.member": n}, members=n)
        entrants[f"strong, {n} devices"] = n, make_setting(config, source, wide), 1
        entrants[f"weak, {n} devices"] = n, make_setting(larger, source, wide), n
        entrants[f"members, {n} devices"] = n, members, n
    if jax.default_backend() == "gpu":
        entrants["deterministic"] = (
            *(1, make_setting(config, source, {"parallel.deterministic": True}), 1),
        )
    makers = {
        name: training(
            setting, min(_MOST_STEPS, setting.data.plan.epoch_steps), work, _CHECKED_STEPS
        )
        for name, (_, setting, work) in entrants.items()
    }
    ms, losses = {}, {}
    for row in compete(makers, options.seconds * len(makers), [ONE]):
        name = row["contestant"]
        devices, setting, _ = entrants[name]
        if "failed" not in row:
            ms[name], losses[name] = row["ms"]["median"], np.array(row.pop("losses"))
            row["run_steps_per_second"] = 1e3 / ms[name] * len(setting.data.seeds)
            row["efficiency"] = {q: v / devices for q, v in row["speed"][ONE].items()}
            if name.startswith("strong") and ONE in losses:
                row["loss_difference"] = float(np.abs(losses[name] - losses[ONE]).max())
        yield {"table": f"Devices, batch {batch} of {source.name}", **row}
    yield from model(one, ms[ONE] / 1e3, ms["half of the batch"] / 1e3)


def model(setting: Setting, whole: float, half: float) -> Iterator[Row]:
    """Yields the estimates from the seconds of a step with the whole and with half of the batch."""
    shared = min(max(2 * (whole - half), 0.0), whole)
    params = setting.loader("resident").initial_state(setting.hyper).weights.params
    reduced = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    about: dict[str, Any] = {
        "fixed_ms": (whole - shared) * 1e3,
        "shared_ms": shared * 1e3,
        "reduced_bytes": reduced,
    }
    for name, link in LINKS.items():
        chips = pays_to(whole - shared, shared, reduced, link)
        row = {"chips_joined_by": name, "sharing_a_batch_pays_to_chips": chips}
        yield {"table": "By the model", **row, **about}


def efficiency(n: int, fixed: float, shared: float, reduced_bytes: int, link: Link) -> float:
    """Returns step(1) / (n step(n)) of the model above, from times in seconds."""
    reduce = 2 * (n - 1) / n * reduced_bytes / link.bandwidth + 2 * (n - 1) * link.latency
    return (fixed + shared) / (n * (fixed + shared / n + reduce))


def pays_to(fixed: float, shared: float, reduced_bytes: int, link: Link) -> int:
    """Returns the largest power of two of chips with an efficiency of at least a half."""
    n = 1
    while (
        n < _MOST_CHIPS and efficiency(2 * n, fixed, shared, reduced_bytes, link) >= _MIN_EFFICIENCY
    ):
        n *= 2
    return n
