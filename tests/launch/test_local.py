"""The launcher, with real processes that fail in different ways."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("program.py")
FOREVER = 10**9  # rounds


def start(processes, *program, flags=(), code=None, **variables) -> subprocess.Popen:
    """Starts the launcher with a program, on the CPU unless the variables select other devices."""
    device_variables = ("XLA_FLAGS", "CUDA_VISIBLE_DEVICES")
    environment = {k: v for k, v in os.environ.items() if k not in device_variables}
    environment |= variables or {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, code or PROGRAM, *program]
    return subprocess.Popen(
        [sys.executable, ROOT / "launch" / "local.py", f"--processes={processes}", *flags, "--"]
        + [str(argument) for argument in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # & ignores SIGINT
    )


def ended(launcher: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    out, err = launcher.communicate(timeout=60)  # the documented limit of the launcher
    return launcher.returncode, out, err


def test_all_end_well():
    code, out, err = ended(start(4, 20, 0, "none", flags=["--devices=2"]))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for rank in range(4):
        assert f"[{rank}] 4 processes, 8 devices" in lines


# By fault: the reported event, and a part of the last lines.
HANGING = {"SIGSTOP": ("no longer responds", "devices")}
FAILING = {
    "exits": ("ended with code 2", "no such data set"),
    "fails to import": ("ended with code 1", "ModuleNotFoundError"),
    "MemoryError": ("ended with code 1", "MemoryError"),
    "SIGKILL": ("was killed by SIGKILL, which the system does when memory runs out", "devices"),
}
FAULTS = [
    *((2, rank, fault) for fault in FAILING for rank in range(2)),
    (4, 1, "SIGKILL"),
    *(
        pytest.param(*case, marks=pytest.mark.reliability)
        for case in ((2, 0, "SIGSTOP"), (2, 1, "SIGSTOP"), (4, 1, "SIGSTOP"))
    ),
]


@pytest.mark.parametrize(("processes", "rank", "fault"), FAULTS)
def test_one_ends_badly_and_the_others_are_ended(processes, rank, fault):
    found, _, err = ended(start(processes, FOREVER, rank, fault, flags=["--devices=1"]))
    assert found == (2 if fault == "exits" else 1)
    event, last = (FAILING | HANGING)[fault]
    assert err.startswith(f"launch: process {rank} {event}; its last lines:\n")
    assert last in err
    assert err.count("its last lines") == 1  # no other process is named


@pytest.fixture
def shows_devices(tmp_path):
    """A program that prints the variables that select devices."""
    program, names = tmp_path / "program.py", ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES")
    program.write_text(f"import os\nprint(*[os.environ.get(name) for name in {names}])\n")
    return program


GPUS = {"JAX_PLATFORMS": "", "CUDA_VISIBLE_DEVICES": "3,5,GPU-1f,0,7,-1,9"}


@pytest.mark.parametrize(
    ("processes", "flags", "expected"),
    [
        (2, [], [" 3,5", " GPU-1f,0"]),
        (5, [], [" 3", " 5", " GPU-1f", " 0", " 7"]),
        (2, ["--devices=1"], ["cpu 3,5,GPU-1f,0,7,-1,9"] * 2),
    ],
)
def test_processes_share_no_gpu(shows_devices, processes, flags, expected):
    code, out, _ = ended(start(processes, code=shows_devices, flags=flags, **GPUS))
    assert code == 0
    assert sorted(out.splitlines()) == [f"[{rank}] {gpus}" for rank, gpus in enumerate(expected)]


def test_fewer_gpus_than_processes_are_refused(shows_devices):
    code, out, err = ended(start(6, code=shows_devices, **GPUS))
    assert (code, out) == (2, "")
    assert "--processes=6 is more than the number of GPUs, 5" in err


def test_gpus_are_counted_where_the_driver_lists_them(shows_devices, tmp_path):
    listed = ["GPU 0: NVIDIA H200 (UUID: GPU-0a)", "  MIG 1g.18gb Device 0: (UUID: MIG-0b)"]
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "\n".join([f"#!{sys.executable}", *(f"print({line!r})" for line in listed * 2)])
    )
    tool.chmod(0o755)
    at = {"JAX_PLATFORMS": "", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    _, out, _ = ended(start(2, code=shows_devices, **at))
    assert sorted(out.splitlines()) == ["[0]  0", "[1]  1"]


@pytest.mark.parametrize("rank", range(2))
def test_one_never_comes_up(rank):
    began = time.monotonic()
    code, _, err = ended(start(2, FOREVER, rank, "hangs", flags=["--wait=8"]))
    assert code == 1
    message = f"launch: process {rank} did not start within 8 s; its last lines:"
    assert err.splitlines() == [message, "    waits for a disk"]
    assert time.monotonic() - began < 8 + 15


def wait_for(launcher: subprocess.Popen, text: str, times: int) -> None:
    """Reads the launcher's output until `times` lines contain the text."""
    while times:
        line = launcher.stdout.readline()
        assert line, "the launcher has ended"
        times -= text in line


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_reaches_all_processes(number, code):
    launcher = start(2, FOREVER, 0, "none")
    wait_for(launcher, "2 processes", times=2)
    launcher.send_signal(number)
    found, _, err = ended(launcher)
    assert found == code
    assert ("resumes" in err) == (number == signal.SIGINT)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_before_the_processes_have_joined(number, code):
    launcher = start(2, FOREVER, 0, "hangs")
    wait_for(launcher, "waits for a disk", times=1)
    launcher.send_signal(number)
    assert ended(launcher)[0] == code


def test_a_signal_while_python_loads(tmp_path):
    """Python exits with code 1 if it gets a SIGINT while it loads `site`."""
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda number, frame: sys.exit(1))\n"
        "print('loads', flush=True)\n"
        "time.sleep(600)\n"
    )
    launcher = start(2, code=program)
    wait_for(launcher, "loads", times=2)
    launcher.send_signal(signal.SIGINT)
    assert ended(launcher)[0] == 130


def test_a_second_ctrl_c_ends_processes_that_ignore_the_first(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(600)\n"
    )
    launcher = start(2, code=program)
    wait_for(launcher, "deaf", times=2)
    for _ in range(2):
        launcher.send_signal(signal.SIGINT)
        time.sleep(0.3)
    code, _, err = ended(launcher)
    assert code == 1
    assert "process 0 did not end after SIGINT" in err
    assert "process 1 did not end after SIGINT" in err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children")
def test_no_process_outlives_a_killed_launcher(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import os, time\nprint(os.getpid())\ntime.sleep(600)\n")
    launcher = start(2, code=program)
    pids = [int(launcher.stdout.readline().split()[-1]) for _ in range(2)]
    launcher.kill()
    launcher.communicate()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_command_is_needed():
    launcher = ROOT / "launch" / "local.py"
    refused = subprocess.run(
        [sys.executable, launcher, "--processes=2"], capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2
    assert "command" in refused.stderr
