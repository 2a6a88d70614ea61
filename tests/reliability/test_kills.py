"""A sweep with everything random in it, killed at any moment."""

import collections
import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.commands import (
    Killed,
    assert_same_leavings,
    leavings,
    reading_only,
    run,
    write_experiment,
)

KILLS, AT_ONCE = 50, 2  # the second: sweeps beside each other, since a start is one core's work

CHANGES = (
    "**NOISE, 'train.steps': 200, 'train.log_every': 7, 'train.eval_every': 30, "
    "'checkpoint.every_steps': 10, 'parallel.member': 0"
)


@pytest.mark.reliability
def test_killed_fifty_times_and_resumed_to_the_same_bits(environment, tmp_path, outcome):
    command = ["sweep", "--config", write_experiment(tmp_path / "tones.py", CHANGES)]
    run(environment, *command, "--workdir", tmp_path / "whole")
    whole = leavings(tmp_path / "whole")

    # The next ones find every program compiled, also those that only a resumed run has.
    killed = Killed(reading_only(environment), command, whole, mean_seconds=4)
    killed.once(tmp_path / "warm", np.random.default_rng(0))
    run(environment, *command, "--workdir", tmp_path / "warm")
    assert_same_leavings(tmp_path / "warm", whole)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        kill = functools.partial(killed.times, KILLS // AT_ONCE, tmp_path)
        phases = [phase for fell in pool.map(kill, range(AT_ONCE)) for phase in fell]
    fell = collections.Counter(phases)
    assert {"before the first checkpoint", "training", "saving", "finishing"} <= set(fell)
    where = ", ".join(f"{count} {phase}" for phase, count in fell.most_common())
    outcome(f"SIGKILL of a sweep ({where})", KILLS, "the same bits as the sweep left in peace")
