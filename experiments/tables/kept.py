"""Kept results of a sweep: three small CSV files, without names of users or machines.

  NAME.csv         one line per run, as in results.csv of a report
  NAME.pairs.csv   one line per pair of variants: the difference of their chosen trials and its
                   variance components; intervals, p-values and verdicts are computed from them
  NAME.curves.csv  learning curves of the runs of the chosen trials

NAME is the name of the experiment, with its part. Numbers are rounded before writing, so that
reading returns exactly the written values.
"""

import csv
import dataclasses
import io
import itertools
import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from etils import epath

from gru_audio.files import read_text, write_atomically
from gru_audio.reports.comparison import Comparison
from gru_audio.reports.results import Curve, Run
from gru_audio.reports.results_csv import (
    RunRecord,
    about_sweep,
    encode,
    escaped,
    rounded,
    run_records,
    unescaped,
)
from gru_audio.reports.statistics import Components
from gru_audio.reports.verdicts import Difference, Pair, at_baseline, conclude
from gru_audio.settings import UserError

POINTS = 60  # most points of a run's curves

_CURVE, _VARIANCE = 5, 6  # significant digits

T = TypeVar("T")


@dataclass(frozen=True)
class KeptPair:
    """The paired difference `first - second` of the test metric; see `statistics.Components`."""

    first: str
    second: str
    mean: float
    smallest: float
    largest: float
    replicates: int
    between: float
    examples: float
    interaction: float
    degrees: float
    seeds: float

    @property
    def components(self) -> Components:
        """The difference and its variance components."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Components)}
        return Components(**values)


@dataclass(frozen=True)
class KeptPoint:
    """A point of a run's learning curves.

    Attributes:
        run: name of the run.
        step: updates done.
        seconds: wall time of training until then, as in `RunRecord`.
        metrics: latest values of "train/loss" and the validation metrics.
    """

    run: str
    step: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Kept:
    """The kept results of a sweep.

    Attributes:
        experiment: name of the experiment, with its part.
        metric: the test metric that compares the variants.
        higher_is_better: whether higher values of the metric are better.
        margin: the smallest difference of the metric that matters.
        baseline: metric of a model that ignores its input; None if unknown.
        commit, device, jax: commit, kind of device and version of jax.
        runs: all runs, in the order of the sweep.
        pairs: all pairs of variants, the best variant first.
        curves: learning curves of the selected runs.
    """

    experiment: str
    metric: str
    higher_is_better: bool
    margin: float
    baseline: float | None
    commit: str
    device: str
    jax: str
    runs: tuple[RunRecord, ...]
    pairs: tuple[KeptPair, ...]
    curves: tuple[KeptPoint, ...]

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, in the order of the sweep."""
        return tuple(dict.fromkeys(run.variant for run in self.runs))

    def score(self, variant: str) -> float:
        """Returns the mean test metric of a variant's compared runs."""
        values = [run.metrics[f"test/{self.metric}"] for run in self.runs_of(variant)]
        return math.fsum(values) / len(values)

    def runs_of(self, variant: str) -> list[RunRecord]:
        """Returns the compared runs of a variant."""
        return [run for run in self.runs if run.variant == variant and run.selected]

    def conclude(self) -> tuple[Pair, ...]:
        """Returns the verdicts on all pairs."""
        # This import takes a second: --help does not wait for it.
        from gru_audio.tasks import metric_called

        metric = metric_called(self.metric)
        stuck = {
            variant
            for variant in self.variants
            if self.runs_of(variant) and at_baseline(metric, self.score(variant), self.baseline)
        }

        def withheld(first: str, second: str) -> str:
            return "both stay at the trivial baseline" if {first, second} <= stuck else ""

        return conclude(
            [Difference(pair.first, pair.second, pair.components) for pair in self.pairs],
            margin=self.margin,
            higher_is_better=self.higher_is_better,
            withheld=withheld,
        )


_SWEEP_COLUMNS = tuple(
    field.name
    for field in dataclasses.fields(Kept)
    if field.name not in ("runs", "pairs", "curves")
)


def keep(comparison: Comparison) -> Kept:
    """Selects the results of a sweep to keep. The sweep need not be finished."""
    chosen = [run for variant in comparison.variants for run in variant.runs]
    return Kept(
        **about_sweep(comparison),
        runs=run_records(comparison),
        pairs=tuple(map(_pair, comparison.differences)),
        curves=tuple(itertools.chain.from_iterable(map(_curves, chosen))),
    )


def _pair(difference: Difference) -> KeptPair:
    parts = dataclasses.asdict(difference.components)
    replicates = parts.pop("replicates")
    parts = {name: rounded(value, _VARIANCE) for name, value in parts.items()}
    return KeptPair(difference.first, difference.second, replicates=replicates, **parts)


def _curves(run: Run) -> list[KeptPoint]:
    """Returns a run's curves at the steps with validation metrics, or else with a loss."""
    curves = {n: c for n, c in run.curves.items() if n.startswith(("train/loss", "validation/"))}
    evaluated = {n: c for n, c in curves.items() if n != "train/loss"} or curves
    if not evaluated:
        return []
    steps = np.unique(np.concatenate([curve.steps for curve in evaluated.values()]))
    steps = steps[steps <= run.result["steps"]]
    if steps.size > POINTS:
        steps = steps[np.linspace(0, steps.size - 1, POINTS).round().astype(int)]
    seconds_per_step = run.result["seconds"] / run.result["steps"]
    return [
        KeptPoint(
            run=run.name,
            step=int(step),
            seconds=rounded(seconds_per_step * step, _CURVE),
            metrics={n: v for n, c in curves.items() if (v := _latest(c, step)) is not None},
        )
        for step in steps
    ]


def _latest(curve: Curve, step: int) -> float | None:
    """Returns the last value of a curve up to a step; None if there is none."""
    count = np.searchsorted(curve.steps, step, side="right")
    return rounded(curve.values[count - 1], _CURVE) if count else None


def kept_files(kept: Kept) -> dict[str, str]:
    """Returns the names and contents of the three files."""
    about = {name: getattr(kept, name) for name in _SWEEP_COLUMNS}
    return {
        f"{kept.experiment}.csv": encode(RunRecord, kept.runs, about),
        f"{kept.experiment}.pairs.csv": encode(KeptPair, kept.pairs),
        f"{kept.experiment}.curves.csv": encode(KeptPoint, kept.curves),
    }


def write_kept(comparison: Comparison, results: epath.PathLike) -> list[epath.Path]:
    """Writes the kept files of a sweep into the folder `results`. Returns their paths.

    Raises:
      UserError: a run's predictions are damaged.
    """
    for run in comparison.damaged:
        raise UserError(f"Run {run.name} cannot be kept: {run.damage}.")
    results = epath.Path(results)
    results.mkdir(parents=True, exist_ok=True)
    files = {results / name: text for name, text in kept_files(keep(comparison)).items()}
    for path, text in files.items():
        write_atomically(path, text, shared=True)
    return list(files)


def read_kept(folder: epath.PathLike, experiment: str) -> Kept | None:
    """Reads the kept results of an experiment (its name with the part); None if there are none.

    Raises:
        UserError: a file is missing, damaged, or from another sweep.
    """
    path = epath.Path(folder) / f"{experiment}.csv"
    if not path.exists():
        return None
    runs, lines = _decode(path, RunRecord)
    shared = {name: {line.get(name) or "" for line in lines} for name in _SWEEP_COLUMNS}
    if shared["experiment"] != {escaped(experiment)}:
        raise _refusal(path, f"it is not from {experiment}")
    if any(len(values) > 1 for values in shared.values()):
        raise _refusal(path, "its lines are from several sweeps")
    types = typing.get_type_hints(Kept)
    try:
        about = {name: _PARSERS[types[name]](values.pop()) for name, values in shared.items()}
    except ValueError as error:
        raise _refusal(path, str(error)) from error
    pairs, _ = _decode(path.with_suffix(".pairs.csv"), KeptPair)
    curves, _ = _decode(path.with_suffix(".curves.csv"), KeptPoint)
    kept = Kept(**about, runs=runs, pairs=pairs, curves=curves)
    if any(run.selected and f"test/{kept.metric}" not in run.metrics for run in runs):
        raise _refusal(path, f"a selected run has no test/{kept.metric}")
    if not {name for pair in pairs for name in (pair.first, pair.second)} <= set(kept.variants):
        raise _refusal(path.with_suffix(".pairs.csv"), "its variants are from another sweep")
    if not {point.run for point in curves} <= {run.run for run in runs if run.selected}:
        raise _refusal(path.with_suffix(".curves.csv"), "its runs are from another sweep")
    return kept


_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: unescaped,
    int: int,
    float: float,
    bool: lambda cell: bool(int(cell)),
    int | None: lambda cell: int(cell) if cell else None,
    float | None: lambda cell: float(cell) if cell else None,
    Mapping[str, Any]: json.loads,
}


def _decode(path: epath.Path, kind: type[T]) -> tuple[tuple[T, ...], list[dict[str, str]]]:
    """Returns the dataclasses that `encode` wrote, and the lines of the file."""
    types = typing.get_type_hints(kind)
    has_metrics = types.pop("metrics", None)
    rows = []
    try:
        lines = list(csv.DictReader(io.StringIO(read_text(path)), strict=True))
        for line in lines:
            values = {name: _PARSERS[type_](line[name]) for name, type_ in types.items()}
            if has_metrics:
                values["metrics"] = {
                    n: float(cell) for n, cell in line.items() if "/" in n and cell
                }
            rows.append(kind(**values))
    except KeyError as error:
        raise _refusal(path, f"it has no column {error}") from error
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise _refusal(path, str(error)) from error
    return tuple(rows), lines


def _refusal(path: epath.Path, why: str) -> UserError:
    return UserError(
        f"{path} cannot be used: {why}. Write it again: python -m experiments.tables --keep WORKDIR"
    )
