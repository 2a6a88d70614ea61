"""Running the real commands, killing them, and comparing what they leave behind."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from gru_audio.training.checkpoint import load_model
from tests.tones import assert_same

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"seconds", "steps_per_second", "compile_seconds"}

EXPERIMENT = '''"""Tones: GRU against tanh RNN.

  python -m gru_audio.sweep --config experiments/tones.py --workdir runs/tones
"""

from gru_audio.sweeping.sweep import Sweep
from tests.tones import NOISE, tiny


def get_config():
    return tiny({**CHANGES})


def get_sweep(config):
    arms = {"GRU": {}, "RNN": {"model.cell": "rnn"}}
    return Sweep(arms, replicates=[{"seed": 0}, {"seed": 1}])
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
    """Runs a command to its end and expects its exit code."""
    ended = subprocess.run(
        arguments(command, *rest),
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
    return {name: value for name, value in record.items() if name not in TIMES}


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


@dataclass
class Killer:
    """Starts a command again and again, and kills it at moments spread over its length.

    Attributes:
      seconds: the length of an uninterrupted run.
      phases: what the workdir said at each kill.
    """

    environment: Mapping[str, str]
    command: Sequence[Any]
    seconds: float
    rng: np.random.Generator
    phases: list[str] = field(default_factory=list)

    def kill(self, workdir: Path, share: float) -> bool:
        """One start, killed after about this share of a run's length; whether it was in time."""
        with running(self.environment, *self.command, "--workdir", workdir) as process:
            try:
                process.wait(timeout=share * self.seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.phases.append(phase(workdir))
                return True
        assert process.returncode == 0
        return False

    def shares(self, count: int) -> np.ndarray:
        """When to kill: random moments, one in each of `count` equal parts of a run, shuffled."""
        return self.rng.permutation((np.arange(count) + self.rng.random(count)) / count)


def phase(workdir: Path) -> str:
    """How far a sweep has come that was killed."""
    if not list(workdir.glob("groups/*/metrics/*.jsonl")):
        return "before the first checkpoint"
    results, runs = (list(workdir.glob(f"runs/*{end}")) for end in ("/result.json", ""))
    if (workdir / "report").exists():
        return "reporting"
    if len(results) < len(runs):
        return "finishing"
    return "training"


def timed(environment: Mapping[str, str], *command: Any) -> float:
    """Runs a command to its end; its wall time in seconds."""
    began = time.monotonic()
    run(environment, *command)
    return time.monotonic() - began
