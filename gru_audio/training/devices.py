"""The devices of this machine: which of them JAX takes, what they are, and what they hold."""

import os

import jax

from gru_audio.settings import UserError
from gru_audio.training import processes

_USED = 0.9  # of a device's memory: the rest is left to what lies between calls


def use_cpu_cores(at_least: int = 1) -> None:
    """Makes one XLA device of every CPU core.

    One device leaves cores idle between the small operations of a recurrence; independent members
    fill them. It must come before JAX is first used; it changes nothing on an accelerator, or where
    XLA_FLAGS set the number already.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", max(cores, at_least))


def use_platform(name: str) -> None:
    """Makes "cpu", "gpu" or "tpu" the platform of all that follows; the CPU stays at hand.

    It must come before JAX is first used.

    Raises:
      UserError: there is no such device here.
    """
    platform = {"gpu": "cuda"}.get(name, name)
    jax.config.update("jax_platforms", ",".join(dict.fromkeys([platform, "cpu"])))
    try:
        jax.devices()
    except RuntimeError as error:
        raise UserError(f"There is no {name} here, or JAX was installed without it.") from error


def environment() -> dict[str, object]:
    """Devices and platform, for the record."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
    }


def device_memory() -> int | None:
    """Bytes of a device's memory that programs may take; None where it does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    least = -processes.greatest([-_USED * stats["bytes_limit"]])[0]  # the same in all processes
    return int(least)
