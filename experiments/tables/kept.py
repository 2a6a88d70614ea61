"""Results that are kept: three small CSV files a sweep, which say nothing of where it ran.

  NAME.csv         one line a run
  NAME.pairs.csv   one line a pair of arms: the difference of their chosen draws, and the parts of
                   its variance, from which intervals, p-values and verdicts are computed on reading
  NAME.curves.csv  how the runs of the chosen draws learnt

NAME is that of the experiment, with its part. What is read is what was written: numbers are rounded
before they come here (`keeping.py`).
"""

import csv
import dataclasses
import io
import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from etils import epath

from gru_audio.config import UserError
from gru_audio.files import read_text
from gru_audio.reporting.statistics import Components
from gru_audio.reporting.verdicts import Difference, Pair, at_baseline, conclude

T = TypeVar("T")


@dataclass(frozen=True)
class KeptRun:
    """One run.

    Attributes:
        run: its name.
        arm, draw, replicate: its place in the sweep.
        state: "finished", "failed", "damaged" or "unfinished"; of a run that is not finished the
            fields below are None.
        selected: whether it is of its arm's chosen draw, and compared.
        total_parameters, recurrent_parameters: how many.
        steps: updates done; step_cap: after how many it would have stopped in any case.
        best_step: when validation was best.
        dropped_at: the step at which halving ended it; None if it was not dropped.
        seconds: of wall time in training, its share of the program it was part of.
        cpu_seconds: of processor time, its share likewise; None on an accelerator, or if unknown.
        steps_per_second: by its share of the wall time.
        compile_seconds: of the whole program.
        peak_memory_bytes: of a device.
        metrics: "test/loss" -> value.
    """

    run: str
    arm: str
    draw: Mapping[str, Any]
    replicate: Mapping[str, Any]
    state: str
    selected: bool
    total_parameters: int | None
    recurrent_parameters: int | None
    steps: int | None
    step_cap: int
    best_step: int | None
    dropped_at: int | None
    seconds: float | None
    cpu_seconds: float | None
    steps_per_second: float | None
    compile_seconds: float | None
    peak_memory_bytes: int | None
    metrics: Mapping[str, float]


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
        seconds: of wall time in training until then, as in `KeptRun`.
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
        metric: what the arms are compared by, of the test split.
        margin: the smallest difference of it that matters.
        baseline: that of a model that ignores its input; None if unknown.
        commit, device, jax: what ran it, and on what kind of device.
        runs: in the order of the sweep.
        pairs: best arm first.
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
    runs: tuple[KeptRun, ...]
    pairs: tuple[KeptPair, ...]
    curves: tuple[KeptPoint, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in the order of the sweep."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))

    def score(self, arm: str) -> float:
        """The mean test metric of an arm's compared runs."""
        values = [run.metrics[f"test/{self.metric}"] for run in self.runs_of(arm)]
        return math.fsum(values) / len(values)

    def runs_of(self, arm: str) -> list[KeptRun]:
        """The compared runs of an arm."""
        return [run for run in self.runs if run.arm == arm and run.selected]

    def conclude(self) -> tuple[Pair, ...]:
        """The verdicts on all pairs."""
        stuck = {
            arm
            for arm in self.arms
            if self.runs_of(arm) and at_baseline(self.metric, self.score(arm), self.baseline)
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


def kept_files(kept: Kept) -> dict[str, str]:
    """Names and contents of the three files."""
    return {
        f"{kept.experiment}.csv": runs_csv(kept),
        f"{kept.experiment}.pairs.csv": _encode(KeptPair, kept.pairs),
        f"{kept.experiment}.curves.csv": _encode(KeptPoint, kept.curves),
    }


def runs_csv(kept: Kept) -> str:
    """What NAME.csv holds: its last columns are the same in all lines."""
    return _encode(KeptRun, kept.runs, {name: getattr(kept, name) for name in _OF_THE_SWEEP})


def read_kept(folder: epath.PathLike, experiment: str) -> Kept | None:
    """What is kept of an experiment (its name with the part); None if nothing is.

    Raises:
        UserError: a file is missing, damaged, or of another sweep.
    """
    path = epath.Path(folder) / f"{experiment}.csv"
    if not path.exists():
        return None
    runs, lines = _decode(path, KeptRun)
    told = {name: {line.get(name) or "" for line in lines} for name in _OF_THE_SWEEP}
    if told["experiment"] != {_escaped(experiment)}:
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
    if not {name for pair in pairs for name in (pair.first, pair.second)} <= set(kept.arms):
        raise _refusal(path.with_suffix(".pairs.csv"), "its arms are of another sweep")
    if not {point.run for point in curves} <= {run.run for run in runs if run.selected}:
        raise _refusal(path.with_suffix(".curves.csv"), "its runs are of another sweep")
    return kept


def _encode(kind: type, rows: Sequence[Any], about: Mapping[str, Any] | None = None) -> str:
    """Dataclasses as CSV: a column for each field and each of their `metrics`, then `about`."""
    about = about or {}
    names = [field.name for field in dataclasses.fields(kind) if field.name != "metrics"]
    metrics = sorted({name for row in rows for name in getattr(row, "metrics", ())})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*names, *metrics, *about])
    for row in rows:
        values = [getattr(row, name) for name in names]
        values += [row.metrics.get(name) for name in metrics]
        writer.writerow([_cell(value) for value in (*values, *about.values())])
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str):
        return _escaped(value)
    return int(value) if isinstance(value, bool) else value


# How cells begin that a spreadsheet takes for a formula, and how those do that are escaped here.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def _escaped(text: str) -> str:
    """Text that a spreadsheet takes for text, as a quote goes before it where needed."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULAS) else cell


_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: _unescaped,
    int: int,
    float: float,
    bool: lambda cell: bool(int(cell)),
    int | None: lambda cell: int(cell) if cell else None,
    float | None: lambda cell: float(cell) if cell else None,
    Mapping[str, Any]: json.loads,
}


def _decode(path: epath.Path, kind: type[T]) -> tuple[tuple[T, ...], list[dict[str, str]]]:
    """What `_encode` wrote: the dataclasses, and the lines as they stand there."""
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
        f"{path} cannot be used: {why}. Write it again: "
        "python -m gru_audio.report --workdir DIR --keep"
    )
