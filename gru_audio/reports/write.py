"""Reads a sweep and writes its report into one folder."""

from collections.abc import Sequence

from etils import epath

from gru_audio.files import refuse_traps, write_atomically
from gru_audio.reports import figure_set, page, tables
from gru_audio.reports.baselines import find_baselines
from gru_audio.reports.comparison import Comparison, chosen_runs, compare
from gru_audio.reports.disagreement import disagreements
from gru_audio.reports.gate_plots import read_excerpts
from gru_audio.reports.results import read_results
from gru_audio.reports.results_csv import runs_csv
from gru_audio.reports.sections import read_sections


def read_comparison(workdir: epath.PathLike, metric: str | None = None) -> Comparison:
    """Compares the variants of a sweep, with baselines if they are stored or can be computed.

    Args:
      workdir: the sweep's workdir.
      metric: name of the metric that compares the variants; by default the sweep's.

    Raises:
      UserError: the workdir has no sweep, or one that this version cannot report on.
    """
    refuse_traps(workdir)
    results = read_results(workdir, metric)
    return compare(results, find_baselines(workdir, results, chosen_runs(results)))


def write_report(
    workdir: epath.PathLike,
    output: epath.PathLike | None = None,
    metric: str | None = None,
    judge: str | None = None,
) -> tuple[epath.Path, Comparison]:
    """Writes `index.html`, its figures, `table.md`, `table.tex` and `results.csv`.

    Args:
      workdir: the workdir of the sweep, which may still be running.
      output: folder for the report; by default `report` in the workdir.
      metric: name of the metric that compares the variants; by default the sweep's.
      judge: the classifier of generated sounds, WORKDIR or WORKDIR:RUN; by default a linear model.

    Returns:
      The path of the page, and the comparison that it shows.

    Raises:
      UserError: the workdir has no sweep, or one that this version cannot report on; or the judge
        does not suit it.
    """
    comparison = read_comparison(workdir, metric)
    output = epath.Path(output or epath.Path(workdir) / "report")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "table.md", tables.markdown_tables(comparison), shared=True)
    write_atomically(output / "table.tex", tables.latex_tables(comparison), shared=True)
    write_atomically(output / "results.csv", runs_csv(comparison), shared=True)
    examples = disagreements(comparison)
    shown = read_excerpts(workdir, comparison, [each.example for each in examples])
    drawn = figure_set.draw_figures(comparison)
    for drawing in drawn:
        for name, content in drawing.files().items():
            write_atomically(output / "figures" / name, content, shared=True)
    sections = read_sections(workdir, comparison, judge)
    text = page.render(comparison, drawn, examples, shown, sections)
    write_atomically(output / "index.html", text, shared=True)
    return output / "index.html", comparison


def write_figures(
    comparison: Comparison, folder: epath.PathLike, forms: Sequence[str] = ("pdf",)
) -> list[epath.Path]:
    """Writes the figures of a comparison alone, for a paper.

    Args:
      comparison: of the variants of a sweep.
      folder: for the files; it is made if it is missing.
      forms: of each figure, some of `svg.FORMATS`.

    Returns:
      The paths of the files.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for drawing in figure_set.draw_figures(comparison):
        for form in forms:
            written.append(folder / f"{drawing.name}.{form}")
            write_atomically(written[-1], drawing.saved(form), shared=True)
    return written
