"""Several processes as one: joining them, and agreeing on what only one of them can know.

All processes run the same commands on the same plan. The clock, the files and the signals are not
the same everywhere, so what follows from them is settled here before anybody acts on it. Process 0
alone touches the workdir. With one process nothing is exchanged.
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

_JOINED = "GRU_AUDIO_JOINED"  # where each process that launch/local.py started leaves its number
_HEARTBEAT_SECONDS = 30  # of silence after which a process counts as dead
_PIECE = 2**28  # bytes that are sent at a time
Tree = Any


def join(parallel: ConfigDict) -> None:
    """Makes this process one of several, where the config says so; before JAX is first used.

    Raises:
      UserError: the coordinator cannot be found or reached, or not all processes came.
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
    # Its handler of SIGTERM would stand in the way of `stopping.py`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **found,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes did not come together (config.parallel.coordinator="
            f"{parallel.coordinator}): {error}"
        ) from error


def leave(code: int) -> None:
    """Ends one of several processes that cannot go on; does nothing where there is but one.

    A regular exit would wait for the others, and they wait for this one.
    """
    if jax.distributed.is_initialized():
        sys.stderr.flush()
        os._exit(code)


def first() -> bool:
    """Whether this process reads and writes the workdir and speaks to the user."""
    return jax.process_index() == 0


def greatest(values: Sequence[float]) -> list[float]:
    """The greatest of each value over all processes."""
    if jax.process_count() == 1:
        return list(values)
    gathered = multihost_utils.process_allgather(np.array(values, np.float32))
    return np.asarray(gathered).max(axis=0).tolist()


def from_first(make: Callable[[], Any]) -> Any:
    """What `make` returns in process 0, which alone calls it: something that JSON can hold.

    Raises:
      UserError: in all processes, if `make` raises one.
    """
    if jax.process_count() == 1:
        return make()
    said = b""
    if first():
        try:
            said = json.dumps({"value": make()}).encode()
        except UserError as error:
            said = json.dumps({"error": str(error)}).encode()
    heard = json.loads(_broadcast(said))
    if "error" in heard:
        raise UserError(heard["error"])
    return heard["value"]


def arrays_from_first(make: Callable[[], Tree], abstract: Tree) -> Tree:
    """Host arrays that `make` returns in process 0; `abstract` tells the others their shapes."""
    if jax.process_count() == 1:
        return make()
    said = b""
    if first():
        said = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(make()))
    heard, leaves, at = _broadcast(said), [], 0
    shapes, tree = jax.tree.flatten(abstract)
    for like in shapes:
        array = np.frombuffer(heard, like.dtype, int(np.prod(like.shape)), at)
        leaves.append(array.reshape(like.shape))
        at += array.nbytes
    return jax.tree.unflatten(tree, leaves)


def check_same(what: str, value: str) -> None:
    """Raises `UserError` where a process has another value than process 0."""
    of_first = from_first(lambda: value)
    if greatest([float(value != of_first)])[0]:
        raise UserError(f"The processes do not have the same {what}: give all of them the same.")


def _broadcast(said: bytes) -> bytes:
    """The bytes of process 0, in pieces that a device has room for."""
    parts = np.array(divmod(len(said), _PIECE), np.int32)
    pieces, rest = multihost_utils.broadcast_one_to_all(parts)
    heard = bytearray()
    for size in [_PIECE] * int(pieces) + [int(rest)] * bool(rest):
        buffer = np.zeros(size, np.uint8)
        if first():
            buffer[:] = np.frombuffer(said, np.uint8, size, len(heard))
        heard += np.asarray(multihost_utils.broadcast_one_to_all(buffer)).astype(np.uint8).tobytes()
    return bytes(heard)
