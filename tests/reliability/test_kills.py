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
from tests.inference.test_generator import SOUND
from tests.rolls import NEXT_STEP
from tests.songs import SONGS

AT_ONCE = 2  # sweeps beside each other, since a start is one core's work

OFTEN = (
    "'train.steps': 200, 'train.log_every': 7, 'train.eval_every': 30, "
    "'checkpoint.every_steps': 10, 'parallel.member': 0"
)
OF_SOUND = f"**NOISE, {OFTEN}"
OF_FRAMES = f"**{dict(NEXT_STEP)}, 'train.weight_noise': 0.05, 'model.dropout': 0.2, {OFTEN}"
OF_EVENTS = (
    "**NOISE, 'data.background': '', 'augment.background': 0.0, 'augment.mixup': 0.0, "
    f"**{dict(SONGS)}, {OFTEN}"
)
OF_SAMPLES = f"**{SOUND}, 'model.dropout': 0.2, 'train.ema_decay': 0.9, {OFTEN}"


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("what", "changes", "kills"),
    [
        ("a sweep", OF_SOUND, 50),
        ("a sweep on piano rolls", OF_FRAMES, 10),
        ("a sweep on sound events", OF_EVENTS, 10),
        ("a sweep on samples of sound", OF_SAMPLES, 10),
    ],
    ids=["sound", "frames", "events", "samples"],
)
@pytest.mark.usefixtures("rolls", "songs")
def test_killed_again_and_again_and_resumed_to_the_same_bits(
    environment, tmp_path, outcome, what, changes, kills
):
    command = ["sweep", "--config", write_experiment(tmp_path / "tones.py", changes)]
    run(environment, *command, "--workdir", tmp_path / "whole")
    whole = leavings(tmp_path / "whole")

    # The next ones find every program compiled, also those that only a resumed run has.
    killed = Killed(reading_only(environment), command, whole, mean_seconds=4)
    killed.once(tmp_path / "warm", np.random.default_rng(0))
    run(environment, *command, "--workdir", tmp_path / "warm")
    assert_same_leavings(tmp_path / "warm", whole)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        kill = functools.partial(killed.times, kills // AT_ONCE, tmp_path)
        phases = [phase for fell in pool.map(kill, range(AT_ONCE)) for phase in fell]
    fell = collections.Counter(phases)
    if kills >= 50:  # fewer may miss what is short
        assert {"before the first checkpoint", "training", "saving", "finishing"} <= set(fell)
    where = ", ".join(f"{count} {phase}" for phase, count in fell.most_common())
    outcome(f"SIGKILL of {what} ({where})", kills, "the same bits as the sweep that was not killed")
