"""SIGTERM, which precedes the loss of a machine: a flag that the loop looks at, and a deadline."""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on

_GRACE_SECONDS = 25.0  # from SIGTERM to the end, whatever is running


class Preempted(Exception):
    """A signal asked for an end, and everything is saved."""


class Preemption:
    """Whether the machine is about to be lost."""

    asked = False


@contextlib.contextmanager
def heed_sigterm() -> Iterator[Preemption]:
    """Turns SIGTERM into `Preemption.asked`.

    Should nobody look in time (a compilation may take minutes), the process ends itself: the
    checkpoint before is whole, and nothing but the steps since then is lost.
    """
    preemption = Preemption()
    handler = signal.signal(signal.SIGTERM, lambda *_: setattr(preemption, "asked", True))
    # Python runs handlers between its own instructions only; this pipe is written at once.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer)
    threading.Thread(target=_end_in_time, args=(reader,), daemon=True).start()
    try:
        yield preemption
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, handler)
        os.close(writer)


def _end_in_time(reader: int) -> None:
    """Waits for SIGTERM's number in the pipe, then for the pipe's end, but not for long."""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        deadline = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                break
            number = pipe.read(1)
            if not number:
                return
            if number[0] == signal.SIGTERM and deadline is None:
                deadline = time.monotonic() + _GRACE_SECONDS
    print(
        f"preempted: no step ended within {_GRACE_SECONDS:.0f} s; "
        "the same command resumes from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_PREEMPTED)
