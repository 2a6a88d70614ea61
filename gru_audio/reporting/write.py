"""Writes a report: a page, a Markdown table and a CSV, in one folder."""

from etils import epath

from gru_audio.reporting import page, tables
from gru_audio.reporting.comparison import Comparison, compare
from gru_audio.reporting.results import read_results


def write_report(
    workdir: epath.PathLike, output: epath.PathLike | None = None
) -> tuple[epath.Path, Comparison]:
    """Writes `index.html`, `table.md` and `results.csv`.

    Args:
      workdir: of the sweep, which may still be running.
      output: folder for the report; by default `report` in the workdir.

    Returns:
      The page, and what it says.

    Raises:
      UserError: `workdir` holds no sweep, or one that cannot be reported on.
    """
    comparison = compare(read_results(workdir))
    output = epath.Path(output or epath.Path(workdir) / "report")
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text(tables.markdown(comparison))
    (output / "results.csv").write_text(tables.results_csv(comparison))
    (output / "index.html").write_text(page.render(comparison))
    return output / "index.html", comparison
