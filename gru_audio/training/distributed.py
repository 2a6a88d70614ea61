"""The devices of this machine, and communication between processes.

All processes run the same commands with the same plan. Clocks, files and signals differ between
processes, so these functions make decisions that depend on them equal. Only process 0 uses the
workdir. A single process does not communicate.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from gru_audio.settings import UserError

_JOINED = "GRU_AUDIO_JOINED"  # folder in which launch/local.py looks for a file per process
_HEARTBEAT_SECONDS = 30  # after which a silent process is considered dead
_REPORT_SECONDS = 3600  # in which process 0 writes the report; the others wait
_CHUNK = 2**28  # bytes sent at a time
_USABLE = 0.9  # of a device's memory; the rest is for arrays that live between calls
Tree = Any


def join(parallel: ConfigDict) -> None:
    """Joins the other processes if the config names a coordinator. Call it before using JAX.

    Raises:
      UserError: the coordinator cannot be reached, or a process is missing.
    """
    if not parallel.coordinator:
        return
    found = {}
    if parallel.coordinator != "auto":
        found = {
            "coordinator_address": parallel.coordinator,
            "num_processes": parallel.processes,
            "process_id": parallel.process,
            "cluster_detection_method": "deactivate",
        }
    if folder := os.environ.get(_JOINED):
        (Path(folder) / str(parallel.process)).touch()
    # Its SIGTERM handler would replace ours (`stopping.py`).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **found,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_REPORT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes did not come together (config.parallel.coordinator="
            f"{parallel.coordinator}): {error}"
        ) from error


def leave(code: int) -> None:
    """Ends this process at once if it is one of several; otherwise returns.

    A regular exit would wait for the other processes, which wait for this one.
    """
    if jax.distributed.is_initialized():
        sys.stderr.flush()
        os._exit(code)


def first() -> bool:
    """Whether this is process 0, which reads and writes the workdir and prints."""
    return jax.process_index() == 0


def all_reduce_max(values: Sequence[float]) -> list[float]:
    """Returns the maximum of each value over all processes."""
    if jax.process_count() == 1:
        return list(values)
    gathered = multihost_utils.process_allgather(np.array(values, np.float32))
    return np.asarray(gathered).max(axis=0).tolist()


def broadcast(make: Callable[[], Any]) -> Any:
    """Calls `make` in process 0, and returns its value (of JSON types) in all processes.

    Raises:
      UserError: in all processes, if `make` raises one.
    """
    if jax.process_count() == 1:
        return make()
    data = b""
    if first():
        try:
            data = json.dumps({"value": make()}).encode()
        except UserError as error:
            data = json.dumps({"error": str(error)}).encode()
    reply = json.loads(_broadcast_bytes(data))
    if "error" in reply:
        raise UserError(reply["error"])
    return reply["value"]


def broadcast_arrays(make: Callable[[], Tree], abstract: Tree) -> Tree:
    """Like `broadcast`, for a pytree of host arrays with the shapes and types of `abstract`."""
    if jax.process_count() == 1:
        return make()
    data = b""
    if first():
        data = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(make()))
    received, leaves, at = _broadcast_bytes(data), [], 0
    shapes, tree = jax.tree.flatten(abstract)
    for like in shapes:
        array = np.frombuffer(received, like.dtype, int(np.prod(like.shape)), at)
        leaves.append(array.reshape(like.shape))
        at += array.nbytes
    return jax.tree.unflatten(tree, leaves)


def check_same(what: str, value: str) -> None:
    """Raises `UserError` if a process has another value than process 0."""
    expected = broadcast(lambda: value)
    if all_reduce_max([float(value != expected)])[0]:
        raise UserError(f"The processes do not have the same {what}: give all of them the same.")


def use_cpu_cores(at_least: int = 1) -> None:
    """Makes every CPU core an XLA device. Call it before using JAX.

    The small operations of a recurrence cannot keep several cores busy; independent members can.
    Accelerators are not changed, nor a number of devices that XLA_FLAGS sets.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", max(cores, at_least))


def use_platform(name: str) -> None:
    """Makes "cpu", "gpu" or "tpu" the default platform. Call it before using JAX.

    Raises:
      UserError: there is no such device.
    """
    platform = {"gpu": "cuda"}.get(name, name)
    jax.config.update("jax_platforms", ",".join(dict.fromkeys([platform, "cpu"])))
    try:
        jax.devices()
    except RuntimeError as error:
        raise UserError(f"There is no {name} here, or JAX was installed without it.") from error


def environment() -> dict[str, object]:
    """Returns devices and platform, for records of results."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
    }


def device_memory() -> int | None:
    """Returns the usable bytes of a device's memory; None if unknown."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    least = -all_reduce_max([-_USABLE * stats["bytes_limit"]])[0]  # the same in all processes
    return int(least)


def _broadcast_bytes(data: bytes) -> bytes:
    """Returns the bytes of process 0, which are sent in chunks."""
    sizes = np.array(divmod(len(data), _CHUNK), np.int32)
    chunks, rest = multihost_utils.broadcast_one_to_all(sizes)
    received = bytearray()
    for size in [_CHUNK] * int(chunks) + [int(rest)] * bool(rest):
        buffer = np.zeros(size, np.uint8)
        if first():
            buffer[:] = np.frombuffer(data, np.uint8, size, len(received))
        chunk = np.asarray(multihost_utils.broadcast_one_to_all(buffer))
        received += chunk.astype(np.uint8).tobytes()
    return bytes(received)
