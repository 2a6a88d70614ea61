"""Scaling: what more devices bring, measured here and by a model of the cost.

Measured, at 1, 2, 4, ... devices that take turns:

  strong   one run's batch is shared: efficiency is the share of n-fold speed
  weak     the batch grows with the devices: likewise
  members  every device has a run of its own, as in a sweep: likewise
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

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.experiment import Setting, make_setting, source_of, training
from benchmarks.harness import Options, Row, compete
from gru_audio.config import override

ONE = "one device"
_CHECKED_STEPS = 50  # whose losses are compared
_MOST_STEPS = 200  # of a turn
_PAYS = 0.5  # efficiency
_MOST_CHIPS = 4096


class Link(NamedTuple):
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


def measure(options: Options, most: int = 1024) -> Iterator[Row]:
    """Times the devices, and applies the model.

    Args:
      options: of the command line; the seconds are for each contestant.
      most: devices to use.

    Raises:
      UserError: the data set is not prepared.
    """
    assert options.config
    config, source = options.config, source_of(options.config)
    batch = config.train.batch_size
    one = make_setting(config, source)
    half = override(config, {"train.batch_size": max(1, batch // 2)})
    # name -> devices, the setting, and the work of a step
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
    """To how many chips sharing a batch pays, by the seconds of a step with all and half of it."""
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
    """step(1) / (n step(n)) of the model above; times in seconds."""
    reduce = 2 * (n - 1) / n * reduced_bytes / link.bandwidth + 2 * (n - 1) * link.latency
    return (fixed + shared) / (n * (fixed + shared / n + reduce))


def pays_to(fixed: float, shared: float, reduced_bytes: int, link: Link) -> int:
    """The most chips, in powers of two, at which the efficiency is at least a half."""
    n = 1
    while n < _MOST_CHIPS and efficiency(2 * n, fixed, shared, reduced_bytes, link) >= _PAYS:
        n *= 2
    return n
