"""Renders the report as one self-contained HTML page.

This file computes the texts and figures of the page; `page.html.jinja` defines the layout.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from gru_audio.data.signal import Signal
from gru_audio.reports import alignments, context, event_plots, figures, media, svg, wording
from gru_audio.reports.baselines import Baseline
from gru_audio.reports.comparison import Comparison, Variant
from gru_audio.reports.disagreement import Disagreement, VariantPrediction
from gru_audio.reports.figure_set import FigureSet
from gru_audio.reports.gate_plots import Excerpt, Excerpts, LayerGates
from gru_audio.reports.results import Run
from gru_audio.reports.verdicts import Pair
from gru_audio.sweeps.status import FINISHED, RunState
from gru_audio.tasks.scale import PERCENT

_MINUTE = "%Y-%m-%d %H:%M UTC"
_TIMES = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)  # steps between ticks
_MOST_TICKS, _LAST_TICK = 5, 0.85  # number and end of the ticks, which leave space for the last


def render(
    comparison: Comparison,
    drawn: FigureSet,
    disagreements: Sequence[Disagreement],
    shown: Excerpts,
    sections: Mapping[str, Any],
) -> str:
    """Returns the HTML page. The comparison may lack runs, variants, or all of them.

    Args:
      comparison: the comparison of the variants.
      drawn: its figures; the page links to their files in the folder `figures`.
      disagreements: the examples to show.
      shown: the excerpts of these examples, as far as available.
      sections: the sections of `sections.read_sections`.
    """
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
        metric=results.metric.title,
        clock=wording.clock(results)[1],
        selection=results.selection.replace("/", " "),
        classes=len(results.task.output_names),
        output_words=results.task.output_words,
        output_metric=results.task.output_metric.title,
        example_metric=results.task.example_metric,
        colours=svg.COLOURS,
        data=context.data(comparison),
        notes=context.notes(comparison),
        finished=sum(run.run_state.state == FINISHED for run in results.runs),
        planned=len(results.runs),
        progress=wording.progress(results),
        legend=[(a.name, figures.colour_variable(comparison, a.name)) for a in comparison.variants],
        variants=[_variant(comparison, variant) for variant in comparison.variants],
        baselines=[_baseline(comparison, each) for each in context.baselines(comparison)],
        drawn=any(variant.trials > 1 for variant in comparison.variants),
        pairs=[_pair(comparison, pair) for pair in comparison.pairs],
        figures=drawn,
        errors=[_errors(comparison, each) for each in alignments.errors(comparison)],
        examples=[_example(comparison, each, shown) for each in disagreements],
        gate_model=wording.gate_model(shown),
        not_shown=shown.missing,
        runs=[_run(comparison, run) for run in results.runs],
        missing=[_missing(run) for run in results.runs if run.run_state.state != FINISHED],
        damages=wording.damages(comparison),
        command=results.command,
        environment=_environment(comparison),
        differences=_differences(comparison),
        config="\n".join(f"{name} = {json.dumps(v)}" for name, v in results.config.items()),
        sampling=wording.sampling(comparison),
        cautions=wording.cautions(comparison),
        count_pairs=len(comparison.pairs),
        **sections,
    )


def _variant(comparison: Comparison, variant: Variant) -> dict[str, Any]:
    scale = comparison.results.metric.scale
    seconds, _ = wording.clock(comparison.results)
    memory = [run.result.get("peak_memory_bytes") for run in variant.runs]
    return {
        "name": variant.name,
        "colour": figures.colour_variable(comparison, variant.name),
        "value": scale.value(variant.estimate.value),
        "interval": scale.interval(variant.estimate),
        "parameters": wording.number(wording.parameters(variant.runs, "total")),
        "recurrent": wording.number(wording.parameters(variant.runs, "recurrent")),
        "time": wording.duration(wording.mean_result(variant.runs, seconds)),
        "rate": wording.number(wording.mean_result(variant.runs, "steps_per_second")),
        "utilisation": wording.utilisation(variant.runs),
        "memory": wording.memory(max((m for m in memory if m), default=None)),
        "replicates": f"{len(variant.runs)} of {variant.planned}",
        "trial": wording.setting(variant.trial) or wording.NOTHING,
        "trials": wording.selected(variant, comparison.results),
    }


def _baseline(comparison: Comparison, baseline: Baseline) -> dict[str, str]:
    return {
        "name": baseline.name,
        "about": context.about(comparison, baseline),
        "value": comparison.results.metric.scale.value(baseline.value),
    }


def _pair(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    scale = comparison.results.metric.scale
    return {
        "names": wording.pair_name(pair),
        "difference": scale.difference(pair.difference.value, sign=True),
        "interval": scale.interval(pair.difference),
        "p": wording.bare_p(pair.p),
        "replicates": pair.replicates,
        "words": wording.pair(pair, scale),
    }


def _errors(comparison: Comparison, each: alignments.Errors) -> dict[str, Any]:
    def share(count: float, of: int) -> str:
        return PERCENT.value(count / of) if of else wording.NOTHING

    words, characters = each.words, each.characters
    return {
        "name": each.variant,
        "colour": figures.colour_variable(comparison, each.variant),
        "words": share(words.errors, words.length),
        "kinds": [share(count, words.length) for count in words[:3]],
        "characters": share(characters.errors, characters.length),
        "sentences": PERCENT.value(each.sentences),
    }


def _example(comparison: Comparison, each: Disagreement, shown: Excerpts) -> dict[str, Any]:
    """Returns an example on which the variants differ, with their predictions and its excerpt."""
    results, names = comparison.results, comparison.results.cluster_names
    excerpt = shown.excerpts.get(each.example)
    clip = shown.clips.get(each.example)
    number = f"example {each.example} of {results.config.get('data.name', 'the data set')}"
    return {
        "label": each.truth or clip or number,
        "clip": clip,
        "number": number,
        "cluster": names[each.cluster] if 0 <= each.cluster < len(names) else None,
        "by_variant": [
            _prediction(comparison, prediction, each.truth) for prediction in each.by_variant
        ],
        "excerpt": excerpt and excerpt_view(excerpt) | _events(comparison, each.example, excerpt),
    }


def _prediction(
    comparison: Comparison, prediction: VariantPrediction, truth: str | None
) -> dict[str, Any]:
    return {
        "variant": prediction.variant,
        "colour": figures.colour_variable(comparison, prediction.variant),
        "value": comparison.results.task.example_metric.scale.value(prediction.value),
        "right": None if prediction.right is None else f"{prediction.right} of {prediction.runs}",
        "answer": prediction.answer,
        "words": list(alignments.marked(truth or "", prediction.answer or ""))
        if comparison.results.task.predicts == "text"
        else None,
        "wrong": prediction.answer != truth,
    }


def excerpt_view(excerpt: Excerpt) -> dict[str, Any]:
    """Returns an excerpt's media as data URIs, with positions in percent of its duration."""
    signal, steps = excerpt.signal, len(excerpt.steps)
    shown: dict[str, Any] = {
        "title": "Log-mel spectrogram" if signal.is_sound else "Frames, value by value",
        "picture": media.shade(excerpt.picture),
        "audio": media.mp3(excerpt.steps, signal.rate) if signal.is_sound else None,
        "waveform": media.waveform(excerpt.steps) if signal.is_sound else None,
        "length": wording.length(steps, signal),
        "times": times(steps, signal),
        "rows": excerpt.rows,
        "cut": wording.length(excerpt.length, signal) if excerpt.length > steps else None,
        "gates": [],
    }
    return shown | (_gates(excerpt.layer_gates, steps) if excerpt.layer_gates else {})


def times(steps: int, signal: Signal) -> list[tuple[str, float]]:
    """Returns the ticks of the time axis, as text and position in percent."""
    seconds = signal.is_sound
    whole, unit = (steps / signal.rate, "s") if seconds else (float(steps), "frames")
    choices = [t for t in _TIMES if seconds or t >= 1]
    between = next((t for t in choices if whole / t <= _MOST_TICKS), whole)
    count = int(_LAST_TICK * whole / between) + 1
    ticks = [(f"{i * between:g}", 100 * i * between / whole) for i in range(count)]
    last = f"{whole:.3g}" if seconds else f"{whole:.0f}"
    return [*ticks, (f"{last}{wording.SPACE}{unit}", 100.0)]


def _events(comparison: Comparison, example: int, excerpt: Excerpt) -> dict[str, Any]:
    rows = event_plots.bar_rows(comparison, example, excerpt)
    reference = event_plots.REFERENCE
    return {
        "events": [
            (row, figures.colour_variable(comparison, row.name) if row.name != reference else None)
            for row in rows
        ]
    }


def _gates(layer_gates: LayerGates, steps: int) -> dict[str, Any]:
    return {
        "gates": [(name, media.shade(values)) for name, values in layer_gates.gates.items()],
        "start": 100 * layer_gates.start / steps,
        "width": 100 * layer_gates.duration / steps,
    }


def _run(comparison: Comparison, run: Run) -> dict[str, Any]:
    scale = comparison.results.metric.scale
    result = run.result
    chosen = any(run in variant.runs for variant in comparison.variants)
    selection = run.metric(comparison.results.selection)
    test = run.metric(f"test/{comparison.results.metric.name}")
    return {
        "variant": run.variant,
        "colour": figures.colour_variable(comparison, run.variant),
        "trial": wording.setting(run.trial) or wording.NOTHING,
        "replicate": wording.setting(run.replicate) or wording.NOTHING,
        "state": run.run_state.state,
        "chosen": chosen,
        "selection": wording.number(selection),
        "test": wording.NOTHING if test is None else scale.value(test),
        "steps": wording.number(result.get("steps")),
        "best_step": wording.number(result.get("best_step")),
        "time": wording.duration(result.get(wording.clock(comparison.results)[0])),
        "compile": wording.duration(result.get("compile_seconds")),
    }


def _missing(run: Run) -> dict[str, str]:
    run_state = run.run_state
    setting = wording.setting({**run.trial, **run.replicate})
    why = run_state.failure or _last_heartbeat(run_state)
    return {"name": run.name, "setting": setting, "state": run_state.state, "why": why}


def _last_heartbeat(run_state: RunState) -> str:
    if run_state.heartbeat is None:
        return ""
    when = run_state.heartbeat.strftime(_MINUTE)
    return f"step {run_state.step:,} of {run_state.steps:,} on {run_state.host}, {when}"


def _environment(comparison: Comparison) -> list[tuple[str, str]]:
    results = comparison.results
    rows = [
        (name.replace("_", " "), ", ".join(map(str, values)))
        for name, values in results.environment.items()
    ]
    if results.first:
        rows.append(("set up", results.first.strftime(_MINUTE)))
    if results.last:
        rows.append(("last run finished", results.last.strftime(_MINUTE)))
    name, clock = wording.clock(results)
    seconds = [run.result[name] for run in results.runs if run.result.get(name)]
    if seconds:
        rows.append((f"training of all runs, {clock}", wording.duration(sum(seconds))))
    return rows


def _differences(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Returns the config keys that differ between variants, with their values.

    Keys that the replicates change are left out.
    """
    runs = [variant.runs[0] for variant in comparison.variants]
    varied = {name for run in comparison.results.runs for name in run.replicate}
    names = sorted({name for run in runs for name in run.config} - varied)
    rows = [(name, [json.dumps(run.config.get(name)) for run in runs]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
