r"""Starts a command as several processes on this machine, and watches them.

  python launch/local.py --processes 4 --devices 2 -- \
      python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/digits

Each process runs the command with additional flags that connect the processes. Each line that a
process prints is shown with the number of the process before it. With --devices the processes run
on the CPU. Otherwise they share the machine's GPUs, if there are any. If a process fails, is
killed, hangs or does not start, the others are ended within a minute, and a message names it. Exit
codes: 0 success; 75 preempted (everything is saved, the same command resumes); 2 the command is
wrong; 130 interrupted; 1 anything else.
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
JOINED = "GRU_AUDIO_JOINED"  # a folder; a process creates a file there when it joins the others
# Messages of JAX and its collectives when another process is gone, before they abort or raise.
_LOST_A_PEER = re.compile(
    "JAX distributed service detected fatal errors|error from coordination service"
    "|Connection (closed|reset) by peer|Socket closed|another task died"
)

_GPU = re.compile(r"\d+|(GPU|MIG)-.+")  # an entry of CUDA_VISIBLE_DEVICES
_POLL = 0.05  # seconds
_SETTLE = 3.0  # seconds until all other processes have noticed a hanging one
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL, for processes that cannot continue anyway
_SAVING = 40.0  # seconds to save and end after a signal; processes need 25
_TAIL = 40  # lines of a process that are kept for messages
_PR_SET_PDEATHSIG = 1  # Linux


class Process:
    """One of the processes. Each line of its output is printed with its number before it."""

    def __init__(self, rank: int, command: Sequence[str], environment: dict[str, str]):
        self.rank = rank
        self._joined = Path(environment[JOINED]) / str(rank)
        self.lost_a_peer = False  # whether its output reports the loss of another process
        self._signal = 0  # the first signal, other than SIGKILL, that it got
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL)
        self._popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # the terminal does not send Ctrl-C to it directly
            preexec_fn=_die_with_parent,
        )
        self._reader = threading.Thread(target=self._print_output, daemon=True)

    def start_reader(self) -> None:
        """Starts to print its output."""
        self._reader.start()

    @property
    def code(self) -> int | None:
        """Its exit code; the negative number of the signal that killed it; None while it runs.

        After a signal from the launcher, an exit code may be a consequence of the signal. A process
        that has not joined the others may end with any code: Python exits with 1 while it loads
        `site`. A process that has joined may lose the others, which end before it.
        """
        code = self._popen.poll()
        if code is None or not self._signal:
            return code
        excused = self.lost_a_peer or (code != USER_ERROR and not self._joined.exists())
        if code == -self._signal or (code and excused):
            return INTERRUPTED if self._signal == signal.SIGINT else PREEMPTED
        return code

    def send(self, number: int) -> None:
        """Sends a signal, if the process still runs."""
        if number != signal.SIGKILL:
            self._signal = self._signal or number
        self._popen.send_signal(number)

    def wait(self, deadline: float) -> None:
        """Waits until the process has ended and its output is printed, or until the deadline."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(max(0.0, deadline - time.monotonic()))
            self._reader.join(1.0)  # a grandchild may keep the pipe open

    def _print_output(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self.tail.append(line.rstrip("\n"))
            self.lost_a_peer |= bool(_LOST_A_PEER.search(line))
            # One write per line, so that lines of two processes do not mix.
            sys.stdout.write(f"[{self.rank}] {self.tail[-1]}\n")
            sys.stdout.flush()


class Signals:
    """The signals that the launcher got and forwards to all processes."""

    def __init__(self) -> None:
        self.first = 0  # number of the first signal; 0: none yet
        self.deadline = float("inf")  # time by which all processes must have ended
        self._processes: list[Process] = []

    def forward_to(self, processes: list[Process]) -> None:
        """Starts to forward signals to the processes in the list, which may grow."""
        self._processes = processes
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._forward)

    def _forward(self, number: int, _: object) -> None:
        remaining = _GRACE if self.first and number == signal.SIGINT else _SAVING
        self.first = self.first or number
        self.deadline = min(self.deadline, time.monotonic() + remaining)
        _send(self._processes, number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parse(arguments)
    try:
        variables = environments(os.environ, options.processes, options.devices)
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return USER_ERROR
    signals = Signals()
    with (
        tempfile.TemporaryDirectory() as joined,
        started(options.command, variables, Path(joined), signals) as processes,
    ):
        failure = watch(processes, Path(joined), options.wait, signals)
        end(processes)
    if failure:
        print(f"launch: {failure}", file=sys.stderr)
    code = exit_code([process.code for process in processes], failure)
    if code == INTERRUPTED:
        print("launch: interrupted; the same command resumes", file=sys.stderr)
    return code


def environments(base: Mapping[str, str], count: int, devices: int | None) -> list[dict[str, str]]:
    """Returns the environment variables of each process, which select its devices.

    Processes share no GPU, because JAX opens all visible GPUs and allocates most of their memory.
    All processes get the same number of GPUs, because each must hold an equal part of the mesh.
    Remaining GPUs stay idle.

    Args:
      base: the environment of the launcher.
      count: number of processes.
      devices: virtual CPU devices per process; None: an equal share of the GPUs. Without GPUs the
        command chooses the devices.

    Raises:
      ValueError: there are GPUs, but fewer than processes.
    """
    common = {**base, "PYTHONUNBUFFERED": "1"}
    if devices:
        flag = f"--xla_force_host_platform_device_count={devices}"
        flags = f"{base.get('XLA_FLAGS', '')} {flag}".strip()
        return [common | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}] * count
    gpus = _gpus(base)
    if not gpus:
        return [common] * count
    share = len(gpus) // count
    if not share:
        raise ValueError(
            f"--processes={count} is more than the number of GPUs, {len(gpus)}: lower it, or set "
            "--devices for virtual CPU devices"
        )
    shares = [gpus[rank * share : (rank + 1) * share] for rank in range(count)]
    return [common | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} for gpus in shares]


@contextlib.contextmanager
def started(
    command: Sequence[str],
    environments: Sequence[dict[str, str]],
    joined: Path,
    signals: Signals,
) -> Iterator[list[Process]]:
    """Starts the processes; kills those that still run at the end of the context.

    Args:
      command: the command of each process.
      environments: environment variables, one dictionary per process.
      joined: an empty folder. Process R creates a file named R there when it joins the others.
      signals: forwards signals to the processes.
    """
    flags = [
        f"--config.parallel.coordinator=localhost:{_free_port()}",
        f"--config.parallel.processes={len(environments)}",
    ]
    processes: list[Process] = []
    signals.forward_to(processes)
    try:
        for rank, environment in enumerate(environments):
            arguments = [*command, *flags, f"--config.parallel.process={rank}"]
            processes.append(Process(rank, arguments, environment | {JOINED: str(joined)}))
        if signals.first:  # the signal may have come before all processes were in the list
            _send(processes, signals.first)
        for process in processes:  # threads start after all forks, because forking them is unsafe
            process.start_reader()
        yield processes
    finally:
        _send(processes, signal.SIGKILL)


def watch(processes: Sequence[Process], joined: Path, wait: float, signals: Signals) -> str:
    """Waits until all processes have succeeded or one has failed.

    Args:
      processes: all processes.
      joined: the folder in which each process creates a file when it joins.
      wait: seconds within which all processes must join.
      signals: after a signal, all processes must end.

    Returns:
      A description of the failure and the process; "" if there was none.
    """
    deadline = time.monotonic() + wait
    while running := [process for process in processes if process.code is None]:
        if time.monotonic() > signals.deadline:
            return _describe(running, f"did not end after {signal.Signals(signals.first).name}")
        if time.monotonic() > deadline:
            if missing := [p for p in running if not (joined / str(p.rank)).exists()]:
                return _describe(missing, f"did not start within {wait:g} s")
            deadline = float("inf")
        if _failed(processes):
            return _cause(processes)
        time.sleep(_POLL)
    return _cause(processes) if _failed(processes) else ""


def end(processes: Sequence[Process]) -> None:
    """Ends the processes that still run, by SIGTERM and then by SIGKILL."""
    _send(processes, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.wait(deadline)
    _send(processes, signal.SIGKILL)
    for process in processes:
        process.wait(time.monotonic() + _GRACE)


def exit_code(codes: Sequence[int | None], failure: str) -> int:
    """Returns the launcher's exit code, from those of all processes."""
    if USER_ERROR in codes:
        return USER_ERROR
    if failure:
        return 1
    return next((code for code in (INTERRUPTED, PREEMPTED) if code in codes), 0)


def _failed(processes: Sequence[Process]) -> list[Process]:
    allowed = (None, 0, PREEMPTED, INTERRUPTED)
    return [process for process in processes if process.code not in allowed]


def _cause(processes: Sequence[Process]) -> str:
    """Describes the cause, once a process has failed: the first to end may be a consequence."""
    deadline = time.monotonic() + _SETTLE
    for process in _failed(processes):
        process.wait(deadline)
    if all(process.lost_a_peer for process in _failed(processes)):
        time.sleep(_SETTLE)  # now all processes have ended, except the one that hangs
        if hanging := [process for process in processes if process.code is None]:
            return _describe(hanging, "no longer responds")
    # A process that was killed or failed by itself comes before those that only lost it.
    culprit = min(_failed(processes), key=lambda p: (p.lost_a_peer, (p.code or 0) > 0, p.rank))
    code = culprit.code or 0
    event = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if code == -signal.SIGKILL:
        event += ", which the system does when memory runs out"
    return _describe([culprit], event)


def _describe(processes: Sequence[Process], event: str) -> str:
    """Returns a message about some processes, with the last lines of each."""
    lines = []
    for process in processes:
        lines.append(f"process {process.rank} {event}; its last lines:")
        lines += [f"    {line}" for line in list(process.tail) or ["(no output)"]]
    return "\n".join(lines)


def _send(processes: Sequence[Process], number: int) -> None:
    for process in processes:
        process.send(number)


def _die_with_parent() -> None:
    """Makes Linux kill this child process when the launcher is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _gpus(environment: Mapping[str, str]) -> list[str]:
    """Returns the visible NVIDIA GPUs, in the form of CUDA_VISIBLE_DEVICES."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        entries = environment["CUDA_VISIBLE_DEVICES"].split(",")
        return list(itertools.takewhile(_GPU.fullmatch, entries))  # as in CUDA, -1 ends the list
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    except OSError:
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(i) for i in range(count)]


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
    parser.add_argument("--processes", type=int, required=True, help="number of processes")
    parser.add_argument(
        "--devices", type=int, help="virtual CPU devices per process; default: a share of the GPUs"
    )
    parser.add_argument(
        "--wait", type=float, default=45.0, help="seconds within which a process must start (45)"
    )
    parser.add_argument("command", nargs="+", help="the command of each process, after --")
    options = parser.parse_args(arguments)
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
