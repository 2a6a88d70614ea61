"""Ctrl-C and SIGTERM: a message and an exit code, in time, whatever the process is doing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gru_audio.training.stopping import Stopped, catch_signals
from tests.commands import ROOT, arguments, assert_same_leavings, leavings, run, write_experiment

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
both = pytest.mark.parametrize("number", CODES)

# What a command may be doing. Each says that it is ready, and then takes forever.
PREPARE = """
import contextlib, ctypes, gc, hashlib, os, signal, sys, time
from gru_audio.training import stopping
stopping._GRACE_SECONDS = stopping._SAVING_SECONDS = 1
stopping.begin(cleans_up=True)
def ready():
    print("ready", flush=True)
def native():  # as compiling is; other threads go on
    ready(); hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
def native_alone():  # PyDLL keeps the interpreter to itself, and nothing interrupts a mutex
    mutex = ctypes.create_string_buffer(64)
    ready(); [ctypes.PyDLL(None).pthread_mutex_lock(mutex) for _ in range(2)]
"""
IMPORTS = """
stopping.begin()
try:
    ready(); time.sleep(600)
except BaseException as error:
    raise ImportError("as NumPy makes of it") from error
"""
WAITS = "ready(); time.sleep(600)"
IN_A_CALLBACK = """
def callback(phase, info):
    gc.callbacks.clear(); ready(); time.sleep(600)
gc.callbacks.append(callback)
gc.collect()
while True: pass
"""
CATCHES_ALL = """
ready()
while True:
    try: time.sleep(600)
    except BaseException: pass
"""
SAVES = """
with stopping.catch_signals() as stop:
    stop.on_exit = lambda number: print("last words", number, flush=True)
    {what}
"""


def stopped(code, *numbers, within):
    """Exit code, output and errors of a program that gets signals, each half a second later."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE + code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # it says so a moment before
        began = time.monotonic()
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.5)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < within
    finally:
        process.kill()
    return process.returncode, out, err


@both
@pytest.mark.parametrize("code", [IMPORTS, WAITS, IN_A_CALLBACK, CATCHES_ALL, "native()"])
def test_a_command_ends_with_one_line(code, number):
    """At once where Python looks, after the grace where the exception is dropped or waits."""
    said = "stopped\n" if number == signal.SIGINT else "stopped by SIGTERM\n"
    assert stopped(code, number, within=25) == (CODES[number], "", said)


@both
def test_what_holds_the_interpreter_is_killed(number):
    code, _, err = stopped("native_alone()", number, within=25)
    assert (code, err[:7]) == (-signal.SIGKILL, "killed:")


@both
def test_what_cannot_save_in_time_ends_after_its_last_words(number):
    code, out, err = stopped(SAVES.format(what="native()"), number, within=25)
    assert (code, out) == (CODES[number], f"last words {number}\n")
    assert "the same command resumes from the last checkpoint" in err


def test_a_second_ctrl_c_ends_at_once():
    code = "stopping._SAVING_SECONDS = 60\n" + SAVES
    for what in ("native()", WAITS):
        found, out, _ = stopped(code.format(what=what), signal.SIGINT, signal.SIGINT, within=25)
        assert (found, out) == (130, f"last words {signal.SIGINT}\n")


def test_a_signal_that_nobody_looked_at_is_not_lost():
    code = SAVES.format(what="ready(); signal.sigtimedwait([], 1.0)") + WAITS
    assert stopped(code, signal.SIGINT, within=25)[0] == 130


def test_signals_of_a_forked_child_are_its_own():
    code = """
child = os.fork()
if not child: time.sleep(600)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), flush=True)
time.sleep(6)  # longer than the grace
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGTERM}\n", "")


@both
def test_a_flag_is_up_while_something_is_to_be_saved(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as raised, catch_signals() as stop:
        assert not stop.asked
        signal.raise_signal(number)
        assert stop.asked == number
    assert raised.value.number == number
    assert signal.getsignal(number) is before


@both
@pytest.mark.parametrize("command", ["predict", "report"])
def test_commands_are_stopped_while_they_import(command, number):
    process = subprocess.Popen(arguments(command), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():  # it starts a process as soon as it heeds signals
        time.sleep(0.001)
    time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == CODES[number]
    assert err == ("stopped\n" if number == signal.SIGINT else "stopped by SIGTERM\n")


@both
def test_prepare_promises_nothing_and_leaves_nothing(tmp_path, number):
    process = subprocess.Popen(
        arguments("prepare", "adding_600", "--data_dir", tmp_path),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    home = tmp_path / "adding_600"
    while not list(home.glob("incomplete*/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == CODES[number], err
    assert err == ("stopped\n" if number == signal.SIGINT else "stopped by SIGTERM\n")
    assert [path.name for path in home.iterdir()] == [".lock"]


@pytest.fixture(scope="module")
def whole(environment, tmp_path_factory):
    """An experiment, and what it leaves behind when nobody stops it."""
    folder = tmp_path_factory.mktemp("whole")
    changes = "'train.steps': 600, 'train.eval_every': 100, 'parallel.call_seconds': 0.0"
    experiment = write_experiment(folder / "tones.py", changes)
    run(environment, "train", "--config", experiment, "--workdir", folder / "workdir")
    return experiment, leavings(folder / "workdir")


@pytest.mark.reliability
@pytest.mark.parametrize("delay", [0.2, 2.0])  # into reading, compiling, the first steps
@both
def test_a_run_that_is_stopped_resumes_to_the_same_bits(
    environment, whole, tmp_path, number, delay
):
    experiment, expected = whole
    flags = ["--config", experiment, "--workdir", tmp_path]
    process = subprocess.Popen(
        arguments("train", *flags), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    said = ""
    while "compiling" not in said:
        said = process.stderr.readline()
    time.sleep(delay)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == CODES[number], err
    assert time.monotonic() - began < 30
    preempted = "preempted: all is saved; the same command resumes"
    last = "stopped; the same command resumes" if number == signal.SIGINT else preempted
    assert err.splitlines()[-1] == last
    assert list(tmp_path.glob("groups/*/checkpoints/*"))
    shown = run(environment, "sweep", "--status", tmp_path).stdout
    assert "1 run: 1 " + ("stopped" if number == signal.SIGINT else "waiting") in shown
    again = run(environment, "train", *flags)
    assert "resumes at step" in again.stderr
    assert_same_leavings(tmp_path, expected)
