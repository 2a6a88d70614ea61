"""Writes one page on many sweeps: what each has found, and how variants compare across them."""

import csv
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from etils import epath

from gru_audio.files import matching, write_atomically
from gru_audio.reports import svg, tables, wording
from gru_audio.reports.across import Across, across
from gru_audio.reports.comparison import Comparison, compare
from gru_audio.reports.results import read_results
from gru_audio.settings import UserError
from gru_audio.sweeps.status import FINISHED
from gru_audio.tasks.scale import PERCENT

_DEPTH = 2  # of the workdirs below the folder


def write_overview(folder: epath.PathLike, output: epath.PathLike | None = None) -> epath.Path:
    """Writes `index.html`, `ranks.csv` and `ranks.tex` for all sweeps below a folder.

    Args:
      folder: its folders, or theirs, are workdirs.
      output: folder for the page; by default `overview` in `folder`.

    Returns:
      The path of the page.

    Raises:
      UserError: there are no sweeps.
    """
    folder = epath.Path(folder)
    output = epath.Path(output or folder / "overview")
    comparisons: dict[str, Comparison] = {}
    unread: list[tuple[str, str]] = []
    for workdir in _workdirs(folder, _DEPTH):
        name = str(workdir)[len(str(folder)) :].strip("/")
        try:
            comparisons[name] = compare(read_results(workdir))
        except UserError as error:
            unread.append((name, str(error)))
    if not comparisons and not unread:
        raise UserError(f"There are no workdirs of sweeps in {folder}.")
    found = across({name: _scores(each) for name, each in comparisons.items() if each.variants})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("overview.html.jinja").render(
        colours=svg.PAGE_COLOURS,
        sweeps=[_sweep(folder, output, name, each) for name, each in comparisons.items()],
        unread=unread,
        across=found,
        ranks=_ranks(found),
        improvements=_improvements(found),
    )
    headings = ("Variant", *found.sweeps, "Mean rank")
    write_atomically(output / "ranks.csv", _csv([headings, *_ranks(found)]), shared=True)
    latex = tables.latex(headings, (_ranks(found),)) if found.ranks else []
    text = "\n".join([r"% Needs \usepackage{booktabs}.", *latex, ""])
    write_atomically(output / "ranks.tex", text, shared=True)
    write_atomically(output / "index.html", page, shared=True)
    return output / "index.html"


def _workdirs(folder: epath.Path, depth: int) -> list[epath.Path]:
    if (folder / "sweep.json").exists():
        return [folder]
    if not depth:
        return []
    below = sorted(path for path in matching(folder, "*") if path.is_dir())
    return [workdir for path in below for workdir in _workdirs(path, depth - 1)]


def _scores(comparison: Comparison) -> dict[str, np.ndarray]:
    """Returns the scores of each variant's replicates; higher is better."""
    sign = 1 if comparison.results.metric.higher_is_better else -1
    return {variant.name: sign * np.array(variant.values) for variant in comparison.variants}


def _sweep(
    folder: epath.Path, output: epath.Path, name: str, comparison: Comparison
) -> dict[str, Any]:
    results, scale = comparison.results, comparison.results.metric.scale
    page = folder / name / "report" / "index.html"
    up = "../" if output == folder / "overview" else f"{folder}/"
    return {
        "name": name,
        "link": f"{up}{name}/report/index.html" if page.exists() else "",
        "headline": wording.headline(comparison),
        "data": results.config.get("data.name", ""),
        "metric": results.metric.title,
        "variants": [
            (variant.name, scale.value(variant.estimate.value), scale.interval(variant.estimate))
            for variant in comparison.variants
        ],
        "finished": sum(run.run_state.state == FINISHED for run in results.runs),
        "planned": len(results.runs),
    }


def _ranks(found: Across) -> list[tuple[str, ...]]:
    return [
        (name, *(f"{rank:g}" for rank in ranks), f"{ranks.mean():.2f}")
        for name, ranks in found.ranks.items()
    ]


def _improvements(found: Across) -> list[tuple[str, ...]]:
    return [
        (
            f"{each.first} over {each.second}",
            PERCENT.value(each.probability.value),
            PERCENT.interval(each.probability),
            str(each.sweeps),
        )
        for each in found.improvements
    ]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
