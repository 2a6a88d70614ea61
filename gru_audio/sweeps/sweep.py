"""A sweep: the runs of variants x trials x replicates, and their groups."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from gru_audio.config import override
from gru_audio.settings import UserError
from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.optuna import Search
from gru_audio.training.hyper import structure

Changes = Mapping[str, Any]  # dotted config name -> value


@dataclass(frozen=True)
class Sweep:
    """The runs of one experiment, as changes to its config.

    Attributes:
      variants: name -> changes. The report compares the variants.
      trials: hyperparameter settings to try for each variant, or a search that proposes them. The
        validation split chooses one.
      replicates: repetitions, paired across variants: seeds, folds, held-out speakers.
      halving: when the worse trials of a variant are dropped; None keeps all.
      margin: the smallest difference of the test metric that matters. Two variants are equivalent
        if their difference is shown to be smaller. None takes the default of the metric: 0.01 for
        an accuracy, 1 % for a loss.
      metric: name of the test metric that compares the variants, such as "macro_f1". None takes the
        primary metric of the task.

    Raises:
      UserError: an attribute has the wrong type or value.
    """

    variants: Mapping[str, Changes]
    trials: Sequence[Changes] | Search = field(default_factory=lambda: [{}])
    replicates: Sequence[Changes] = field(default_factory=lambda: [{"seed": 0}])
    halving: Halving | None = None
    margin: float | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        changes = self.variants.values() if isinstance(self.variants, Mapping) else (None,)
        trials = () if isinstance(self.trials, Search) else self.trials
        parts = {"variants": changes, "trials": trials, "replicates": self.replicates}
        for name, part in parts.items():
            if not isinstance(part, Iterable) or not all(map(_are_changes, part)):
                kind = "a dict of names to changes" if name == "variants" else "a list of changes"
                raise UserError(
                    f"Sweep: {name} must be {kind}; changes are a dict such as "
                    '{"model.hidden": 64}.'
                )
        if not all(isinstance(name, str) for name in self.variants):
            raise UserError("Sweep: the name of a variant must be a string.")
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise UserError(f"Sweep: margin={self.margin} must be a positive number.")

    def rounds(self, variant: str) -> Sequence[Sequence[Changes]]:
        """Returns the trials of a variant in the rounds that are known; usually there is one."""
        return self.trials.trials(variant) if isinstance(self.trials, Search) else [self.trials]


def _are_changes(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


@dataclass(frozen=True)
class Run:
    """One config to train, and its place in the sweep."""

    name: str
    variant: str
    trial: Changes
    replicate: Changes
    config: ConfigDict
    round: int = 0  # of a search, from 1


@dataclass(frozen=True)
class Group:
    """Runs that share one compiled program."""

    name: str
    runs: tuple[Run, ...]


def folds(field: str, values: Sequence[str]) -> list[dict[str, str]]:
    """Returns the replicates of a cross-validation over the values of a field.

    Each value is the test split once; the next value is then the validation split.
    """
    following = [*values[1:], *values[:1]]
    return [
        {"data.hold_out": f"{field}={test}", "data.validation": f"{field}={validation}"}
        for test, validation in zip(values, following, strict=True)
    ]


def expand(config: ConfigDict, sweep: Sweep) -> list[Run]:
    """Returns all runs of a sweep: every variant with every trial and every replicate.

    Raises:
      UserError: there are no runs, two runs have the same name, or a change is invalid: a key that
        does not exist, or one that is changed twice.
    """
    runs = []
    for variant, variant_changes in sweep.variants.items():
        rounds = enumerate(sweep.rounds(variant), int(isinstance(sweep.trials, Search)))
        for number, trial in ((number, trial) for number, trials in rounds for trial in trials):
            for replicate in sweep.replicates:
                changes = [*variant_changes, *trial, *replicate]
                if len(changes) != len(set(changes)):
                    raise UserError(
                        f"Variant {variant}: a config key is changed twice among {changes}."
                    )
                name = "-".join([_legible(variant), *map(_label, (trial, replicate))]).rstrip("-")
                changed = override(config, {**variant_changes, **trial, **replicate})
                name = re.sub("-+", "-", name)
                runs.append(Run(name, variant, trial, replicate, changed, number))
    if not runs:
        raise UserError("The sweep has no runs: it needs a variant, a trial and a replicate.")
    names = [run.name for run in runs]
    if len(names) != len(set(names)):
        raise UserError(f"Two runs of the sweep have the same name: {sorted(names)}.")
    return runs


def group(runs: Sequence[Run]) -> list[Group]:
    """Groups runs whose configs have the same structure, in the order of first appearance.

    The rounds of a search have separate groups, because they train one after the other.
    """
    members: dict[tuple[int, tuple], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.round):
        members.setdefault((run.round, structure(run.config)), []).append(run)
    groups = []
    for (number, key), same in members.items():
        variants = "+".join(dict.fromkeys(_legible(run.variant) for run in same))
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
        of_round = f"-round{number}" if number else ""
        groups.append(Group(f"{variants[:40]}-{digest}{of_round}", tuple(same)))
    return groups


def _label(changes: Changes) -> str:
    """Short name of changes: {"optimizer.learning_rate": 0.01} -> "learning_rate0.01"."""
    return "-".join(
        _legible(name.rpartition(".")[2] + (f"{v:g}" if isinstance(v, float) else str(v)))
        for name, v in changes.items()
    )


def _legible(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+]+", "_", text)
