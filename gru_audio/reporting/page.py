"""The report as one HTML page that needs nothing but itself.

This file says what stands on the page, as text and figures; `page.html.jinja` says where and how.
"""

import json
import pathlib
from typing import Any

import jinja2

from gru_audio.reporting import figures, statistics, wording
from gru_audio.reporting.comparison import Arm, Comparison, Pair
from gru_audio.reporting.results import Run
from gru_audio.sweeping.status import FINISHED, Standing

_MINUTE = "%Y-%m-%d %H:%M UTC"
_SHOWN_PAIRS = 10  # more are left to the table
_TELLING_RATIO = 1.25  # of the dearest to the cheapest arm, from which cost is worth a figure


def render(comparison: Comparison) -> str:
    """The page, from a comparison that may lack runs, arms or all of them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    results = comparison.results
    title, _, details = results.description.strip().partition("\n")
    return environment.get_template("page.html.jinja").render(
        experiment=results.experiment,
        title=title.rstrip(".") or results.experiment,
        details=details.strip("\n"),
        headline=wording.headline(comparison),
        evidence=wording.evidence(comparison),
        metric=results.metric,
        classes=len(results.class_names),
        colours=figures.ARM_COLOURS,
        finished=sum(run.standing.state == FINISHED for run in results.runs),
        planned=len(results.runs),
        progress=wording.progress(results),
        legend=[(a.name, figures.arm_variable(comparison, a.name)) for a in comparison.arms],
        arms=[_arm(comparison, arm) for arm in comparison.arms],
        drawn=any(arm.draws > 1 for arm in comparison.arms),
        pairs=[_pair(comparison, pair) for pair in comparison.pairs],
        figures=_figures(comparison),
        confusions=[
            (arm.name, figures.confusion(comparison, arm))
            for arm in comparison.arms
            if results.class_names
        ],
        runs=[_run(comparison, run) for run in results.runs],
        missing=[_missing(run) for run in results.runs if run.standing.state != FINISHED],
        unread=[
            run.name
            for run in results.runs
            if run.standing.state == FINISHED and not run.predictions.example.size
        ],
        command=results.command,
        environment=_environment(comparison),
        differences=_differences(comparison),
        config="\n".join(f"{name} = {json.dumps(v)}" for name, v in results.config.items()),
        sampling=wording.sampling(comparison),
        cautions=wording.cautions(comparison),
        resamples=f"{statistics.RESAMPLES:,}",
        count_pairs=len(comparison.pairs),
    )


def _arm(comparison: Comparison, arm: Arm) -> dict[str, Any]:
    scale = wording.scale_of(comparison.results.metric)
    memory = [run.result.get("peak_memory_bytes") for run in arm.runs]
    return {
        "name": arm.name,
        "colour": figures.arm_variable(comparison, arm.name),
        "value": scale.value(arm.estimate.value),
        "interval": scale.interval(arm.estimate),
        "parameters": wording.number(wording.parameters(arm.runs, "total")),
        "recurrent": wording.number(wording.parameters(arm.runs, "recurrent")),
        "time": wording.duration(wording.mean_result(arm.runs, "seconds")),
        "rate": wording.number(wording.mean_result(arm.runs, "steps_per_second")),
        "memory": wording.memory(max((m for m in memory if m), default=None)),
        "replicates": f"{len(arm.runs)} of {arm.planned}",
        "draw": wording.setting(arm.draw) or wording.NOTHING,
        "draws": wording.selected(arm, comparison.results),
    }


def _pair(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    scale = wording.scale_of(comparison.results.metric)
    return {
        "names": f"{pair.first} {wording.MINUS} {pair.second}",
        "difference": scale.difference(pair.difference.value, sign=True),
        "interval": scale.interval(pair.difference),
        "p": wording.bare_p(pair.p),
        "replicates": pair.replicates,
        "words": wording.pair(pair, comparison),
    }


def _figures(comparison: Comparison) -> dict[str, Any]:
    """The figures by name; those with nothing to show are None."""
    arms, metric = comparison.arms, comparison.results.metric
    if not arms:
        return {"metric": None, "differences": None, "curves": [], "costs": []}
    shown = comparison.pairs
    if len(shown) > _SHOWN_PAIRS:
        shown = tuple(pair for pair in shown if pair.first == arms[0].name)
    curves = [
        figures.learning_curve(comparison, name) for name in ("train/loss", f"validation/{metric}")
    ]
    return {
        "metric": figures.test_metric(comparison),
        "differences": figures.differences(comparison, shown) if shown else None,
        "curves": [curve for curve in curves if curve],
        "costs": _cost_figures(comparison),
    }


def _cost_figures(comparison: Comparison) -> list[str]:
    """The test metric against what an arm costs, where that says more than the table of arms."""
    arms = comparison.arms
    costs: dict[str, list[float | None]] = {
        "parameters": [wording.parameters(arm.runs, "total") for arm in arms],
        "seconds of training": [wording.mean_result(arm.runs, "seconds") for arm in arms],
    }
    drawn = []
    for label, cost in costs.items():
        known = [value for value in cost if value]
        if len(known) == len(arms) >= 3 and max(known) >= _TELLING_RATIO * min(known):
            drawn.append(figures.metric_against_cost(comparison, known, label))
    return drawn


def _run(comparison: Comparison, run: Run) -> dict[str, Any]:
    scale = wording.scale_of(comparison.results.metric)
    result = run.result
    chosen = any(run in arm.runs for arm in comparison.arms)
    selection = run.metric(comparison.results.selection)
    test = run.metric(f"test/{comparison.results.metric}")
    return {
        "arm": run.arm,
        "colour": figures.arm_variable(comparison, run.arm),
        "draw": wording.setting(run.draw) or wording.NOTHING,
        "replicate": wording.setting(run.replicate) or wording.NOTHING,
        "state": run.standing.state,
        "chosen": chosen,
        "selection": wording.number(selection),
        "test": wording.NOTHING if test is None else scale.value(test),
        "steps": wording.number(result.get("steps")),
        "best_step": wording.number(result.get("best_step")),
        "time": wording.duration(result.get("seconds")),
        "compile": wording.duration(result.get("compile_seconds")),
    }


def _missing(run: Run) -> dict[str, str]:
    standing = run.standing
    setting = wording.setting({**run.draw, **run.replicate})
    why = standing.failure or _last_heard(standing)
    return {"name": run.name, "setting": setting, "state": standing.state, "why": why}


def _last_heard(standing: Standing) -> str:
    if standing.heartbeat is None:
        return ""
    when = standing.heartbeat.strftime(_MINUTE)
    return f"step {standing.step:,} of {standing.steps:,} on {standing.host}, {when}"


def _environment(comparison: Comparison) -> list[tuple[str, str]]:
    results = comparison.results
    rows = [
        (
            name.replace("_", " "),
            ", ".join(map(str, value)) if isinstance(value, list) else str(value),
        )
        for name, value in results.environment.items()
        if value is not None
    ]
    if results.first:
        rows.append(("set up", results.first.strftime(_MINUTE)))
    if results.last:
        rows.append(("last run finished", results.last.strftime(_MINUTE)))
    seconds = [r.result["seconds"] for r in results.runs if r.result.get("seconds")]
    if seconds:
        rows.append(("training time of all runs", wording.duration(sum(seconds))))
    return rows


def _differences(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Config keys that differ between arms, with the value of each arm; replicates aside."""
    runs = [arm.runs[0] for arm in comparison.arms]
    varied = {name for run in comparison.results.runs for name in run.replicate}
    names = sorted({name for run in runs for name in run.config} - varied)
    rows = [(name, [json.dumps(run.config.get(name)) for run in runs]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
