"""The files of a sweep as frozen dataclasses. Nothing here needs the sweep to be finished.

A file that is missing or cut short (its run was killed, or is writing it now) leaves nothing in its
place; what that means for a run is its `state`. The predictions of a finished run are compared with
its metrics: where the two disagree, one of them is not this run's, and neither is used.
"""

import datetime
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from gru_audio.data import npz
from gru_audio.files import read_bytes
from gru_audio.sweeping.status import (
    FINISHED,
    Standing,
    read_json,
    read_standings,
    read_sweep,
)


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


def _correct(predictions: Predictions) -> np.ndarray:
    assert predictions.probabilities is not None  # a task without classes has no accuracy
    return predictions.probabilities.argmax(axis=-1) == predictions.label


# A metric of the test split is the weighted mean over examples of one of these.
SCORES: Mapping[str, Callable[[Predictions], np.ndarray]] = {
    "accuracy": _correct,
    "loss": lambda predictions: predictions.loss,
}
_AGREEMENT = 1e-5  # relative: between a stored metric and the one computed from predictions
_NO_PREDICTIONS = Predictions(
    example=np.zeros(0, np.int32),
    cluster=np.zeros(0, np.int32),
    loss=np.zeros(0),
    weight=np.zeros(0),
)


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
        damage: why the predictions of a finished run cannot be used; None if they can.
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
    damage: str | None
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
        margin: the smallest difference of the metric that matters; None for the metric's default.
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
    margin: float | None
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


def setting_key(setting: Mapping[str, Any]) -> str:
    """A draw or a replicate as text, the same whatever the order of its keys."""
    return json.dumps(setting, sort_keys=True)


def read_results(workdir: epath.PathLike) -> Results:
    """Reads a sweep's workdir. `UserError` if there is no sweep in it."""
    workdir = epath.Path(workdir)
    sweep = read_sweep(workdir)
    standings = read_standings(workdir, sweep, datetime.datetime.now(datetime.UTC))
    runs = tuple(
        _read_run(workdir / "runs" / entry["run"], entry, standing, len(sweep["class_names"]))
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
        margin=sweep.get("margin"),
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
    folder: epath.Path, entry: Mapping[str, Any], standing: Standing, classes: int
) -> Run:
    result: Mapping[str, Any] = {}
    predictions, damage = _NO_PREDICTIONS, None
    if standing.state == FINISHED:
        result = read_json(folder / "result.json") or {}
        try:
            predictions = _read_predictions(folder / "predictions" / "test.npz", classes)
            damage = _disagreement(predictions, result["metrics"].get("test") or {})
        except _Damaged as error:
            damage = str(error)
    return Run(
        name=entry["run"],
        arm=entry["arm"],
        draw=entry["draw"],
        replicate=entry["replicate"],
        config=read_json(folder / "config.json") or {},
        curves=_read_curves(folder / "metrics.jsonl"),
        result=result,
        predictions=_NO_PREDICTIONS if damage else predictions,
        damage=damage,
        standing=standing,
    )


def _read_curves(path: epath.Path) -> dict[str, Curve]:
    """One curve per metric. Lines and values that are damaged or not finite are left out."""
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
    """Predictions that cannot be used, and why."""


def _read_predictions(path: epath.Path, classes: int) -> Predictions:
    names = ("label", "probabilities") if classes else ("weight",)
    try:
        arrays = npz.decode(read_bytes(path))
    except FileNotFoundError as error:
        raise _Damaged("its predictions are missing") from error
    except (OSError, ValueError) as error:
        raise _Damaged("its predictions are damaged") from error
    if missing := {"example", "cluster", "loss", *names} - set(arrays):
        raise _Damaged(f"its predictions lack {', '.join(sorted(missing))}")
    example = arrays["example"]
    for name in ("example", "cluster", "loss", *names):
        shape = (example.size, classes) if name == "probabilities" else (example.size,)
        if arrays[name].shape != shape:
            raise _Damaged(f"its predictions hold {name} of shape {arrays[name].shape}")
        kinds = "iu" if name in ("example", "cluster", "label") else "f"
        if arrays[name].dtype.kind not in kinds or not np.isfinite(arrays[name]).all():
            raise _Damaged(f"its predictions hold {name} that is not a finite number")
    if np.unique(example).size < example.size:
        raise _Damaged("its predictions hold an example twice")
    if (
        classes
        and example.size
        and not 0 <= arrays["label"].min() <= arrays["label"].max() < classes
    ):
        raise _Damaged("its predictions hold labels of unknown classes")
    order = np.argsort(example)
    read = {name: arrays[name][order] for name in ("example", "cluster", "loss", *names)}
    return Predictions(**{"weight": np.ones(order.size)} | read)


def _disagreement(predictions: Predictions, metrics: Mapping[str, float | None]) -> str | None:
    """Why stored predictions are not those that the stored test metrics were computed from."""
    if not predictions.example.size:
        return "it has no predictions" if metrics else None
    for name, score in SCORES.items():
        stored = metrics.get(name)
        if stored is None:
            continue
        found = float(np.average(score(predictions), weights=predictions.weight))
        if not math.isclose(found, stored, rel_tol=_AGREEMENT, abs_tol=_AGREEMENT):
            return (
                f"its predictions give a test {name} of {found:.6g}, its result.json says "
                f"{stored:.6g}"
            )
    return None


def _modified(path: epath.Path) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(path.stat().mtime, datetime.UTC)
    except OSError:
        return None
