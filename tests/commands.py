"""Running the real commands, killing them, and comparing what they leave behind."""

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from gru_audio.inference.trained_model import load_model
from tests.tones import assert_same

ROOT = Path(__file__).resolve().parents[1]
CIRCUMSTANCES = {
    *("seconds", "time", "cpu_seconds", "steps_per_second", "compile_seconds", "environment"),
    *("flops_per_second", "mfu", "bytes_per_second", "bandwidth_share"),
}

EXPERIMENT = '''"""Tones: GRU against tanh RNN.

  python -m gru_audio.sweep --config experiments/tones.py --workdir runs/tones
"""

from gru_audio.sweeps.sweep import Sweep
from tests.tones import NOISE, tiny


def get_config():
    return tiny({**CHANGES})


def get_sweep(config):
    variants = {"GRU": {}, "RNN": {"model.cell": "rnn"}}
    return Sweep(variants, replicates=[{"seed": 0}, {"seed": 1}])
'''


def write_experiment(path: Path, changes: str) -> Path:
    """An experiment on the tones; `changes` is Python: "**NOISE, 'train.steps': 7"."""
    path.write_text(EXPERIMENT.replace("**CHANGES", changes))
    return path


def arguments(command: str, *rest: Any) -> list[str]:
    return [sys.executable, "-m", f"gru_audio.{command}", *map(str, rest)]


def run(
    environment: Mapping[str, str], command: str, *rest: Any, code: int = 0
) -> subprocess.CompletedProcess:
    """Runs a command of the package to its end and expects its exit code."""
    return run_module(environment, f"gru_audio.{command}", *rest, code=code)


def run_module(
    environment: Mapping[str, str], module: str, *rest: Any, code: int = 0
) -> subprocess.CompletedProcess:
    """The same for any module that `python -m` runs."""
    ended = subprocess.run(
        [sys.executable, "-m", module, *map(str, rest)],
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == code, f"{ended.args}\n{ended.stdout}\n{ended.stderr}"
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


@contextlib.contextmanager
def running(environment: Mapping[str, str], command: str, *rest: Any):
    """A command that runs, and is killed in the end if it still does."""
    process = subprocess.Popen(
        arguments(command, *rest),
        cwd=ROOT,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def leavings(workdir: Path) -> dict[str, Any]:
    """All that a sweep leaves behind which must not depend on kills: everything but wall times."""
    found: dict[str, Any] = {}
    for folder in sorted((workdir / "runs").iterdir()):
        arrays, description = load_model(epath.Path(folder / "model"))
        with np.load(folder / "predictions" / "test.npz") as predictions:
            found[folder.name] = {
                "model": arrays,
                "description": {k: v for k, v in description.items() if k != "about"},
                "predictions": dict(predictions),
                "metrics": [
                    timeless(json.loads(line)) for line in (folder / "metrics.jsonl").open()
                ],
                "result": timeless(json.loads((folder / "result.json").read_text())),
                "config": json.loads((folder / "config.json").read_text()),
            }
    return found


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in CIRCUMSTANCES}


def assert_same_leavings(workdir: Path, expected: Mapping[str, Any]) -> None:
    """To the bit. Nothing half-written may be left either."""
    found = leavings(workdir)
    assert found.keys() == expected.keys()
    for name, its in found.items():
        for part in ("model", "predictions"):
            assert_same(its[part], expected[name][part])
        for part in ("metrics", "result", "description", "config"):
            assert its[part] == expected[name][part], (name, part)
    names = [path.name for path in workdir.rglob("*")]
    assert not [name for name in names if "tmp" in name or ".part" in name]


@dataclass(frozen=True)
class Killed:
    """A command that is killed and resumed, again and again, until it ends by itself.

    Attributes:
      command: it and its flags, save the workdir.
      whole: what it leaves behind when left in peace.
      mean_seconds: between its taking the workdir and its death.
    """

    environment: Mapping[str, str]
    command: Sequence[Any]
    whole: Mapping[str, Any]
    mean_seconds: float

    def times(self, kills: int, folder: Path, seed: int) -> list[str]:
        """Kills it so many times; every workdir must end up the same as the undisturbed one.

        Returns:
          Where the kills fell.
        """
        rng, phases = np.random.default_rng(seed), []
        for i in itertools.count():
            workdir, fell = folder / f"killed{seed}_{i}", "not yet"
            while fell and len(phases) < kills:
                if fell := self.once(workdir, rng):
                    phases.append(fell)
            if fell:
                run(self.environment, *self.command, "--workdir", workdir)
            assert_same_leavings(workdir, self.whole)
            if len(phases) == kills:
                break
        return phases

    def once(self, workdir: Path, rng: np.random.Generator) -> str:
        """One start and one kill at a random moment: where it fell, "" if the command ended."""
        awaited = rng.choice(["", "saving", "finishing"], p=[0.6, 0.25, 0.15])  # the last are short
        with running(self.environment, *self.command, "--workdir", workdir) as process:
            lock = workdir / "lock"
            wait(process, lambda: lock.exists() and str(process.pid) in lock.read_text())
            moment = time.monotonic() + rng.exponential(self.mean_seconds)
            wait(process, lambda: time.monotonic() > moment)
            if awaited:
                wait(process, lambda: phase(workdir) == awaited)
            process.kill()
            if process.wait() == 0:
                return ""
            assert process.returncode == -signal.SIGKILL
        return phase(workdir)


def wait(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Returns when the condition holds or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.002)


def reading_only(environment: Mapping[str, str]) -> dict[str, str]:
    """With a compilation cache that is only read: a kill would leave a torn entry in it."""
    return {**environment, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}


def phase(workdir: Path) -> str:
    """How far a sweep has come that was killed."""
    if list(workdir.glob("groups/*/checkpoints/*tmp*")):
        return "saving"
    if not list(workdir.glob("groups/*/metrics/*.jsonl")):
        return "before the first checkpoint"
    results, runs = (list(workdir.glob(f"runs/*{end}")) for end in ("/result.json", ""))
    if len(results) < len(runs):
        return "finishing"
    return "reporting" if (workdir / "report").exists() else "training"
