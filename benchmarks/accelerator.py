"""The first minutes on an accelerator: what to measure, the most valuable first.

  python -m benchmarks accelerator --minutes 8 --json h200.json

Each part runs in a process of its own, which ends at a limit, so that a compiler that hangs costs
one part only. Results are in the file as soon as they are measured. A part that does not fit into
the remaining minutes is skipped. The same command later continues with the parts that are missing,
on the same kind of device with the same versions. At the end it writes FILE.html.

The sound is noise that the command prepares. PyTorch, if it is installed, takes part; on a GPU its
layers are those of cuDNN.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks import accelerator_page
from benchmarks.harness import Row, say
from gru_audio.files import write_atomically
from gru_audio.prepare import prepare
from gru_audio.settings import UserError

DATA, RATE, CLASSES = "accelerator_noise", 8000, 8
_CLIPS = {False: 1024, True: 64}  # whether sizes are tiny -> number of clips
SECONDS = 3.0  # of each comparison, without compilation
_POLL = 0.5  # seconds between looks at a part's results
_MARGIN = 1.5  # a part may take this multiple of its expected duration
_SAME = ("device", "devices", "platform", "python", "versions")  # of a file that is continued


@dataclass(frozen=True)
class Part:
    """One question.

    Attributes:
      name: of the part.
      seconds: expected duration, including the start of the process.
    """

    name: str
    seconds: float


PARTS = (
    Part("check gru", 35),
    Part("check lstm", 35),
    Part("recurrence gru 128", 30),
    Part("recurrence gru 256", 35),
    Part("recurrence gru 64", 30),
    Part("recurrence lstm 128", 30),
    Part("sweep 64", 70),
    Part("step gru", 45),
    Part("sweep 16", 60),
    Part("sweep 256", 80),
    Part("recurrence lstm 256", 35),
    Part("recurrence lstm 64", 30),
    Part("cudnn lstm 128", 30),
    Part("input", 60),
    Part("memory", 60),
    Part("kernels gru 128", 40),
    Part("kernels lstm 128", 40),
    Part("scaling", 90),
    Part("streaming", 90),
    Part("frontend", 60),
    Part("convolution", 90),
    Part("cells", 120),
)

Command = Callable[[Part, Path, float], Sequence[str]]  # (part, file, seconds) -> its command
Result = dict[str, Any]  # "host" and "parts": name -> {"state", "rows", "seconds"}


def run(minutes: float, file: str, command: Command, parts: Sequence[Part] = PARTS) -> Result:
    """Runs the parts that are missing in a file.

    Args:
      minutes: duration of this call, at most.
      file: for the results, JSON.
      command: returns the command that writes the rows of a part to a file.
      parts: the parts, in order.

    Raises:
      UserError: the file is no such file, or has results of another device or other versions.
    """
    path, end = Path(file), time.monotonic() + 60 * minutes
    result = _opened(path)
    for part in parts:
        before = result["parts"].get(part.name, {})
        if before.get("state") == "done":
            continue
        left = end - time.monotonic()
        if left < part.seconds:
            say(f"{part.name}: skipped. It takes {part.seconds:g} s, and {left:.0f} are left.")
            continue
        say(f"{part.name}: {left:.0f} s left")
        limit = min(left, _MARGIN * part.seconds)
        for state, rows, host, seconds in _watched(command, part, limit):
            _check_same(result["host"] or host, host, path)
            result["host"] = result["host"] or host
            result["parts"][part.name] = {"state": state, "rows": rows, "seconds": seconds}
            write_atomically(path, json.dumps(result, indent=1))
        say(f"{part.name}: {result['parts'][part.name]['state']}")
    path.with_suffix(".html").write_text(accelerator_page.page(result, [p.name for p in parts]))
    return result


def _opened(path: Path) -> Result:
    if not path.exists():
        return {"host": None, "parts": {}}
    try:
        result = json.loads(path.read_text())
        if isinstance(result["parts"], dict) and "host" in result:
            return result
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} has no results of this command: give another --json.")


def _check_same(old: Row | None, new: Row | None, path: Path) -> None:
    for name in _SAME:
        if old and new and old[name] != new[name]:
            raise UserError(
                f"{path} has results with {name} {old[name]}, but here it is {new[name]}: give "
                "another --json."
            )


def _watched(
    command: Command, part: Part, limit: float
) -> Iterator[tuple[str, list[Row], Row | None, float]]:
    """Runs a part; yields its state, rows, machine and seconds whenever there are new rows."""
    with tempfile.TemporaryDirectory() as folder:
        file, began = Path(folder, "part.json"), time.monotonic()
        words = command(part, file, limit)
        child = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL)
        seen = -1
        try:
            while child.poll() is None and time.monotonic() - began < limit:
                time.sleep(_POLL)
                rows, host = _rows(file)
                if len(rows) > seen and host:
                    seen = len(rows)
                    yield "unfinished", rows, host, time.monotonic() - began
        finally:
            code = child.poll()
            _end(child)
        rows, host = _rows(file)
        state = "done" if code == 0 else "failed"
        if code is None:
            state = f"stopped after {limit:.0f} s"
        yield state, rows, host, time.monotonic() - began


def _rows(file: Path) -> tuple[list[Row], Row | None]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):  # it is being written
        return [], None
    return found["rows"], found["host"]


def _end(child: subprocess.Popen) -> None:
    """Kills a child and its own children, if any is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def child_command(flags: Sequence[str], folder: Path) -> Command:
    """Returns the commands of the parts.

    Args:
      flags: flags of this command that the parts need, too.
      folder: where the noise is prepared.
    """

    def command(part: Part, file: Path, seconds: float) -> list[str]:
        words = [sys.executable, "-m", "benchmarks", "accelerator", f"--part={part.name}"]
        return [*words, f"--json={file}", f"--data={folder}", f"--limit={seconds:g}", *flags]

    return command


def prepare_noise(folder: Path, tiny: bool) -> None:
    """Prepares clips of noise of 0.5 to 1 s."""
    rng = np.random.default_rng(0)
    for clip in range(_CLIPS[tiny]):
        samples = rng.normal(0, 0.1, rng.integers(RATE // 2, RATE))
        name = folder / "sounds" / f"class{clip % CLASSES}" / f"{clip}.wav"
        name.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(name, samples, RATE)
    prepare("folder", folder, name=DATA, folder=folder / "sounds")


def changes(folder: str, tiny: bool) -> Mapping[str, Any]:
    """Returns the changes to the config of an experiment for the noise."""
    size = {"model.hidden": 8, "train.batch_size": 8} if tiny else {"model.hidden": 128}
    return {"data.name": DATA, "data.dir": folder, "data.target": "label", **size}
