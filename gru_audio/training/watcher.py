"""Ends its parent when a signal has not; a program of its own, which `stopping.py` starts.

  python -I -S watcher.py PID

Python's handlers, and its other threads, have to wait for native code that holds the interpreter.
This process does not. It reads bytes from standard input: numbers of signals, and GRACE plus the
seconds that a signal leaves. It writes bytes to standard output: the number of the first signal,
and END plus that number when the parent has to end itself. If that has not helped, it kills the
parent.
"""

import contextlib
import os
import select
import signal
import sys
import time

GRACE, END = 128, 128  # above all numbers of signals
_KILL_SECONDS = 3.0  # from END to the kill
_ENDING = (signal.SIGINT, signal.SIGTERM)


def main(parent: int) -> None:
    """Watches until the parent is gone."""
    for number in (*_ENDING, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    seconds, first, told = 0, 0, False
    deadline = float("inf")
    while os.getppid() == parent:
        if time.monotonic() >= deadline and told:
            print(
                f"killed: it did not end within {_KILL_SECONDS:.0f} s after it should have",
                file=sys.stderr,
                flush=True,
            )
            os.kill(parent, signal.SIGKILL)
            return
        if time.monotonic() >= deadline:
            _tell(END + first)
            told, deadline = True, time.monotonic() + _KILL_SECONDS
        left = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            continue
        heard = os.read(0, 1)
        if not heard:
            return
        if heard[0] >= GRACE:
            seconds = heard[0] - GRACE
        elif heard[0] in _ENDING and not first:
            first, deadline = heard[0], time.monotonic() + seconds
            _tell(first)
        elif heard[0] == signal.SIGINT and not told:
            deadline = 0.0


def _tell(number: int) -> None:
    with contextlib.suppress(OSError):
        os.write(1, bytes([number]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
