"""Writes a report: a page, a Markdown table and a CSV, in one folder."""

import secrets

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
    _write(output / "table.md", tables.markdown(comparison))
    _write(output / "results.csv", tables.results_csv(comparison))
    _write(output / "index.html", page.render(comparison))
    return output / "index.html", comparison


def _write(path: epath.Path, text: str) -> None:
    """Replaces a file that another shard may be writing at the same time."""
    if "://" in str(path):  # an object is never seen half
        path.write_text(text)
        return
    own = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    own.write_text(text)
    own.replace(path)
