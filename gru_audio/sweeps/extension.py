"""Raises the number of steps of an existing sweep, if this gives the result of a new sweep."""

from collections.abc import Mapping
from typing import Any

from gru_audio.settings import UserError
from gru_audio.sweeps.status import settings_of

_STEPS = "config.train.steps"


def raises_steps(there: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the runs of a sweep go on to more steps; False if one of them would have fewer.

    The result must be that of a run which had as many steps from its beginning. So the schedule may
    not depend on their number, no run may have been evaluated at its end alone, and all runs that
    go on are at the same step as their group.

    Args:
      there: the sweep as its workdir describes it.
      now: the same sweep, but for `train.steps` of its config.

    Raises:
      UserError: they cannot go on; says why.
    """
    before, after = (
        {entry["run"]: settings_of(sweep, entry) for entry in sweep["runs"]}
        for sweep in (there, now)
    )
    last: dict[str, int] = {}  # step of each group
    for entry in there["runs"]:
        steps = before[entry["run"]]["train.steps"]
        last[entry["group"]] = max(steps, last.get(entry["group"], 0))
    for entry in there["runs"]:
        run = entry["run"]
        settings, steps = before[run], before[run]["train.steps"]
        if after[run]["train.steps"] < steps:
            return False
        if after[run]["train.steps"] == steps:
            continue
        if reason := _hindrance(settings, steps, last[entry["group"]]):
            raise UserError(
                f"Run {run} of {steps} steps cannot go on to {after[run]['train.steps']}: {reason} "
                f"Take another --workdir, or go back to {_STEPS}={there['config']['train.steps']}."
            )
    return True


def _hindrance(settings: Mapping[str, Any], steps: int, of_group: int) -> str:
    """Why a run cannot go on beyond its steps; "" if it can."""
    schedule, every = settings["optimizer.schedule"], settings["train.eval_every"]
    if schedule != "constant":
        return (
            f"config.optimizer.schedule={schedule} spreads the learning rate over all steps, so a "
            "longer run differs from its beginning; only constant does not."
        )
    if settings["data.validation"] and steps % every:
        return (
            f"its end is no multiple of config.train.eval_every={every}, and a longer run would "
            "not be evaluated there."
        )
    if steps < of_group:
        return f"other runs of its program have gone on to step {of_group} without it."
    return ""
