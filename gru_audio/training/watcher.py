"""A program that ends its parent if a signal has not ended it. `stopping.py` starts it.

  python -I -S watcher.py PID

In the parent, Python's signal handlers and threads wait while native code holds the interpreter
lock. This process does not wait. It reads bytes from standard input: numbers of signals, and GRACE
plus the seconds of the grace period. It writes bytes to standard output: the number of the first
signal, and END plus that number when the parent must end itself. If the parent then does not end,
it kills the parent.
"""

import contextlib
import os
import select
import signal
import sys
import time

GRACE, END = 128, 128  # larger than all signal numbers
_KILL_SECONDS = 3.0  # from END to the kill
_ENDING = (signal.SIGINT, signal.SIGTERM)


def main(parent: int) -> None:
    """Watches the parent until it has ended."""
    for number in (*_ENDING, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    seconds, first, ending = 0, 0, False
    deadline = float("inf")
    while os.getppid() == parent:
        if time.monotonic() >= deadline and ending:
            print(
                f"killed: the process did not end within {_KILL_SECONDS:.0f} s after its deadline",
                file=sys.stderr,
                flush=True,
            )
            os.kill(parent, signal.SIGKILL)
            return
        if time.monotonic() >= deadline:
            _send(END + first)
            ending, deadline = True, time.monotonic() + _KILL_SECONDS
        left = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            continue
        message = os.read(0, 1)
        if not message:
            return
        if message[0] >= GRACE:
            seconds = message[0] - GRACE
        elif message[0] in _ENDING and not first:
            first, deadline = message[0], time.monotonic() + seconds
            _send(first)
        elif message[0] == signal.SIGINT and not ending:
            deadline = 0.0


def _send(number: int) -> None:
    with contextlib.suppress(OSError):
        os.write(1, bytes([number]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
