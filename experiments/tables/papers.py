"""Compares kept results of experiments with published values, variant by variant."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import ModuleType
from typing import Any

from etils import epath

from experiments.tables.kept import Kept, read_kept
from experiments.tables.published import (
    UNPUBLISHED,
    Published,
    Verdict,
    judge,
    judge_in_kind,
)
from gru_audio.command import load_experiment, name_with_part
from gru_audio.files import matching
from gru_audio.reports.results_csv import RunRecord
from gru_audio.reports.statistics import Estimate, components_of_values
from gru_audio.settings import UserError, nearest
from gru_audio.sweeps.status import FINISHED
from gru_audio.tasks import metric_called


@dataclass(frozen=True)
class Experiment:
    """An experiment with a table.

    Attributes:
        name: name of its file.
        title: first line of its docstring.
        parts: names of its parts; ("",) if it has none.
        published: the published values; `UNPUBLISHED` if there are none.

    Raises:
        UserError: `published` names a part that the experiment does not have.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    published: Published

    def __post_init__(self) -> None:
        of_parts = self.published.values, self.published.floors, self.published.tolerances
        for part in itertools.chain(*of_parts):
            if part not in self.parts:
                raise UserError(
                    f'{self.name}: PUBLISHED names "{part}", which is not one of its parts.'
                    f"{nearest(part, self.parts)}"
                )


@dataclass(frozen=True)
class Time:
    """Training time of runs in seconds: wall time, and CPU time if known."""

    wall: float
    cpu: float | None


@dataclass(frozen=True)
class Ours:
    """The results of a variant.

    Attributes:
        values: test metric of each replicate of the chosen trial.
        test_sets: number of test sets; several with folds.
        metric: the mean, with the interval by Student's t. With several test sets it is over their
            means, else over the replicates.
        validation: mean validation metric of the same runs; None if there is none.
        at_cap: number of the runs that took all allowed steps.
        best_steps: the earliest and the latest step at which a run's validation was best; None if
            unknown.
        trials: number of trials of the variant.
        to_the_end: number of trials with a finished run that halving did not stop.
        halved_at: updates at which halving stopped trials.
        ends: settings of the chosen trial that are the smallest or largest tried; () with halving,
            which chooses early in training.
        total_parameters, recurrent_parameters: numbers of parameters.
        time: training time of the chosen runs.
        time_of_all: training time of all runs of the variant.
    """

    values: tuple[float, ...]
    test_sets: int
    metric: Estimate
    validation: float | None
    at_cap: int
    best_steps: tuple[int, int] | None
    trials: int
    to_the_end: int
    halved_at: tuple[int, ...]
    ends: tuple[str, ...]
    total_parameters: int | None
    recurrent_parameters: int | None
    time: Time
    time_of_all: Time

    @property
    def seeds(self) -> int:
        """Number of replicates over all test sets."""
        return len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Interval of the metric; None with too few replicates."""
        return (self.metric.low, self.metric.high) if self.metric.is_interval else None


@dataclass(frozen=True)
class Row:
    """A variant's published value and our results; None if not published or not run.

    Attributes:
        variant: name of the variant.
        published: the published value.
        ours: our results.
        verdict: the comparison of both.
        tolerance: the tolerance of the verdict; None if values are compared in kind.
    """

    variant: str
    published: float | None
    ours: Ours | None
    verdict: Verdict | None
    tolerance: float | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a part of an experiment ("" if it has none); `kept` is None if not run."""

    part: str
    kept: Kept | None
    floor: float | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Paper:
    """An experiment with the tables of all its parts."""

    experiment: Experiment
    tables: tuple[Table, ...]


def experiment_modules(folder: epath.Path) -> dict[str, ModuleType]:
    """Loads the experiments of a folder, by name.

    Raises:
      UserError: the folder has no experiment.
    """
    modules = {path.stem: load_experiment(path, extend=False) for path in matching(folder, "*.py")}
    if not modules:
        raise UserError(f"There is no experiment in {folder}. Name another --experiments.")
    return modules


def tabled(modules: Mapping[str, ModuleType], results: epath.Path) -> list[Experiment]:
    """Returns the experiments with published values or kept results.

    Experiments with `CLAIMS` have no table: their results are shown with the claims.

    Raises:
      UserError: `PUBLISHED` of an experiment has a key that does not exist.
    """
    found = []
    for name, module in modules.items():
        parts = tuple(getattr(module, "PARTS", ("",)))
        published = None
        if hasattr(module, "PUBLISHED"):
            published = Published.from_dict(name, module.PUBLISHED)
        elif not hasattr(module, "CLAIMS"):
            kept = (read_kept(results, name_with_part(name, part)) for part in parts)
            published = UNPUBLISHED if any(kept) else None
        if published is not None:
            title = (module.__doc__ or name).strip().splitlines()[0]
            found.append(Experiment(name, title, parts, published))
    return found


def read_paper(experiment: Experiment, results: epath.PathLike) -> Paper:
    """Compares the kept results of an experiment, in the folder `results`, with published values.

    Raises:
        UserError: a kept file is damaged.
    """
    tables = []
    for part in experiment.parts:
        kept = read_kept(results, name_with_part(experiment.name, part))
        floor = experiment.published.floors.get(part)
        tables.append(Table(part, kept, floor, compare_variants(experiment.published, part, kept)))
    return Paper(experiment, tuple(tables))


def compare_variants(published: Published, part: str, kept: Kept | None) -> tuple[Row, ...]:
    """Returns a part's variants: first those of the paper in its order, then the others."""
    variants = dict.fromkeys((*published.values.get(part, ()), *(kept.variants if kept else ())))
    return tuple(_row(variant, published, part, kept) for variant in variants)


def _row(variant: str, published: Published, part: str, kept: Kept | None) -> Row:
    ours = _ours(variant, kept) if kept else None
    value, floor = published.values.get(part, {}).get(variant), published.floors.get(part)
    if value is None:
        return Row(variant, None, ours, None)
    if kept is None or ours is None:
        return Row(variant, value, None, Verdict.NOT_RUN)
    if floor is not None:
        return Row(variant, value, ours, judge_in_kind(value, ours.values, floor))
    tolerance, up = published.tolerance(part, variant), kept.higher_is_better
    verdict = judge(value, ours.interval, tolerance, higher_is_better=up)
    return Row(variant, value, ours, verdict, tolerance)


def _ours(variant: str, kept: Kept) -> Ours | None:
    runs = [run for run in kept.runs if run.variant == variant]
    chosen = [run for run in runs if run.selected]
    if not chosen:
        return None
    metric = f"test/{kept.metric}"
    by_test_set: dict[str, list[float]] = {}
    for run in chosen:
        fold = {name: value for name, value in run.replicate.items() if name != "seed"}
        by_test_set.setdefault(json.dumps(fold, sort_keys=True), []).append(run.metrics[metric])
    values = [run.metrics[metric] for run in chosen]
    means = [fmean(of_fold) for of_fold in by_test_set.values()]
    best = [run.best_step for run in chosen if run.best_step is not None]
    halved_at = tuple(sorted({run.dropped_at for run in runs if run.dropped_at is not None}))
    return Ours(
        values=tuple(values),
        test_sets=len(means),
        metric=components_of_values(means if len(means) > 1 else values).estimate(
            metric_called(kept.metric).bounds
        ),
        validation=_mean([run.metrics.get(f"validation/{kept.metric}") for run in chosen]),
        at_cap=sum(run.steps == run.step_cap for run in chosen),
        best_steps=(min(best), max(best)) if best else None,
        trials=_count_trials(runs),
        to_the_end=_count_trials(
            [run for run in runs if run.state == FINISHED and run.dropped_at is None]
        ),
        halved_at=halved_at,
        ends=() if halved_at else _ends(chosen[0].trial, [run.trial for run in runs]),
        total_parameters=chosen[0].total_parameters,
        recurrent_parameters=chosen[0].recurrent_parameters,
        time=_time(chosen),
        time_of_all=_time(runs),
    )


def _ends(chosen: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the settings at an end of at least three values: "model.dropout=0.5, the largest"."""
    ends = []
    for name, value in chosen.items():
        tried = {trial[name] for trial in trials}
        if len(tried) < 3 or any(isinstance(each, bool | str) for each in tried):
            continue
        for extreme, word in ((min(tried), "smallest"), (max(tried), "largest")):
            if value == extreme:
                ends.append(f"{name}={value:.3g}, the {word}")
    return tuple(ends)


def _count_trials(runs: list[RunRecord]) -> int:
    return len({json.dumps(run.trial, sort_keys=True) for run in runs})


def _mean(values: list[float | None]) -> float | None:
    """Returns the mean; None if a value is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _time(runs: list[RunRecord]) -> Time:
    """Sums the times of the trained runs. The CPU time is None if a run lacks it."""
    trained = [run for run in runs if run.seconds is not None]
    cpu = [run.cpu_seconds for run in trained if run.cpu_seconds is not None]
    wall = math.fsum(run.seconds or 0.0 for run in trained)
    return Time(wall, math.fsum(cpu) if len(cpu) == len(trained) else None)
