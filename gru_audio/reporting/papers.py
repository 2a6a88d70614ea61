"""A paper's table beside ours: what was kept of an experiment, arm by arm, and how it stands."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from etils import epath

from gru_audio.config import UserError, nearest
from gru_audio.reporting.comparison import BOUNDS
from gru_audio.reporting.kept import Kept, KeptRun, read_kept
from gru_audio.reporting.published import (
    FEWEST,
    Published,
    Verdict,
    judge,
    judge_in_kind,
    name_with_part,
)
from gru_audio.reporting.statistics import Estimate, components_of_values
from gru_audio.sweeping.status import FINISHED


@dataclass(frozen=True)
class Experiment:
    """An experiment of which there is a table.

    Attributes:
        name: of its file.
        title: first line of its docstring.
        parts: names of its parts; ("",) if it has none.
        published: what stands beside it; `NOBODYS` if nothing does.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    published: Published

    def __post_init__(self) -> None:
        for part in (*self.published.values, *self.published.floors):
            if part not in self.parts:
                raise UserError(
                    f'{self.name}: PUBLISHED names "{part}", which is none of its parts.'
                    f"{nearest(part, self.parts)}"
                )


@dataclass(frozen=True)
class Ours:
    """What an arm reached.

    Attributes:
        values: of the replicates of its chosen draw.
        test_sets: how many the replicates were tested on, of folds more than one.
        metric: the mean, with the interval by Student's t: over the means of test sets, where there
            are several, else over the replicates.
        validation: the mean of the same runs on the validation split; None if there was none.
        at_cap: how many of the runs took all the steps allowed; best_steps: the first and the last
            step at which validation was best in them, if it was looked at.
        draws: among how many with a finished run it was chosen; planned: how many the sweep has.
        ends: settings of the chosen draw that are the smallest or largest that was tried.
        total_parameters, recurrent_parameters: of a run.
        seconds: of training, of the chosen runs; seconds_of_all: of all runs of the arm.
    """

    values: tuple[float, ...]
    test_sets: int
    metric: Estimate
    validation: float | None
    at_cap: int
    best_steps: tuple[int, int] | None
    draws: int
    planned: int
    ends: tuple[str, ...]
    total_parameters: int | None
    recurrent_parameters: int | None
    seconds: float
    seconds_of_all: float

    @property
    def seeds(self) -> int:
        """How many replicates there are, over all test sets."""
        return len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """That of the metric; None if it rests on fewer than `FEWEST` values."""
        count = self.test_sets if self.test_sets > 1 else self.seeds
        return (self.metric.low, self.metric.high) if count >= FEWEST else None


@dataclass(frozen=True)
class Row:
    """An arm in a paper and here; None for what the paper does not tell, or was not run."""

    arm: str
    published: float | None
    ours: Ours | None
    verdict: Verdict | None


@dataclass(frozen=True)
class Table:
    """A part of an experiment ("" if it has none) beside the paper's; `kept` is None if not run."""

    part: str
    kept: Kept | None
    floor: float | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Paper:
    """An experiment with the tables of all its parts."""

    experiment: Experiment
    tables: tuple[Table, ...]


def read_paper(experiment: Experiment, results: epath.PathLike) -> Paper:
    """Sets what is kept of an experiment, in the folder `results`, beside what was published.

    Raises:
        UserError: a kept file is damaged.
    """
    tables = []
    for part in experiment.parts:
        kept = read_kept(results, name_with_part(experiment.name, part))
        values = experiment.published.values.get(part, {})
        floor = experiment.published.floors.get(part)
        tables.append(Table(part, kept, floor, compare_arms(values, floor, kept)))
    return Paper(experiment, tuple(tables))


def compare_arms(
    published: Mapping[str, float], floor: float | None, kept: Kept | None
) -> tuple[Row, ...]:
    """The arms of a paper in its order, then those that only we have."""
    arms = dict.fromkeys((*published, *(kept.arms if kept else ())))
    return tuple(_row(arm, published.get(arm), floor, kept) for arm in arms)


def _row(arm: str, published: float | None, floor: float | None, kept: Kept | None) -> Row:
    ours = _ours(arm, kept) if kept else None
    if published is None:
        return Row(arm, None, ours, None)
    if kept is None or ours is None:
        return Row(arm, published, None, Verdict.NOT_RUN)
    mean = ours.metric.value
    if floor is not None:
        return Row(arm, published, ours, judge_in_kind(published, mean, floor))
    verdict = judge(published, mean, ours.interval, higher_is_better=kept.higher_is_better)
    return Row(arm, published, ours, verdict)


def _ours(arm: str, kept: Kept) -> Ours | None:
    runs = [run for run in kept.runs if run.arm == arm]
    chosen = [run for run in runs if run.selected]
    if not chosen:
        return None
    metric = f"test/{kept.metric}"
    by_test_set: dict[str, list[float]] = {}
    for run in chosen:
        of = {name: value for name, value in run.replicate.items() if name != "seed"}
        by_test_set.setdefault(json.dumps(of, sort_keys=True), []).append(run.metrics[metric])
    values = [run.metrics[metric] for run in chosen]
    means = [fmean(of_set) for of_set in by_test_set.values()]
    best = [run.best_step for run in chosen if run.best_step is not None]
    return Ours(
        values=tuple(values),
        test_sets=len(means),
        metric=components_of_values(means if len(means) > 1 else values).estimate(
            BOUNDS[kept.metric]
        ),
        validation=_mean([run.metrics.get(f"validation/{kept.metric}") for run in chosen]),
        at_cap=sum(run.steps == run.step_cap for run in chosen),
        best_steps=(min(best), max(best)) if best else None,
        draws=_count_draws([run for run in runs if run.state == FINISHED]),
        planned=_count_draws(runs),
        ends=_ends(chosen[0].draw, [run.draw for run in runs]),
        total_parameters=chosen[0].total_parameters,
        recurrent_parameters=chosen[0].recurrent_parameters,
        seconds=_seconds(chosen),
        seconds_of_all=_seconds(runs),
    )


def _ends(chosen: Mapping[str, Any], draws: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Numbers of a draw that none was beyond, of three tried: "model.dropout=0.5, the largest"."""
    ends = []
    for name, value in chosen.items():
        tried = {draw[name] for draw in draws}
        if len(tried) < 3 or any(isinstance(each, bool | str) for each in tried):
            continue
        for extreme, word in ((min(tried), "smallest"), (max(tried), "largest")):
            if value == extreme:
                ends.append(f"{name}={value:.3g}, the {word}")
    return tuple(ends)


def _count_draws(runs: list[KeptRun]) -> int:
    return len({json.dumps(run.draw, sort_keys=True) for run in runs})


def _mean(values: list[float | None]) -> float | None:
    """The mean, if all are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _seconds(runs: list[KeptRun]) -> float:
    return sum(run.seconds or 0.0 for run in runs)
