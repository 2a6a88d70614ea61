"""The comparison as a Markdown table, and every run as a line of CSV."""

import csv
import io
import json

from gru_audio.reporting import wording
from gru_audio.reporting.comparison import Comparison


def markdown(comparison: Comparison) -> str:
    """Headline, a table of arms and a table of pairs, for a README."""
    metric = comparison.results.metric
    scale = wording.scale_of(metric)
    lines = [f"**{wording.headline(comparison)}.** {wording.evidence(comparison)}", ""]
    if progress := wording.progress(comparison.results):
        lines += [progress, *wording.cautions(comparison), ""]
    if comparison.arms:
        lines += _row(
            "arm", f"test {metric}", "95 % interval", "parameters", "time a run", "replicates"
        )
        lines += _row("---", "---:", "---:", "---:", "---:", "---:")
    for arm in comparison.arms:
        lines += _row(
            arm.name,
            scale.value(arm.estimate.value),
            scale.interval(arm.estimate),
            wording.number(wording.parameters(arm.runs, "total")),
            wording.duration(wording.mean_result(arm.runs, "seconds")),
            str(len(arm.runs)),
        )
    if comparison.pairs:
        lines += [
            "",
            *_row("difference", f"test {metric}", "95 % interval", "p (Holm)", "in words"),
        ]
        lines += _row("---", "---:", "---:", "---:", "---")
    for pair in comparison.pairs:
        lines += _row(
            f"{pair.first} {wording.MINUS} {pair.second}",
            scale.difference(pair.difference.value, sign=True),
            scale.interval(pair.difference),
            wording.bare_p(pair.p),
            wording.pair(pair, comparison),
        )
    return "\n".join(lines) + "\n"


def results_csv(comparison: Comparison) -> str:
    """One line a run: where it stands in the sweep, its state, its metrics and what it cost."""
    results = comparison.results
    chosen = {run.name for arm in comparison.arms for run in arm.runs}
    metrics = sorted(
        {
            f"{split}/{name}"
            for run in results.runs
            for split, values in run.result.get("metrics", {}).items()
            for name in values or {}
        }
    )
    places = ("experiment", "run", "arm", "draw", "replicate", "state", "selected")
    sizes = ("total", "recurrent")
    costs = ["steps", "best_step", "seconds", "steps_per_second", "compile_seconds"]
    costs += ["peak_memory_bytes"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [*places, *metrics, *(f"{kind}_parameters" for kind in sizes), *costs, "commit", "device"]
    )
    for run in results.runs:
        writer.writerow(
            [
                results.experiment,
                run.name,
                run.arm,
                json.dumps(run.draw, sort_keys=True),
                json.dumps(run.replicate, sort_keys=True),
                run.standing.state,
                int(run.name in chosen),
                *(run.metric(name) for name in metrics),
                *((run.result.get("parameters") or {}).get(kind) for kind in sizes),
                *(run.result.get(name) for name in costs),
                results.environment.get("commit"),
                results.environment.get("device_kind"),
            ]
        )
    return file.getvalue()


def _row(*cells: str) -> list[str]:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return [f"| {' | '.join(escaped)} |"]
