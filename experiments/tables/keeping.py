"""From a comparison to what is kept of it: rounded, thinned, and without traces of a machine."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.tables.kept import Kept, KeptPair, KeptPoint, KeptRun
from gru_audio.reporting.comparison import Comparison
from gru_audio.reporting.results import Curve, Results, Run
from gru_audio.reporting.verdicts import Difference
from gru_audio.sweeping.status import DAMAGED, FAILED, FINISHED

POINTS = 60  # of the curves of a run, at most

_COMMIT = 12  # digits of a commit that tell it from others
_METRIC, _CURVE, _VARIANCE, _COST = 6, 5, 6, 4  # significant digits


def keep(comparison: Comparison) -> Kept:
    """What is kept of a sweep, which need not be finished."""
    results = comparison.results
    chosen = [run for arm in comparison.arms for run in arm.runs]
    names = {run.name for run in chosen}
    return Kept(
        experiment=results.experiment,
        metric=results.metric,
        higher_is_better=results.higher_is_better,
        margin=_rounded(comparison.margin, _METRIC),
        baseline=_rounded(comparison.baseline, _METRIC),
        commit=_all("commit", results, _short_commit),
        device=_all("device_kind", results),
        jax=_all("jax", results),
        runs=tuple(_run(run, run.name in names) for run in results.runs),
        pairs=tuple(map(_pair, comparison.differences)),
        curves=tuple(itertools.chain.from_iterable(map(_curves, chosen))),
    )


def _run(run: Run, selected: bool) -> KeptRun:
    result = run.result
    sizes = result.get("parameters") or {}
    metrics = {
        f"{split}/{name}": _rounded(value, _METRIC)
        for split, values in result.get("metrics", {}).items()
        for name, value in (values or {}).items()
        if value is not None
    }
    # Whether a run is running or waiting changes by the minute: both are "unfinished".
    states = (FINISHED, FAILED, DAMAGED)
    state = run.standing.state if run.standing.state in states else "unfinished"
    return KeptRun(
        run=run.name,
        arm=run.arm,
        draw=run.draw,
        replicate=run.replicate,
        state=DAMAGED if run.damage else state,
        selected=selected,
        total_parameters=sizes.get("total"),
        recurrent_parameters=sizes.get("recurrent"),
        steps=result.get("steps"),
        step_cap=run.standing.steps,
        best_step=result.get("best_step"),
        dropped_at=result["steps"] if result.get("stopped_at_rung") else None,
        metrics=metrics,
        **_costs(result),
    )


def _costs(result: Mapping[str, Any]) -> dict[str, Any]:
    names = ("seconds", "cpu_seconds", "steps_per_second", "compile_seconds")
    costs = {name: _rounded(result.get(name), _COST) for name in names}
    memory = _rounded(result.get("peak_memory_bytes"), _COST)
    return costs | {"peak_memory_bytes": None if memory is None else int(memory)}


def _pair(difference: Difference) -> KeptPair:
    parts = dataclasses.asdict(difference.components)
    replicates = parts.pop("replicates")
    rounded = {name: _rounded(value, _VARIANCE) for name, value in parts.items()}
    return KeptPair(difference.first, difference.second, replicates=replicates, **rounded)


def _curves(run: Run) -> list[KeptPoint]:
    """Moments at which validation was looked at, or any loss was logged if it never was."""
    curves = {n: c for n, c in run.curves.items() if n.startswith(("train/loss", "validation/"))}
    looked = {n: c for n, c in curves.items() if n != "train/loss"} or curves
    if not looked:
        return []
    steps = np.unique(np.concatenate([curve.steps for curve in looked.values()]))
    steps = steps[steps <= run.result["steps"]]
    if steps.size > POINTS:
        steps = steps[np.linspace(0, steps.size - 1, POINTS).round().astype(int)]
    second = run.result["seconds"] / run.result["steps"]  # a step, by the run's share
    return [
        KeptPoint(
            run=run.name,
            step=int(step),
            seconds=_rounded(second * step, _CURVE),
            metrics={n: v for n, c in curves.items() if (v := _latest(c, step)) is not None},
        )
        for step in steps
    ]


def _latest(curve: Curve, step: int) -> float | None:
    """The last value of a curve up to a step, if there is one."""
    count = np.searchsorted(curve.steps, step, side="right")
    return _rounded(curve.values[count - 1], _CURVE) if count else None


def _all(name: str, results: Results, form: Callable[[str], str] = str) -> str:
    """What ran the sweep; all that did, where it was resumed elsewhere."""
    return " and ".join(form(str(value)) for value in results.environment.get(name, ()))


def _short_commit(commit: str) -> str:
    digits, plus, changes = commit.partition("+")
    return digits[:_COMMIT] + plus + changes


def _rounded(value: float | None, digits: int) -> Any:
    """A number to so many significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")
