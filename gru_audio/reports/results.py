"""Reads the files of a sweep into frozen dataclasses. The sweep need not be finished.

Files that are missing or incomplete are read as empty; the run's state tells why. The predictions
of a finished run must give its stored test metrics. If they do not, neither is used.

Predictions are the arrays of `Task.stored`, the ascending ids `example`, and the `cluster` of each
example (speaker or recording), -1 if unknown.
"""

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from gru_audio.config import default_config, override
from gru_audio.data import npz
from gru_audio.data.fields import take
from gru_audio.data.source import Source, open_source
from gru_audio.files import read_bytes
from gru_audio.settings import UserError
from gru_audio.sweeps.status import (
    FINISHED,
    RunState,
    read_json,
    read_run_states,
    read_sweep,
)
from gru_audio.tasks import build_task
from gru_audio.tasks.metrics import Metric, Predictions, measure, metrics_of, named
from gru_audio.tasks.task import Stored, Task

_TOLERANCE = 1e-5  # between a stored metric and the one computed from predictions
_COMMON = {"example": Stored("iu"), "cluster": Stored("iu")}  # arrays in every task's predictions
_NO_PREDICTIONS: Predictions = {name: np.zeros(0, np.int32) for name in _COMMON}


@dataclass(frozen=True)
class Curve:
    """One metric during training: steps (points,) and values (points,)."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Run:
    """One run: its place in the sweep, and the files that it has written so far.

    Attributes:
        name: name of the run and its folder.
        variant, trial, replicate: place of the run in the sweep.
        config: the config, by dotted names; empty until it is written.
        curves: name of a metric -> its curve.
        result: contents of `result.json`; empty until the run finishes.
        predictions: predictions for the test split; empty until the run finishes.
        damage: why the predictions of a finished run cannot be used; None if they can.
        run_state: the state and progress of the run.
    """

    name: str
    variant: str
    trial: Mapping[str, Any]
    replicate: Mapping[str, Any]
    config: Mapping[str, Any]
    curves: Mapping[str, Curve]
    result: Mapping[str, Any]
    predictions: Predictions
    damage: str | None
    run_state: RunState

    def metric(self, name: str) -> float | None:
        """Returns a final metric by its full name, such as "validation/loss"; None if unknown."""
        split, _, metric = name.partition("/")
        return (self.result.get("metrics", {}).get(split) or {}).get(metric)


@dataclass(frozen=True)
class Results:
    """A sweep and its runs. See `read_results`.

    Attributes:
        experiment: name of the experiment, with its part.
        description: docstring of the experiment.
        command: command line of the sweep.
        task: the task of the runs, as `build_task` builds it.
        metric: the test metric that compares the variants.
        selection: the validation metric that chooses among trials, such as "validation/loss".
        margin: the smallest difference of the metric that matters; None for the metric's default.
        halving: steps at which the worse trials of a variant are dropped; empty if none are.
        target: name of the target field.
        cluster: name of the field that groups dependent examples, such as "speaker"; None if none.
        cluster_names: the values of that field.
        data_fingerprint: fingerprint of the data set that the runs were tested on, if known.
        runs: all runs, in the order of the sweep.
        config: the config that all runs start from, by dotted names.
        environment: name -> its values: versions, devices, commit. A sweep that was resumed in
            another environment has several values.
        first, last: when the sweep started and when its last run finished, if known.
    """

    experiment: str
    description: str
    command: str
    task: Task
    metric: Metric
    selection: str
    margin: float | None
    halving: tuple[int, ...]
    target: str
    cluster: str | None
    cluster_names: tuple[str, ...]
    data_fingerprint: str | None
    runs: tuple[Run, ...]
    config: Mapping[str, Any]
    environment: Mapping[str, tuple[Any, ...]]
    first: datetime.datetime | None
    last: datetime.datetime | None

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, in the order of the sweep."""
        return tuple(dict.fromkeys(run.variant for run in self.runs))

    def metric_of(self, name: str) -> Metric:
        """Returns the metric of a full name, such as "train/loss"."""
        return named(metrics_of(self.task), name.partition("/")[2], "metric")


def setting_key(setting: Mapping[str, Any]) -> str:
    """Returns a trial or a replicate as text that does not depend on the order of its keys."""
    return json.dumps(setting, sort_keys=True)


def read_results(workdir: epath.PathLike, metric: str | None = None) -> Results:
    """Reads a sweep's workdir.

    Args:
      workdir: the sweep's workdir.
      metric: name of the metric that compares the variants; by default the sweep's.

    Raises:
      UserError: the workdir has no sweep, or this version does not know its task or metric.
    """
    workdir = epath.Path(workdir)
    sweep = read_sweep(workdir)
    task = _task(workdir, sweep)
    where = "--metric" if metric else f"The metric of {workdir}"
    compared = named(metrics_of(task), metric or sweep["metric"], where)
    run_states = read_run_states(workdir, sweep, datetime.datetime.now(datetime.UTC))
    runs = tuple(
        _read_run(workdir / "runs" / entry["run"], entry, run_state, task)
        for entry, run_state in zip(sweep["runs"], run_states, strict=True)
    )
    finished = [_modified(workdir / "runs" / r.name / "result.json") for r in runs if r.result]
    return Results(
        experiment=sweep["experiment"],
        description=sweep.get("description") or "",
        command=sweep.get("command") or "",
        task=task,
        metric=compared,
        selection=sweep["selection"],
        margin=sweep.get("margin") if compared.name == sweep["metric"] else None,
        halving=tuple((sweep.get("halving") or {}).get("rungs", ())),
        target=sweep["target"],
        cluster=sweep.get("cluster"),
        cluster_names=tuple(sweep.get("cluster_names") or ()),
        data_fingerprint=sweep.get("data_fingerprint"),
        runs=runs,
        config=sweep.get("config") or {},
        environment=_join([sweep.get("environment"), *(r.result.get("environment") for r in runs)]),
        first=_modified(workdir / "sweep.json"),
        last=max((time for time in finished if time), default=None),
    )


def _task(workdir: epath.Path, sweep: Mapping[str, Any]) -> Task:
    settings = {name: v for name, v in sweep["config"].items() if name.startswith("task.")}
    try:
        config = override(default_config(), settings)
        return build_task(config.task, tuple(sweep["class_names"]))
    except UserError as error:
        raise UserError(f"{workdir} has a task that this version does not know: {error}") from None


def _join(environments: Iterable[Mapping[str, Any] | None]) -> dict[str, tuple[Any, ...]]:
    """Returns name -> its different values."""
    values: dict[str, dict[Any, None]] = {}
    for environment in environments:
        for name, value in (environment or {}).items():
            if value is not None:
                values.setdefault(name, {})[value] = None
    return {name: tuple(found) for name, found in values.items()}


def _read_run(folder: epath.Path, entry: Mapping[str, Any], run_state: RunState, task: Task) -> Run:
    result: dict[str, Any] = {}
    predictions, damage = _NO_PREDICTIONS, None
    if run_state.state == FINISHED:
        result = read_json(folder / "result.json") or {}
        try:
            predictions = _read_predictions(folder / "predictions" / "test.npz", task)
            stored = result["metrics"].get("test") or {}
            found = measure(metrics_of(task), predictions) if predictions["example"].size else {}
            damage = _disagreement(found, stored, predictions["example"].size)
            # An earlier version may not have stored all of the metrics.
            defined = {name: value for name, value in found.items() if math.isfinite(value)}
            result["metrics"] = {**result["metrics"], "test": defined | stored}
        except _Damaged as error:
            damage = str(error)
    return Run(
        name=entry["run"],
        variant=entry["variant"],
        trial=entry["trial"],
        replicate=entry["replicate"],
        config=read_json(folder / "config.json") or {},
        curves=_read_curves(folder / "metrics.jsonl"),
        result=result,
        predictions=_NO_PREDICTIONS if damage else predictions,
        damage=damage,
        run_state=run_state,
    )


def _read_curves(path: epath.Path) -> dict[str, Curve]:
    """Reads one curve per metric. Damaged lines and values that are not finite are left out."""
    points: dict[str, list[tuple[int, float]]] = {}
    text = read_bytes(path).decode(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
            continue
        for name, value in record.items():
            if "/" in name and isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, []).append((step, value))
    return {
        name: Curve(np.array([s for s, _ in pairs]), np.array([v for _, v in pairs], np.float64))
        for name, pairs in points.items()
    }


class _Damaged(Exception):
    """Predictions cannot be used; the message tells why."""


def _read_predictions(path: epath.Path, task: Task) -> Predictions:
    try:
        arrays = npz.decode(read_bytes(path))
    except FileNotFoundError as error:
        raise _Damaged("its predictions are missing") from error
    except (OSError, ValueError) as error:
        raise _Damaged("its predictions are damaged") from error
    required = {**_COMMON, **task.stored}
    if missing := required.keys() - arrays.keys():
        raise _Damaged(f"its predictions lack {', '.join(sorted(missing))}")
    example = arrays["example"]
    for name, stored in required.items():
        array = arrays[name]
        if not stored.fits(array.shape, example.size):
            raise _Damaged(f"its predictions have {name} of shape {array.shape}")
        if array.dtype.kind not in stored.kinds or not np.isfinite(array).all():
            raise _Damaged(f"its predictions have {name} that is not a finite number")
        if stored.below and array.size and not 0 <= array.min() <= array.max() < stored.below:
            raise _Damaged(f"its predictions have {name} out of range")
    if np.unique(example).size < example.size:
        raise _Damaged("its predictions have an example twice")
    return take({name: arrays[name] for name in required}, np.argsort(example))


def _disagreement(
    found: Mapping[str, float], metrics: Mapping[str, float | None], examples: int
) -> str | None:
    """Returns how predictions and stored test metrics disagree; None if they agree."""
    if not examples:
        return "it has no predictions" if metrics else None
    for name, value in found.items():
        stored = metrics.get(name)
        if stored is None or (math.isnan(stored) and math.isnan(value)):
            continue
        if not math.isclose(value, stored, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            return (
                f"its predictions give a test {name} of {value:.6g}, its result.json says "
                f"{stored:.6g}"
            )
    return None


def _modified(path: epath.Path) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(path.stat().mtime, datetime.UTC)
    except OSError:
        return None


def tested_source(results: Results, run: Run) -> Source:
    """Opens the data set that a run was tested on.

    Raises:
      UserError: the data set is not prepared or has changed, or the run's config is damaged.
    """
    name, folder = run.config.get("data.name"), run.config.get("data.dir")
    if not isinstance(name, str) or not isinstance(folder, str | None):
        raise UserError(f"the config of run {run.name} is missing or damaged.")
    source = open_source(name, folder)
    if source.fingerprint != results.data_fingerprint:
        raise UserError(f"{source.name} has changed since the runs were tested on it.")
    return source
