"""Writes what the others have made: a report in one folder, kept results, the tables of papers."""

from collections.abc import Sequence

from etils import epath

from experiments.tables import readme
from experiments.tables.claims import Claim
from experiments.tables.keeping import keep
from experiments.tables.kept import kept_files, runs_csv
from experiments.tables.papers import Experiment, read_paper
from gru_audio.config import UserError
from gru_audio.files import refuse_links, write_atomically
from gru_audio.reporting import figure_set, latex, page, tables
from gru_audio.reporting.baselines import find_baselines
from gru_audio.reporting.comparison import Comparison, chosen_runs, compare
from gru_audio.reporting.disagreement import disagreements
from gru_audio.reporting.listening import listen
from gru_audio.reporting.results import read_results


def write_report(
    workdir: epath.PathLike, output: epath.PathLike | None = None
) -> tuple[epath.Path, Comparison]:
    """Writes `index.html`, its figures, `table.md`, `table.tex` and `results.csv`.

    Args:
      workdir: of the sweep, which may still be running.
      output: folder for the report; by default `report` in the workdir.

    Returns:
      The page, and what it says.

    Raises:
      UserError: `workdir` holds no sweep, or one that cannot be reported on.
    """
    refuse_links(workdir)
    results = read_results(workdir)
    comparison = compare(results, find_baselines(workdir, results, chosen_runs(results)))
    output = epath.Path(output or epath.Path(workdir) / "report")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "table.md", tables.comparison_tables(comparison), shared=True)
    write_atomically(output / "table.tex", latex.comparison_tables(comparison), shared=True)
    write_atomically(output / "results.csv", runs_csv(keep(comparison)), shared=True)
    examples = disagreements(comparison)
    heard = listen(workdir, comparison, [each.example for each in examples])
    drawn = figure_set.draw(comparison)
    for drawing in drawn:
        for name, content in drawing.files().items():
            write_atomically(output / "figures" / name, content, shared=True)
    write_atomically(
        output / "index.html", page.render(comparison, drawn, examples, heard), shared=True
    )
    return output / "index.html", comparison


def write_kept(comparison: Comparison, results: epath.PathLike) -> list[epath.Path]:
    """Writes what is kept of a sweep into the folder `results`; returns the files.

    Raises:
      UserError: a run is damaged.
    """
    for run in comparison.damaged:
        raise UserError(f"Run {run.name} cannot be kept: {run.damage}.")
    results = epath.Path(results)
    results.mkdir(parents=True, exist_ok=True)
    files = {results / name: text for name, text in kept_files(keep(comparison)).items()}
    for path, text in files.items():
        write_atomically(path, text, shared=True)
    return list(files)


def write_tables(
    experiments: Sequence[Experiment],
    claims: Sequence[Claim],
    results: epath.PathLike,
    path: epath.PathLike,
) -> None:
    """Writes tables of papers, and claims, to the file `path` from the folder `results`.

    Raises:
      UserError: a kept file is damaged.
    """
    results = epath.Path(results)
    papers = [read_paper(experiment, results) for experiment in experiments]
    tested = [(claim, claim.evidence(results)) for claim in claims]
    write_atomically(epath.Path(path), readme.render(papers, tested), shared=True)
