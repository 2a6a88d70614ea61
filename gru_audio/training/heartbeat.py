"""What a group is doing, in a small file that whoever sees the workdir can read."""

import contextlib
import datetime
import json
import os
import socket
import time
from typing import Any

from etils import epath

from gru_audio.files import write_atomically

_SECONDS = 5.0  # between beats of one state


class Heartbeat:
    """Writes `status.json`: a state of `states.py`, what goes with it, when, and which process."""

    def __init__(self, file: epath.Path):
        self._file, self._written_at = file, -_SECONDS
        self._told: dict[str, Any] = {
            "state": None,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": _now(),
        }

    def beat(self, state: str, **news: Any) -> None:
        """Tells the state, and news that stay told; not all that come within a few seconds.

        It is for lookers-on: that it cannot be written is no reason to end anything.
        """
        changed = state != self._told["state"]
        self._told |= {"state": state, "heartbeat": _now()} | news
        if changed or time.monotonic() - self._written_at >= _SECONDS:
            self._written_at = time.monotonic()
            with contextlib.suppress(Exception):  # each object store has its own kinds of error
                write_atomically(self._file, json.dumps(self._told, indent=1))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
