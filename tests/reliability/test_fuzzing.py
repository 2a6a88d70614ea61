"""Files changed at random: each is refused in a line or read, within limits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("share", "least"), [(0.03, 90), pytest.param(3.0, 8000, marks=pytest.mark.reliability)]
)
def test_mutants_are_refused_or_read(outcome, share, least):
    """In a process of its own, which has limits, and which a crash may end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.fuzzing", str(share)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert sum(int(mutants) for _, mutants, *_ in rows) >= least
    for name, mutants, refused, same, different in rows:
        came = f"{refused} refused, {same} read the same, {different} read differently"
        outcome(f"changed at random: {name}", int(mutants), came)
