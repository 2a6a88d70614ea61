"""The files of a sweep as frozen dataclasses. Nothing here needs the sweep to be finished.

A file that is missing or cut short (its run was killed, or is writing it now) leaves nothing in its
place; what that means for a run is its `state`.
"""

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from gru_audio.data import npz
from gru_audio.sweeping.status import Standing, read_json, read_standings, read_sweep


@dataclass(frozen=True)
class Predictions:
    """What a run said about every test example.

    Attributes:
        example: int (examples,), ids, ascending.
        cluster: int (examples,), speaker or recording; -1 where unknown.
        loss: float (examples,), of an example the mean over what is counted in it.
        weight: float (examples,), how much that is: the frames of a sequence, 1 for a clip.
        label: int (examples,), index into the class names; None without classes.
        probabilities: float (examples, classes); None without classes.
    """

    example: np.ndarray
    cluster: np.ndarray
    loss: np.ndarray
    weight: np.ndarray
    label: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Curve:
    """One metric during training: steps (points,) and values (points,)."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Run:
    """One run: where it stands in the sweep, and what it has left behind so far.

    Attributes:
        name: folder of the run.
        arm, draw, replicate: its place in the sweep.
        config: the config as one level of dotted names; empty where not yet written.
        curves: name of a metric -> its curve.
        result: what `result.json` holds; empty until the run finishes.
        predictions: on the test split; of no example until the run finishes.
        standing: its state, and how far it has come.
    """

    name: str
    arm: str
    draw: Mapping[str, Any]
    replicate: Mapping[str, Any]
    config: Mapping[str, Any]
    curves: Mapping[str, Curve]
    result: Mapping[str, Any]
    predictions: Predictions
    standing: Standing

    def metric(self, name: str) -> float | None:
        """A final metric by its full name, such as "validation/loss"."""
        split, _, metric = name.partition("/")
        return (self.result.get("metrics", {}).get(split) or {}).get(metric)


@dataclass(frozen=True)
class Results:
    """A sweep and its runs. See `read_results`.

    Attributes:
        metric: what the arms are compared by, of the test split.
        selection: the validation metric that chooses among draws.
        halving: steps at which the worse draws of an arm are dropped; empty if none are.
        cluster: the field whose examples belong together ("speaker"), if any.
        data_fingerprint: of the data set that the runs were tested on, if known.
        config: what all runs start from, as one level of dotted names.
        environment: versions, devices, commit; of each all that there were, where the sweep went on
            elsewhere.
        first, last: when the sweep was set up and when its last run finished, if known.
    """

    experiment: str
    description: str
    command: str
    metric: str
    higher_is_better: bool
    selection: str
    selection_higher_is_better: bool
    halving: tuple[int, ...]
    target: str
    cluster: str | None
    class_names: tuple[str, ...]
    cluster_names: tuple[str, ...]
    data_fingerprint: str | None
    runs: tuple[Run, ...]
    config: Mapping[str, Any]
    environment: Mapping[str, tuple[Any, ...]]
    first: datetime.datetime | None
    last: datetime.datetime | None

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in the order of the sweep."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))


def read_results(workdir: epath.PathLike) -> Results:
    """Reads a sweep's workdir. `UserError` if there is no sweep in it."""
    workdir = epath.Path(workdir)
    sweep = read_sweep(workdir)
    standings = read_standings(workdir, sweep, datetime.datetime.now(datetime.UTC))
    runs = tuple(
        _read_run(workdir / "runs" / entry["run"], entry, standing, bool(sweep["class_names"]))
        for entry, standing in zip(sweep["runs"], standings, strict=True)
    )
    finished = [_modified(workdir / "runs" / r.name / "result.json") for r in runs if r.result]
    return Results(
        experiment=sweep["experiment"],
        description=sweep.get("description") or "",
        command=sweep.get("command") or "",
        metric=sweep["metric"],
        higher_is_better=sweep["higher_is_better"],
        selection=sweep["selection"],
        selection_higher_is_better=sweep["selection_higher_is_better"],
        halving=tuple((sweep.get("halving") or {}).get("rungs", ())),
        target=sweep["target"],
        cluster=sweep.get("cluster"),
        class_names=tuple(sweep["class_names"]),
        cluster_names=tuple(sweep.get("cluster_names") or ()),
        data_fingerprint=sweep.get("data_fingerprint"),
        runs=runs,
        config=sweep.get("config") or {},
        environment=_join([sweep.get("environment"), *(r.result.get("environment") for r in runs)]),
        first=_modified(workdir / "sweep.json"),
        last=max((time for time in finished if time), default=None),
    )


def _join(environments: Iterable[Mapping[str, Any] | None]) -> dict[str, tuple[Any, ...]]:
    """Name -> its different values."""
    values: dict[str, dict[Any, None]] = {}
    for environment in environments:
        for name, value in (environment or {}).items():
            if value is not None:
                values.setdefault(name, {})[value] = None
    return {name: tuple(found) for name, found in values.items()}


def _read_run(
    folder: epath.Path, entry: Mapping[str, Any], standing: Standing, classes: bool
) -> Run:
    return Run(
        name=entry["run"],
        arm=entry["arm"],
        draw=entry["draw"],
        replicate=entry["replicate"],
        config=read_json(folder / "config.json") or {},
        curves=_read_curves(folder / "metrics.jsonl"),
        result=read_json(folder / "result.json") or {},
        predictions=_read_predictions(folder / "predictions" / "test.npz", classes),
        standing=standing,
    )


def _read_curves(path: epath.Path) -> dict[str, Curve]:
    """One curve per metric; values that were not finite and a last line cut short are left out."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        for name, value in record.items():
            if "/" in name and value is not None:
                points.setdefault(name, []).append((record["step"], value))
    return {
        name: Curve(np.array([s for s, _ in pairs]), np.array([v for _, v in pairs], np.float64))
        for name, pairs in points.items()
    }


def _read_predictions(path: epath.Path, classes: bool) -> Predictions:
    names = ("label", "probabilities") if classes else ("weight",)
    try:
        arrays = npz.decode(path.read_bytes())
        order = np.argsort(arrays["example"])
        read = {name: arrays[name][order] for name in ("example", "cluster", "loss", *names)}
        return Predictions(**{"weight": np.ones(order.size)} | read)
    except (OSError, KeyError, IndexError, ValueError):
        none = np.zeros(0, np.int32)
        return Predictions(none, none, np.zeros(0), np.zeros(0))


def _modified(path: epath.Path) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(path.stat().mtime, datetime.UTC)
    except OSError:
        return None
