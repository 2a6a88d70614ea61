"""The rounds of a search: their scores are read from the results of the workdir."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

from gru_audio.sweeps.halving import Halving
from gru_audio.sweeps.optuna import Outcome, Search
from gru_audio.sweeps.planning import Plan
from gru_audio.sweeps.status import read_json
from gru_audio.sweeps.sweep import Run, Sweep
from gru_audio.sweeps.workdir import Workdir
from gru_audio.tasks.metrics import Metric, metrics_of, selected
from gru_audio.training import distributed


def next_round(planned: Plan, workdir: Workdir) -> Sweep | None:
    """Returns the sweep with one more round of trials, which follow from the results so far.

    Args:
      planned: the sweep with all earlier rounds, which have been trained.
      workdir: of the sweep.

    Returns:
      None if there is no further round, or if the trials were given from the start.
    """
    sweep, search = planned.sweep, planned.sweep.trials
    if not isinstance(search, Search) or planned.runs[-1].round == search.rounds:
        return None
    metric = selected(metrics_of(planned.programs[0].task), planned.description["selection"])
    replicates: dict[str, dict[tuple[int, str], list[Run]]] = {name: {} for name in sweep.variants}
    for run in planned.runs:
        place = run.round, json.dumps(run.trial)
        replicates[run.variant].setdefault(place, []).append(run)

    def outcomes() -> dict[str, list[list[Outcome]]]:
        found: dict[str, list[list[Outcome]]] = {}
        for variant, of_variant in replicates.items():
            found[variant] = [[] for _ in range(planned.runs[-1].round)]
            for (number, _), runs in of_variant.items():
                outcome = _outcome(workdir, runs, metric, sweep.halving)
                found[variant][number - 1].append(outcome)
        return found

    scores = {
        variant: [[Outcome(*each) for each in of_round] for of_round in rounds]
        for variant, rounds in distributed.broadcast(outcomes).items()  # JSON has no tuples
    }
    return replace(sweep, trials=replace(search, outcomes=scores))


def _outcome(
    workdir: Workdir, runs: Sequence[Run], metric: Metric, halving: Halving | None
) -> Outcome:
    """Returns the score of a trial from the results of its replicates."""
    results = [read_json(workdir.run(run.name) / "result.json") or {} for run in runs]
    values = [
        ((found.get("metrics") or {}).get("validation") or {}).get(metric.name) for found in results
    ]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    mean = math.fsum(finite) / len(finite) if len(finite) == len(runs) else None
    value = -mean if mean is not None and metric.higher_is_better else mean
    dropped = min((found.get("stopped_at_rung") or 0 for found in results), default=0)
    return Outcome(value, halving.rungs[dropped - 1] if halving and dropped else 0)
