r"""Starts a command as several processes on this machine, and watches them.

  python launch/local.py --processes 4 --devices 2 -- \
      python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/digits

Each process gets the command with its place among the others appended, and each line it prints
comes out behind its number. With --devices it is on the CPU; without, the GPUs of the machine are
parted among the processes, if there are any. When one fails, dies, hangs or never comes up, the
others are ended within a minute and a message names it. Exit code: 0 all ended well; 75 preempted,
everything saved, the same command resumes; 2 the command was wrong; 1 anything else.
"""

import argparse
import collections
import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

USER_ERROR, PREEMPTED, INTERRUPTED = 2, 75, 130  # exit codes
JOINED = "GRU_AUDIO_JOINED"  # the folder in which a process leaves its number as it joins the rest
# What JAX and its collectives say when another process is gone. Then they abort or raise an error.
_LOST_A_PEER = re.compile(
    "JAX distributed service detected fatal errors|error from coordination service"
    "|Connection (closed|reset) by peer|Socket closed|another task died"
)

_GPU = re.compile(r"\d+|(GPU|MIG)-.+")  # its name in CUDA_VISIBLE_DEVICES
_POLL = 0.05  # seconds
_SETTLE = 3.0  # seconds in which all that answer have heard of a silent one
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL, for those that cannot go on anyway
_SAVING = 40.0  # seconds that processes have to save and end after a signal; they take 25
_TAIL = 40  # lines
_PR_SET_PDEATHSIG = 1  # of Linux


class Process:
    """One of the processes; its output is passed on, line by line, behind its number."""

    def __init__(self, rank: int, command: Sequence[str], environment: dict[str, str]):
        self.rank = rank
        self._joined = Path(environment[JOINED]) / str(rank)
        self.lost_a_peer = False  # whether it has said so
        self._asked_to_end = 0  # by which signal
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL)
        self._popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches it through us alone
            preexec_fn=_die_with_parent,
        )
        self._reader = threading.Thread(target=self._pass_on, daemon=True)

    def listen(self) -> None:
        """Begins to pass on its output."""
        self._reader.start()

    @property
    def code(self) -> int | None:
        """Its exit code, minus the signal that killed it, or None while it runs.

        A process that a signal reaches before it has joined may end in any way: Python itself
        exits with code 1 while it still loads `site`. One that has joined may see the others leave
        before it.
        """
        code = self._popen.poll()
        if code is None or not self._asked_to_end:
            return code
        excused = self.lost_a_peer or (code != USER_ERROR and not self._joined.exists())
        if code == -self._asked_to_end or (code and excused):
            return INTERRUPTED if self._asked_to_end == signal.SIGINT else PREEMPTED
        return code

    def send(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if number != signal.SIGKILL:
            self._asked_to_end = self._asked_to_end or number
        self._popen.send_signal(number)

    def wait(self, deadline: float) -> None:
        """Returns when it has ended and said its last, or at the deadline."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(max(0.0, deadline - time.monotonic()))
            self._reader.join(1.0)  # a grandchild may hold the pipe open

    def _pass_on(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self.tail.append(line.rstrip("\n"))
            self.lost_a_peer |= bool(_LOST_A_PEER.search(line))
            # One write a line: those of two processes do not mix.
            sys.stdout.write(f"[{self.rank}] {self.tail[-1]}\n")
            sys.stdout.flush()


class Signals:
    """What the launcher was asked to do: signals that it passes on to all processes."""

    def __init__(self) -> None:
        self.first = 0  # the number of the first one
        self.deadline = float("inf")  # by which all are to have ended
        self._processes: list[Process] = []

    def pass_on_to(self, processes: list[Process]) -> None:
        """From now on passes signals on to these, to which more may be added."""
        self._processes = processes
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, _: object) -> None:
        left = _GRACE if self.first and number == signal.SIGINT else _SAVING
        self.first = self.first or number
        self.deadline = min(self.deadline, time.monotonic() + left)
        _send(self._processes, number)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parse(arguments)
    try:
        own = environments(os.environ, options.processes, options.devices)
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return USER_ERROR
    signals = Signals()
    with (
        tempfile.TemporaryDirectory() as joined,
        started(options.command, own, Path(joined), signals) as processes,
    ):
        complaint = watch(processes, Path(joined), options.wait, signals)
        end(processes)
    if complaint:
        print(f"launch: {complaint}", file=sys.stderr)
    code = summary([process.code for process in processes], complaint)
    if code == INTERRUPTED:
        print("launch: interrupted; the same command resumes", file=sys.stderr)
    return code


def environments(given: Mapping[str, str], count: int, devices: int | None) -> list[dict[str, str]]:
    """The environment of each process, which tells it what devices it has.

    No two have a GPU in common: JAX would open all it sees, and take most of their memory. All have
    as many, since a process is to hold an even part of the mesh; what is left over stays idle.

    Args:
      given: that of the launcher.
      count: how many processes.
      devices: virtual CPU devices of each; None: its share of the GPUs. Where there are none, that
        is left to the command.

    Raises:
      ValueError: there are GPUs, but fewer than processes.
    """
    common = {**given, "PYTHONUNBUFFERED": "1"}
    if devices:
        flag = f"--xla_force_host_platform_device_count={devices}"
        flags = f"{given.get('XLA_FLAGS', '')} {flag}".strip()
        return [common | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}] * count
    gpus = _gpus(given)
    if not gpus:
        return [common] * count
    each = len(gpus) // count
    if not each:
        raise ValueError(
            f"--processes={count}, but there are GPUs for {len(gpus)} only: start no more, or give "
            "--devices for virtual ones on the CPU"
        )
    shares = [gpus[rank * each : (rank + 1) * each] for rank in range(count)]
    return [common | {"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]


@contextlib.contextmanager
def started(
    command: Sequence[str],
    environments: Sequence[dict[str, str]],
    joined: Path,
    signals: Signals,
) -> Iterator[list[Process]]:
    """Starts the processes, which get every signal; none survives the end of the context.

    Args:
      command: what to run.
      environments: one a process.
      joined: an empty folder, in which process R makes a file named R as it joins the others.
      signals: passes them on.
    """
    place = [
        f"--config.parallel.coordinator=localhost:{_free_port()}",
        f"--config.parallel.processes={len(environments)}",
    ]
    processes: list[Process] = []
    signals.pass_on_to(processes)
    try:
        for rank, environment in enumerate(environments):
            own = [*command, *place, f"--config.parallel.process={rank}"]
            processes.append(Process(rank, own, environment | {JOINED: str(joined)}))
        if signals.first:  # it may have come before all were there
            _send(processes, signals.first)
        for process in processes:  # threads only now: forking beside them is not safe
            process.listen()
        yield processes
    finally:
        _send(processes, signal.SIGKILL)


def watch(processes: Sequence[Process], joined: Path, wait: float, signals: Signals) -> str:
    """Returns when all have ended well, or as soon as one has not.

    Args:
      processes: all of them.
      joined: the folder in which they leave their numbers.
      wait: seconds that they have to do so.
      signals: after one all have to end.

    Returns:
      What went wrong and with which process; "" if nothing did.
    """
    deadline = time.monotonic() + wait
    while running := [process for process in processes if process.code is None]:
        if time.monotonic() > signals.deadline:
            return _tell(running, f"did not end after {signal.Signals(signals.first).name}")
        if time.monotonic() > deadline:
            if missing := [p for p in running if not (joined / str(p.rank)).exists()]:
                return _tell(missing, f"did not come up within {wait:g} s")
            deadline = float("inf")
        if _failed(processes):
            return _blame(processes)
        time.sleep(_POLL)
    return _blame(processes) if _failed(processes) else ""


def end(processes: Sequence[Process]) -> None:
    """Ends those that still run: by SIGTERM, and if that does not help by SIGKILL."""
    _send(processes, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.wait(deadline)
    _send(processes, signal.SIGKILL)
    for process in processes:
        process.wait(time.monotonic() + _GRACE)


def summary(codes: Sequence[int | None], complaint: str) -> int:
    """One exit code for all."""
    if USER_ERROR in codes:
        return USER_ERROR
    if complaint:
        return 1
    return next((code for code in (INTERRUPTED, PREEMPTED) if code in codes), 0)


def _failed(processes: Sequence[Process]) -> list[Process]:
    fine = (None, 0, PREEMPTED, INTERRUPTED)
    return [process for process in processes if process.code not in fine]


def _blame(processes: Sequence[Process]) -> str:
    """Says what went wrong, once a process has failed: the first may not be the one to blame."""
    deadline = time.monotonic() + _SETTLE
    for process in _failed(processes):
        process.wait(deadline)
    if all(process.lost_a_peer for process in _failed(processes)):
        time.sleep(_SETTLE)  # they ended because of another, and so do all but that other
        if silent := [process for process in processes if process.code is None]:
            return _tell(silent, "no longer answers")
    # One that was killed, or failed by itself, comes before those that only lost it.
    culprit = min(_failed(processes), key=lambda p: (p.lost_a_peer, (p.code or 0) > 0, p.rank))
    code = culprit.code or 0
    what = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if code == -signal.SIGKILL:
        what += ", as the system does when memory runs out"
    return _tell([culprit], what)


def _tell(culprits: Sequence[Process], what: str) -> str:
    """What went wrong with some processes, and the last lines of each."""
    lines = []
    for process in culprits:
        lines.append(f"process {process.rank} {what}; its last lines:")
        lines += [f"    {line}" for line in list(process.tail) or ["(it said nothing)"]]
    return "\n".join(lines)


def _send(processes: Sequence[Process], number: int) -> None:
    for process in processes:
        process.send(number)


def _die_with_parent() -> None:
    """Called in the child: should the launcher be killed, the system kills the child."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _gpus(environment: Mapping[str, str]) -> list[str]:
    """NVIDIA's GPUs that the environment lets a process see, as CUDA_VISIBLE_DEVICES names them."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        named = environment["CUDA_VISIBLE_DEVICES"].split(",")
        return list(itertools.takewhile(_GPU.fullmatch, named))  # as CUDA does: -1 ends them
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    except OSError:
        return []
    found = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(i) for i in range(len(found))]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        usage="%(prog)s --processes N [--devices D] [--wait SECONDS] -- COMMAND ...",
        description=about,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument(
        "--devices", type=int, help="virtual CPU devices of each; without: its share of the GPUs"
    )
    parser.add_argument(
        "--wait", type=float, default=45.0, help="seconds that a process has to come up (45)"
    )
    parser.add_argument("command", nargs="+", help="what each of them runs, after --")
    options = parser.parse_args(arguments)
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
