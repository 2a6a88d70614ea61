"""One of several processes that repeat a collective sum, until a fault that the test selects."""

import os
import signal
import sys
import time
import traceback
from pathlib import Path

PREFIX = "--config.parallel."


def main(rounds: int, faulty: int, fault: str, place: dict[str, str]) -> int:
    """Runs `rounds` sums; process `faulty` has its fault before. Returns the exit code."""
    rank, count = int(place["process"]), int(place["processes"])
    mine = fault if rank == faulty else ""
    if mine == "exits":
        print("no such data set", file=sys.stderr)
        return 2
    if mine == "hangs":
        print("waits for a disk")
        time.sleep(600)

    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if mine == "fails to import":
        import no_such_module  # noqa: F401
    (Path(os.environ["GRU_AUDIO_JOINED"]) / str(rank)).touch()
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(place["coordinator"], count, rank, heartbeat_timeout_seconds=10)
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    for i in range(rounds):
        if i == 3 and mine in ("SIGKILL", "SIGSTOP"):
            os.kill(os.getpid(), signal.Signals[mine])
        if i == 3 and mine == "MemoryError":
            bytearray(2**60)
        ones = np.array([1, len(asked)])
        total, ending = multihost_utils.process_allgather(ones).reshape(-1, 2).sum(axis=0)
        if ending:
            return 75
        if i == 0:
            print(f"{total} processes, {jax.device_count()} devices")
        time.sleep(0.02)
    return 0


if __name__ == "__main__":
    rounds, faulty, fault, *flags = sys.argv[1:]
    place = dict(flag.removeprefix(PREFIX).split("=", 1) for flag in flags)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = main(int(rounds), int(faulty), fault, place)
    except Exception:  # as in the commands: a regular exit would wait for the other processes
        traceback.print_exc()
        os._exit(1)
    sys.exit(code)
