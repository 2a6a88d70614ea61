"""Where every run of a sweep stands, read from the files of its workdir alone, and without JAX."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from gru_audio.config import UserError
from gru_audio.training import states

FINISHED, FAILED, RUNNING, STALLED, WAITING = (
    "finished",
    "failed",
    "running",
    "stalled",
    "waiting",
)
# Seconds without a heartbeat after which a group has stalled: while it compiles or scores a whole
# split there are none.
_PATIENCE = {states.TRAINING: 60, states.COMPILING: 900, states.SCORING: 900}


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
      run: its name.
      state: one of FINISHED, FAILED, RUNNING, STALLED, WAITING.
      step, steps: how far it has come, and its horizon.
      best: the best value so far of the metric that selects.
      heartbeat: when its group last said what it was doing, if ever.
      host, shard: where that was.
      failure: what went wrong, if it failed.
    """

    run: str
    state: str
    step: int
    steps: int
    best: float | None
    heartbeat: datetime.datetime | None
    host: str | None
    shard: str | None
    failure: str | None


def read_sweep(workdir: epath.Path) -> dict[str, Any]:
    """What `sweep.json` says.

    Raises:
      UserError: there is none.
    """
    path = workdir / "sweep.json"
    sweep = read_json(path)
    if sweep is None:
        raise UserError(
            f"{path} is missing or unreadable: name the workdir of a sweep or of a training run."
        )
    return sweep


def read_standings(
    workdir: epath.Path, sweep: Mapping[str, Any], now: datetime.datetime
) -> list[Standing]:
    """The runs of the sweep, in its order."""
    latest: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for group in sorted(read_groups(workdir), key=lambda group: group["heartbeat"]):
        for run in group["runs"]:
            latest[run["run"]] = group, run  # a run may be in groups of other shards as well
    return [
        _standing(workdir, sweep, entry, *latest.get(entry["run"], ({}, {})), now=now)
        for entry in sweep["runs"]
    ]


def read_groups(workdir: epath.Path) -> list[dict[str, Any]]:
    """What each group has said of itself last; see `training/heartbeat.py`."""
    groups = workdir / "groups"
    found = groups.glob("*/status.json") if groups.exists() else ()
    return [status for path in found if (status := read_json(path)) is not None]


def read_json(path: epath.Path) -> dict[str, Any] | None:
    """What a file holds; None if it is missing or cut short."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _standing(
    workdir: epath.Path,
    sweep: Mapping[str, Any],
    entry: Mapping[str, Any],
    group: Mapping[str, Any],
    run: Mapping[str, Any],
    now: datetime.datetime,
) -> Standing:
    folder = workdir / "runs" / entry["run"]
    settings = {**sweep["config"], **sweep["arms"][entry["arm"]]}
    settings |= {**entry["draw"], **entry["replicate"]}
    heartbeat = datetime.datetime.fromisoformat(group["heartbeat"]) if group else None
    step, best, failure = run.get("step", 0), run.get("best"), None
    if result := read_json(folder / "result.json"):
        split, _, metric = sweep["selection"].partition("/")
        state, step = FINISHED, result["steps"]
        best = (result["metrics"].get(split) or {}).get(metric)
    elif run.get("failure"):
        state, failure = FAILED, run["failure"]
    elif heartbeat and group["state"] in _PATIENCE:
        silence = (now - heartbeat).total_seconds()
        state = RUNNING if silence <= _PATIENCE[group["state"]] else STALLED
    elif failed := read_json(folder / "failure.json"):
        state, failure = FAILED, f"{failed['type']}: {failed['error']}"
    elif group and group["state"] == states.FAILED:
        state, failure = FAILED, group.get("error", "")
    else:
        state = WAITING
    return Standing(
        run=entry["run"],
        state=state,
        step=step,
        steps=settings["train.steps"],
        best=best,
        heartbeat=heartbeat,
        host=group.get("host"),
        shard=group.get("shard"),
        failure=failure,
    )
