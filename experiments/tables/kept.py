"""Kept results of a sweep: three small CSV files, without a trace of the machine.

  NAME.csv         one line a run, as in results.csv of a report
  NAME.pairs.csv   one line a pair of variants: the difference of their chosen trials, and the parts
  of
                   its variance, from which intervals, p-values and verdicts are computed on reading
  NAME.curves.csv  learning curves of the runs of the chosen trials

NAME is that of the experiment, with its part. Numbers are rounded before they are written, so that
reading gives exactly what was written.
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

POINTS = 60  # of the curves of a run, at most

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
        """The difference and the parts of its variance."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Components)}
        return Components(**values)


@dataclass(frozen=True)
class KeptPoint:
    """A moment in the training of a run; `metrics` are the latest there were.

    Attributes:
        run: its name.
        step: updates done.
        seconds: of wall time in training until then, as in `RunRecord`.
        metrics: "train/loss" and those of validation.
    """

    run: str
    step: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Kept:
    """What is kept of a sweep.

    Attributes:
        experiment: its name, with the part.
        metric: what the variants are compared by, of the test split.
        margin: the smallest difference of it that matters.
        baseline: that of a model that ignores its input; None if unknown.
        commit, device, jax: what ran it, and on what kind of device.
        runs: in the order of the sweep.
        pairs: best variant first.
        curves: of the selected runs.
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
        """The mean test metric of a variant's compared runs."""
        values = [run.metrics[f"test/{self.metric}"] for run in self.runs_of(variant)]
        return math.fsum(values) / len(values)

    def runs_of(self, variant: str) -> list[RunRecord]:
        """The compared runs of a variant."""
        return [run for run in self.runs if run.variant == variant and run.selected]

    def conclude(self) -> tuple[Pair, ...]:
        """The verdicts on all pairs."""
        # JAX, which comes with the tasks, takes a second, and --help must not.
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


_OF_THE_SWEEP = tuple(
    field.name
    for field in dataclasses.fields(Kept)
    if field.name not in ("runs", "pairs", "curves")
)


def keep(comparison: Comparison) -> Kept:
    """The results of a sweep that are kept; the sweep need not be finished."""
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
    """The steps at which there are validation metrics, or any loss if there never were."""
    curves = {n: c for n, c in run.curves.items() if n.startswith(("train/loss", "validation/"))}
    looked = {n: c for n, c in curves.items() if n != "train/loss"} or curves
    if not looked:
        return []
    steps = np.unique(np.concatenate([curve.steps for curve in looked.values()]))
    steps = steps[steps <= run.result["steps"]]
    if steps.size > POINTS:
        steps = steps[np.linspace(0, steps.size - 1, POINTS).round().astype(int)]
    second = run.result["seconds"] / run.result["steps"]  # of one step, the run's share
    return [
        KeptPoint(
            run=run.name,
            step=int(step),
            seconds=rounded(second * step, _CURVE),
            metrics={n: v for n, c in curves.items() if (v := _latest(c, step)) is not None},
        )
        for step in steps
    ]


def _latest(curve: Curve, step: int) -> float | None:
    """The last value of a curve up to a step, if there is one."""
    count = np.searchsorted(curve.steps, step, side="right")
    return rounded(curve.values[count - 1], _CURVE) if count else None


def kept_files(kept: Kept) -> dict[str, str]:
    """Names and contents of the three files."""
    about = {name: getattr(kept, name) for name in _OF_THE_SWEEP}
    return {
        f"{kept.experiment}.csv": encode(RunRecord, kept.runs, about),
        f"{kept.experiment}.pairs.csv": encode(KeptPair, kept.pairs),
        f"{kept.experiment}.curves.csv": encode(KeptPoint, kept.curves),
    }


def write_kept(comparison: Comparison, results: epath.PathLike) -> list[epath.Path]:
    """Writes the kept files of a sweep into the folder `results`; returns their paths.

    Raises:
      UserError: a run is damaged.
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
    """What is kept of an experiment (its name with the part); None if nothing is.

    Raises:
        UserError: a file is missing, damaged, or of another sweep.
    """
    path = epath.Path(folder) / f"{experiment}.csv"
    if not path.exists():
        return None
    runs, lines = _decode(path, RunRecord)
    told = {name: {line.get(name) or "" for line in lines} for name in _OF_THE_SWEEP}
    if told["experiment"] != {escaped(experiment)}:
        raise _refusal(path, f"it is not of {experiment}")
    if any(len(values) > 1 for values in told.values()):
        raise _refusal(path, "its lines are not of one sweep")
    types = typing.get_type_hints(Kept)
    try:
        about = {name: _PARSERS[types[name]](values.pop()) for name, values in told.items()}
    except ValueError as error:
        raise _refusal(path, str(error)) from error
    pairs, _ = _decode(path.with_suffix(".pairs.csv"), KeptPair)
    curves, _ = _decode(path.with_suffix(".curves.csv"), KeptPoint)
    kept = Kept(**about, runs=runs, pairs=pairs, curves=curves)
    if any(run.selected and f"test/{kept.metric}" not in run.metrics for run in runs):
        raise _refusal(path, f"a selected run has no test/{kept.metric}")
    if not {name for pair in pairs for name in (pair.first, pair.second)} <= set(kept.variants):
        raise _refusal(path.with_suffix(".pairs.csv"), "its variants are of another sweep")
    if not {point.run for point in curves} <= {run.run for run in runs if run.selected}:
        raise _refusal(path.with_suffix(".curves.csv"), "its runs are of another sweep")
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
    """The dataclasses that `encode` wrote, and the lines as they stand in the file."""
    types = typing.get_type_hints(kind)
    measured = types.pop("metrics", None)
    rows = []
    try:
        lines = list(csv.DictReader(io.StringIO(read_text(path)), strict=True))
        for line in lines:
            values = {name: _PARSERS[type_](line[name]) for name, type_ in types.items()}
            if measured:
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
