"""The runs of a sweep as CSV: one line per run, rounded, without names of users or machines."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gru_audio.reports.comparison import Comparison
from gru_audio.reports.results import Results, Run
from gru_audio.sweeps.status import DAMAGED, FAILED, FINISHED

_COMMIT = 12  # digits that identify a commit
_METRIC, _COST = 6, 4  # significant digits
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # a spreadsheet evaluates such cells


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        run: name of the run.
        variant, trial, replicate: place of the run in the sweep.
        state: "finished", "failed", "damaged" or "unfinished". If the run is not finished, the
            results below are None.
        selected: whether the run belongs to its variant's chosen trial and is compared.
        total_parameters, recurrent_parameters: numbers of parameters.
        steps: updates done.
        step_cap: the most updates that the run may take.
        best_step: the step with the best validation metric.
        dropped_at: the step at which halving dropped the run; None if it was not dropped.
        seconds: the run's share of its program's wall time in training.
        cpu_seconds: likewise, of CPU time; None on an accelerator, or if unknown.
        steps_per_second: updates per second of `seconds`.
        compile_seconds: compile time of the whole program.
        peak_memory_bytes: peak memory of a device.
        metrics: name, such as "test/loss" -> value.
    """

    run: str
    variant: str
    trial: Mapping[str, Any]
    replicate: Mapping[str, Any]
    state: str
    selected: bool
    total_parameters: int | None
    recurrent_parameters: int | None
    steps: int | None
    step_cap: int
    best_step: int | None
    dropped_at: int | None
    seconds: float | None
    cpu_seconds: float | None
    steps_per_second: float | None
    compile_seconds: float | None
    peak_memory_bytes: int | None
    metrics: Mapping[str, float]


def runs_csv(comparison: Comparison) -> str:
    """Returns one line for each run. The last columns describe the sweep: all lines share them."""
    return encode(RunRecord, run_records(comparison), about_sweep(comparison))


def run_records(comparison: Comparison) -> tuple[RunRecord, ...]:
    """Returns the runs in the order of the sweep, finished or not."""
    selected = {run.name for variant in comparison.variants for run in variant.runs}
    return tuple(_record(run, run.name in selected) for run in comparison.results.runs)


def about_sweep(comparison: Comparison) -> dict[str, Any]:
    """Returns the values that all runs of a sweep share.

    They are the experiment's name with its part; the test metric and whether higher is better; the
    smallest difference that matters; the score of a model that ignores its input, or None; and the
    commit, device kind and jax version of the sweep's processes.
    """
    results = comparison.results
    return {
        "experiment": results.experiment,
        "metric": results.metric.name,
        "higher_is_better": results.metric.higher_is_better,
        "margin": rounded(comparison.margin, _METRIC),
        "baseline": rounded(comparison.baseline, _METRIC),
        "commit": _all("commit", results, _short_commit),
        "device": _all("device_kind", results),
        "jax": _all("jax", results),
    }


def encode(kind: type, rows: Sequence[Any], about: Mapping[str, Any] | None = None) -> str:
    """Encodes dataclasses as CSV: a column for each field, each of their `metrics`, and `about`."""
    about = about or {}
    names = [field.name for field in dataclasses.fields(kind) if field.name != "metrics"]
    metrics = sorted({name for row in rows for name in getattr(row, "metrics", ())})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*names, *metrics, *about])
    for row in rows:
        values = [getattr(row, name) for name in names]
        values += [row.metrics.get(name) for name in metrics]
        writer.writerow([_cell(value) for value in (*values, *about.values())])
    return file.getvalue()


def escaped(text: str) -> str:
    """Prefixes text with a quote if a spreadsheet would read it as a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def unescaped(cell: str) -> str:
    """The inverse of `escaped`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULAS) else cell


def rounded(value: float | None, digits: int) -> Any:
    """Rounds a number to `digits` significant digits; None stays None."""
    return None if value is None else float(f"{value:.{digits}g}")


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str):
        return escaped(value)
    return int(value) if isinstance(value, bool) else value


def _record(run: Run, selected: bool) -> RunRecord:
    result = run.result
    sizes = result.get("parameters") or {}
    metrics = {
        f"{split}/{name}": rounded(value, _METRIC)
        for split, values in result.get("metrics", {}).items()
        for name, value in (values or {}).items()
        if value is not None
    }
    memory = rounded(result.get("peak_memory_bytes"), _COST)
    # Running and waiting runs are both "unfinished", so that equal results give equal files.
    states = (FINISHED, FAILED, DAMAGED)
    state = run.run_state.state if run.run_state.state in states else "unfinished"
    return RunRecord(
        run=run.name,
        variant=run.variant,
        trial=run.trial,
        replicate=run.replicate,
        state=DAMAGED if run.damage else state,
        selected=selected,
        total_parameters=sizes.get("total"),
        recurrent_parameters=sizes.get("recurrent"),
        steps=result.get("steps"),
        step_cap=run.run_state.steps,
        best_step=result.get("best_step"),
        dropped_at=result["steps"] if result.get("stopped_at_rung") else None,
        seconds=rounded(result.get("seconds"), _COST),
        cpu_seconds=rounded(result.get("cpu_seconds"), _COST),
        steps_per_second=rounded(result.get("steps_per_second"), _COST),
        compile_seconds=rounded(result.get("compile_seconds"), _COST),
        peak_memory_bytes=None if memory is None else int(memory),
        metrics=metrics,
    )


def _all(name: str, results: Results, form: Callable[[str], str] = str) -> str:
    """Returns the values of an entry of the environment, joined by "and"."""
    return " and ".join(form(str(value)) for value in results.environment.get(name, ()))


def _short_commit(commit: str) -> str:
    digits, plus, changes = commit.partition("+")
    return digits[:_COMMIT] + plus + changes
