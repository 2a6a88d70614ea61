"""Helpers that train a group and read its results."""

import jax
from etils import epath

from gru_audio.training.checkpoint import Checkpointer
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.logging import TrainProgress
from gru_audio.training.population import Population
from gru_audio.training.stopping import Stop
from gru_audio.training.trackers import TrackedRun, Trackers
from gru_audio.training.trainer import Member, train
from tests.tones import assert_same, make_loader, member, tiny

ONE_STEP, MANY_STEPS = 0.0, 1e9  # target duration of a call in seconds
STEPS = {"train.steps": 20, "train.eval_every": 5, "parallel.call_seconds": MANY_STEPS}


class Outcome:
    """Trains a group in a folder, or resumes it."""

    def __init__(self, source, folder, *members, **common):
        configs = [tiny(STEPS | common | changes) for changes in members]
        self.config, self.loader, self.messages = configs[0], make_loader(source, configs), []
        folder = epath.Path(folder)
        named = [Member(f"run{m}", config.train.steps) for m, config in enumerate(configs)]
        runs = [TrackedRun(each.name, folder / each.name, "", "", {}, {}) for each in named]
        trackers = Trackers(("tensorboard",), runs, self.messages.append)
        checkpointer = Checkpointer(folder, 10, trackers, self.messages.append)
        state = self.loader.initial_state(hyperparameters(configs))
        self.population = Population(self.loader, state, self.config.parallel.shrink_gain)
        progress = TrainProgress("test")
        self.memory = train(self.population, named, self.config, checkpointer, Stop(), progress)
        checkpointer.close()
        self.state = jax.device_get(self.population.states())
        self.all_records = checkpointer.records()

    def records(self, m, kind=""):
        """Returns a member's records without wall times."""
        return [
            {k: v for k, v in record.items() if k not in ("seconds", "time", "run")}
            for record in self.all_records
            if record["run"] == f"run{m}" and any(k.startswith(kind) for k in record)
        ]

    def lost(self, m):
        """Returns a member's validation losses by step."""
        return {r["step"]: r["validation/loss"] for r in self.records(m, "validation/")}


def same_member(one, other, m, other_m=None):
    other_m = m if other_m is None else other_m
    assert_same(member(one.state, m), member(other.state, other_m))
    assert one.records(m) == other.records(other_m)
    for name in ("last_step", "best", "best_step", "failure", "alive"):
        assert getattr(one.memory, name)[m] == getattr(other.memory, name)[other_m], name
