"""The state of every run of a sweep, read from the files of its workdir, without JAX."""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from gru_audio import files
from gru_audio.files import matching
from gru_audio.settings import UserError
from gru_audio.training import logging

FINISHED, FAILED, DAMAGED, RUNNING, STALLED, STOPPED, WAITING = (
    "finished",
    "failed",
    "damaged",
    "running",
    "stalled",
    "stopped",
    "waiting",
)
# Seconds without a heartbeat after which a group counts as stalled. A group sends no heartbeat
# while it compiles or scores a whole split. Since clocks differ, a heartbeat may also be this many
# seconds in the future.
_PATIENCE = {logging.TRAINING: 60, logging.COMPILING: 900, logging.SCORING: 900}


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes:
      run: name of the run.
      state: one of FINISHED, FAILED, DAMAGED, RUNNING, STALLED, STOPPED (by Ctrl-C), WAITING.
      step, steps: updates done, and the most that the run may take.
      best: best value so far of the selection metric.
      heartbeat: time of the last status of its group; None if there is none.
      host, shard: host and shard of that status.
      failure: the error, if the run failed or its result is damaged.
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
    """Reads `sweep.json`.

    Raises:
      UserError: the file is missing, unreadable or damaged.
    """
    path = workdir / "sweep.json"
    sweep = current_names(read_json(path))
    if sweep is None:
        raise UserError(
            f"{path} is missing or unreadable: name the workdir of a sweep or of a training run."
        )
    if wrong := _wrong_sweep(sweep):
        raise UserError(f"{path} is damaged ({wrong}). The sweep's command can write it again.")
    return sweep


def current_names(sweep: Any) -> Any:
    """Renames the keys of a `sweep.json` from an earlier version to the current ones."""
    if not isinstance(sweep, dict):
        return sweep
    sweep = {{"arms": "variants", "draws": "trials"}.get(key, key): v for key, v in sweep.items()}
    if isinstance(sweep.get("runs"), list):
        names = {"arm": "variant", "draw": "trial"}
        sweep["runs"] = [
            {names.get(key, key): value for key, value in run.items()}
            if isinstance(run, dict)
            else run
            for run in sweep["runs"]
        ]
    return sweep


def read_run_states(
    workdir: epath.Path, sweep: Mapping[str, Any], now: datetime.datetime
) -> list[RunState]:
    """Returns the state of each run, in the order of the sweep."""
    latest: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for group in sorted(read_groups(workdir), key=lambda group: _credible(group, now)):
        for run in group["runs"]:
            latest[run["run"]] = group, run  # groups of several shards may contain the run
    return [
        _standing(workdir, sweep, entry, *latest.get(entry["run"], ({}, {})), now=now)
        for entry in sweep["runs"]
    ]


def _credible(group: Mapping[str, Any], now: datetime.datetime) -> tuple[bool, datetime.datetime]:
    """Sort key of a group: its heartbeat. Heartbeats far in the future come first."""
    heartbeat = datetime.datetime.fromisoformat(group["heartbeat"]).astimezone()
    ahead = (heartbeat - now).total_seconds()
    return ahead <= max(_PATIENCE.values()), heartbeat


def read_groups(workdir: epath.Path) -> list[dict[str, Any]]:
    """Returns the last status of each group, as `Checkpointer.heartbeat` wrote it."""
    folders = matching(workdir / "groups", "*")
    statuses = (read_json(folder / "status.json") for folder in folders)
    return [status for status in statuses if status is not None and _is_status(status)]


def read_json(path: epath.Path) -> dict[str, Any] | None:
    """Returns the object in a JSON file; None if the file is missing, damaged or not an object."""
    try:
        value = files.read_json(path, finite=False)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def wrong_result(result: Mapping[str, Any], run: str) -> str | None:
    """Returns what is wrong with the contents of a run's `result.json`; None if nothing is."""
    if result.get("run") != run:
        return f'it is the result of run "{result.get("run")}"'
    for name in ("steps", "seconds", "metrics"):
        if name not in result:
            return f'it has no "{name}"'
    if not _is_count(result["steps"]) or not _is_number(result["seconds"]):
        return '"steps" and "seconds" must be numbers'
    splits = result["metrics"]
    if not isinstance(splits, Mapping) or not all(
        isinstance(values, Mapping | None) for values in splits.values()
    ):
        return '"metrics" must hold an object for each split'
    for split, values in splits.items():
        for name, value in (values or {}).items():
            if not (value is None or _is_number(value)):
                return f"metrics/{split}/{name} must be a number"
    for name in ("parameters", "environment"):
        if not isinstance(result.get(name), Mapping | None):
            return f'"{name}" must be an object'
    for name in ("best_step", "steps_per_second", "compile_seconds", "peak_memory_bytes"):
        if not (result.get(name) is None or _is_number(result[name])):
            return f'"{name}" must be a number'
    return None


def is_finished(result: Mapping[str, Any], steps: int) -> bool:
    """Whether a result is that of a run of so many steps, to which it may have been extended."""
    return result.get("stopped_early", True) or result["steps"] >= steps


def settings_of(sweep: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run, one of the sweep's "runs", by dotted names."""
    return {
        **sweep["config"],
        **sweep["variants"][entry["variant"]],
        **entry["trial"],
        **entry["replicate"],
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value > 0 and value == int(value)


def _wrong_sweep(sweep: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with the contents of `sweep.json`; None if nothing is."""
    kinds = {
        "experiment": str,
        "metric": str,
        "selection": str,
        "target": str,
        "config": dict,
        "variants": dict,
        "class_names": list,
        "runs": list,
    }
    for name, kind in kinds.items():
        if not isinstance(sweep.get(name), kind):
            return f'"{name}" is missing or has the wrong type'
    for entry in sweep["runs"]:
        fields = {"run": str, "variant": str, "trial": dict, "replicate": dict}
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), kind) for name, kind in fields.items()
        ):
            return 'an entry of "runs" is incomplete'
        if not isinstance(sweep["variants"].get(entry["variant"]), dict):
            return f"run {entry['run']} has an unknown variant"
        if not _is_count(settings_of(sweep, entry).get("train.steps")):
            return f'run {entry["run"]} has no "train.steps"'
    return None


def _is_status(status: Mapping[str, Any]) -> bool:
    """Whether a group's `status.json` is complete."""
    try:
        datetime.datetime.fromisoformat(status["heartbeat"]).astimezone()
        return isinstance(status["state"], str) and all(
            isinstance(run["run"], str) and _is_number(run["step"]) for run in status["runs"]
        )
    except (KeyError, TypeError, ValueError):
        return False


def _standing(
    workdir: epath.Path,
    sweep: Mapping[str, Any],
    entry: Mapping[str, Any],
    group: Mapping[str, Any],
    run: Mapping[str, Any],
    now: datetime.datetime,
) -> RunState:
    folder = workdir / "runs" / entry["run"]
    steps = settings_of(sweep, entry)["train.steps"]
    heartbeat = datetime.datetime.fromisoformat(group["heartbeat"]).astimezone() if group else None
    step, best, failure = run.get("step", 0), run.get("best"), None
    result = read_json(folder / "result.json")
    if result and (wrong := wrong_result(result, entry["run"])):
        state = DAMAGED
        failure = f"result.json is damaged: {wrong}. Delete {folder} to train the run again."
    elif result and is_finished(result, steps):
        split, _, metric = sweep["selection"].partition("/")
        state, step = FINISHED, result["steps"]
        best = (result["metrics"].get(split) or {}).get(metric)
    elif run.get("failure"):
        state, failure = FAILED, run["failure"]
    elif heartbeat and group["state"] in _PATIENCE:
        silence = abs((now - heartbeat).total_seconds())
        state = RUNNING if silence <= _PATIENCE[group["state"]] else STALLED
    elif failed := read_json(folder / "failure.json"):
        state, failure = FAILED, f"{failed.get('type', 'error')}: {failed.get('error', '?')}"
    elif group and group["state"] == logging.FAILED:
        state, failure = FAILED, group.get("error", "")
    elif group and group["state"] == logging.STOPPED:
        state = STOPPED
    else:
        state = WAITING
    return RunState(
        run=entry["run"],
        state=state,
        step=step,
        steps=steps,
        best=best,
        heartbeat=heartbeat,
        host=group.get("host"),
        shard=group.get("shard"),
        failure=failure,
    )
