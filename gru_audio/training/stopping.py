"""Signals that end a command: Ctrl-C (SIGINT), and SIGTERM, which schedulers send before a kill.

While training can save its state, a signal sets a flag that the training loop checks
(`catch_signals`). At other times it raises `Stopped`. Neither is reliable: native code may run for
minutes, and Python drops an exception that is raised in a callback. So a small process,
`watcher.py`, receives every signal and ends this process after a grace period, or at once if Ctrl-C
is pressed again.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from gru_audio.training import watcher

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}  # 75: EX_TEMPFAIL of sysexits.h

_GRACE_SECONDS = 5  # from a signal to the end of a command that has nothing to save
_SAVING_SECONDS = 25  # the same if there is something to save; schedulers kill after 30 s


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end.

    This is not an `Exception`, so that libraries that catch all exceptions do not catch it.
    """

    def __init__(self, number: int, saved: bool = False):
        """Initialises with the signal's number, and with whether the state of training is saved."""
        super().__init__(number, saved)
        self.number, self.saved = signal.Signals(number), saved


class Stop:
    """The flag that a signal sets while training can save its state.

    Attributes:
      asked: number of the signal; 0: there was none.
      on_exit: called with that number if the process ends before the loop has seen the flag.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.on_exit: Callable[[int], None] = lambda number: None


class _Command:
    """The command that this process runs, and its reaction to signals."""

    def __init__(self) -> None:
        self.asked = 0
        # Whether a signal raises an exception. An import may turn it into another exception.
        self.cleans_up = False
        self.stop: Stop | None = None  # set while training can save its state
        self._wakeup = -1

    def begin(self) -> None:
        """Installs the signal handlers and starts the watcher."""
        for number in _signals():
            signal.signal(number, self._raise)
        show, drop = sys.excepthook, sys.unraisablehook

        def uncaught(kind: type[BaseException], error: BaseException, *rest: Any) -> None:
            if isinstance(error, KeyboardInterrupt):
                self.leave(error)
            show(kind, error, *rest)

        def dropped(problem: "sys.UnraisableHookArgs") -> None:
            if isinstance(problem.exc_value, KeyboardInterrupt):
                self.leave(problem.exc_value)
            drop(problem)

        sys.excepthook, sys.unraisablehook = uncaught, dropped
        reader, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", watcher.__file__, str(os.getpid())],
                stdin=reader,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C must not reach the watcher
                cwd="/",  # so that it does not prevent unmounting a disk
            )
            threading.Thread(target=self._obey, args=(process,), daemon=True).start()
        except (OSError, RuntimeError):  # too many processes: continue without a watcher
            os.close(self._wakeup)
            self._wakeup = -1
            return
        finally:
            os.close(reader)
        # The C part of a handler writes to this pipe at once; the Python part may have to wait.
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_forget)
        self.grace(_GRACE_SECONDS)

    def grace(self, seconds: int) -> None:
        """Sets the time from a future signal to the end of the process."""
        if self._wakeup >= 0:
            with contextlib.suppress(OSError):
                os.write(self._wakeup, bytes([watcher.GRACE + seconds]))

    def end(self, number: int) -> NoReturn:
        """Ends the process at once."""
        stop, message = self.stop, self._message(number)
        if stop is not None:
            with contextlib.suppress(Exception):
                stop.on_exit(number)
            message = "stopped; the same command resumes from the last checkpoint"
            if number == signal.SIGTERM:
                message = (
                    f"preempted: no step ended within {_SAVING_SECONDS} s; "
                    "the same command resumes from the last checkpoint"
                )
        _say(message)
        os._exit(EXIT_CODES[signal.Signals(number)])

    def leave(self, stopped: KeyboardInterrupt) -> NoReturn:
        """Ends the process after an uncaught `Stopped`.

        The interpreter's normal exit would free memory that native threads still use, and crash.
        """
        number, saved = signal.SIGINT, False
        if isinstance(stopped, Stopped):
            number, saved = stopped.number, stopped.saved
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            sys.stdout.flush()
        _say(self._message(number, saved))
        os._exit(EXIT_CODES[number])

    def _message(self, number: int, saved: bool = False) -> str:
        if number == signal.SIGTERM and resumes():
            return f"preempted{': all is saved' if saved else ''}; the same command resumes"
        what = "stopped" if number == signal.SIGINT else "stopped by SIGTERM"
        return f"{what}; the same command resumes" if resumes() else what

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if not self.cleans_up:
            self.leave(Stopped(number))
        again, self.asked = bool(self.asked), self.asked or number
        if not again:
            raise Stopped(number)
        if number == signal.SIGINT:
            self.end(self.asked)

    def _obey(self, process: "subprocess.Popen[bytes]") -> None:
        """Follows the messages of the watcher until it ends."""
        assert process.stdout is not None
        while message := process.stdout.read(1):
            number = message[0] % watcher.END
            if message[0] >= watcher.END:
                self.end(number)
            if self.stop is not None and number == signal.SIGINT:
                _say(
                    f"stopping after the current call, or in {_SAVING_SECONDS} s; "
                    "Ctrl-C again stops at once"
                )


_command: _Command | None = None


def begin(*, cleans_up: bool = False) -> None:
    """Makes signals end this process with a message and a code of `EXIT_CODES`.

    Args:
      cleans_up: whether signals raise `Stopped`, so that the command can clean up.
    """
    global _command
    if _command is None:
        _command = _Command()
        _command.begin()
    _command.cleans_up = cleans_up


def program() -> str:
    """Returns the module that runs as the program, such as "gru_audio.train"; "" if none does."""
    if sys.argv[:1] == ["-m"]:  # while Python imports it
        return sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else ""


def resumes() -> bool:
    """Returns whether the same command, started again, resumes."""
    return program() in ("gru_audio.train", "gru_audio.sweep")


@contextlib.contextmanager
def catch_signals() -> Iterator[Stop]:
    """Lets signals set `Stop.asked`, and gives the process time to save.

    Raises:
      Stopped: at the end, if there was a signal.
    """
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT and _command:
            _command.end(stop.asked)
        stop.asked = stop.asked or number

    before = {number: signal.signal(number, note) for number in _signals()}
    if _command:
        _command.stop = stop
        _command.grace(_SAVING_SECONDS)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _command:
            _command.stop = None
            _command.grace(_GRACE_SECONDS)
    if stop.asked:
        raise Stopped(stop.asked)


_before_fork = threading.local()


def _block() -> None:
    """Blocks signals until a forked process has restored the default handlers."""
    _before_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, EXIT_CODES)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before_fork.mask)


def _forget() -> None:
    """Restores the default handlers in a forked process."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.set_wakeup_fd(-1)
        for number in _signals():
            signal.signal(number, signal.SIG_DFL)
    _unblock()


def _signals() -> list[signal.Signals]:
    """Returns the signals that end a command. Background jobs of some shells ignore SIGINT."""
    return [number for number in EXIT_CODES if signal.getsignal(number) != signal.SIG_IGN]


def _say(message: str) -> None:
    """Prints to standard error without waiting for other threads and without interruption."""
    with contextlib.suppress(OSError):
        os.write(2, f"{message}\n".encode())
