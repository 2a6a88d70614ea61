"""Writes the report of a sweep: a page, a Markdown table and a CSV. And the tables of papers.

  python -m gru_audio.report --workdir runs/spoken_digit
  python -m gru_audio.report --workdir runs/spoken_digit --output /tmp/report
  python -m gru_audio.report --workdir runs/spoken_digit --keep
  python -m gru_audio.report --tables

The sweep may still be running, or runs may have failed: the page says what is missing. The same
command renews the report.

--keep also writes what is worth keeping of a sweep to experiments/results: scores and costs of all
runs, differences of the arms, curves of the chosen runs. --tables writes experiments/README.md from
that: for every experiment with a `PUBLISHED`, the paper's values beside ours; for those of which
results are kept, ours alone; and for `CLAIMS`, the claims and what was found.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from experiments.tables.kept import read_kept
from experiments.tables.papers import Experiment
from experiments.tables.published import NOBODYS, name_with_part
from gru_audio import command
from gru_audio.config import UserError
from gru_audio.files import matching

if TYPE_CHECKING:
    from experiments.tables.claims import Claim

_WORKDIR = flags.DEFINE_string("workdir", None, "The workdir of a sweep or of a training run.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory for the report. Default: WORKDIR/report.")
_KEEP = flags.DEFINE_bool("keep", False, "Keep the results, as small files.")
_TABLES = flags.DEFINE_bool("tables", False, "Write the tables of papers from what is kept.")
_EXPERIMENTS = flags.DEFINE_string("experiments", "experiments", "Directory of the experiments.")
_RESULTS = flags.DEFINE_string("results", None, "Of what is kept. Default: EXPERIMENTS/results.")
flags.register_multi_flags_validator(
    ["workdir", "keep", "tables"],
    lambda given: given["workdir"] or (given["tables"] and not given["keep"]),
    message="Name the directory of a sweep by --workdir, or ask for --tables.",
)


def main(_: Sequence[str]) -> None:
    experiments = epath.Path(_EXPERIMENTS.value)
    results = epath.Path(_RESULTS.value or experiments / "results")
    if _WORKDIR.value:
        _report(results)
    if _TABLES.value:
        from gru_audio.reporting.write import write_tables

        readme = experiments / "README.md"
        modules = experiment_modules(experiments)
        write_tables(tabled(modules, results), claims(modules), results, readme)
        print(f"Tables: {readme}")


def _report(results: epath.Path) -> None:
    """Writes the report, keeps the results if asked to, and prints what was found."""
    # Importing these takes seconds, which help must not.
    from gru_audio.reporting.context import summary
    from gru_audio.reporting.write import write_kept, write_report

    page, comparison = write_report(_WORKDIR.value, _OUTPUT.value)
    for line in summary(comparison):
        print(line)
    print(f"Report: {page}")
    if _KEEP.value:
        for path in write_kept(comparison, results):
            print(f"Kept: {path}")


def experiment_modules(folder: epath.Path) -> dict[str, ModuleType]:
    """The experiments of a folder, by name.

    Raises:
      UserError: there is none.
    """
    modules = {path.stem: command.load_experiment(path) for path in matching(folder, "*.py")}
    if not modules:
        raise UserError(f"There is no experiment in {folder}. Name another --experiments.")
    return modules


def tabled(modules: Mapping[str, ModuleType], results: epath.Path) -> list[Experiment]:
    """The experiments with a paper behind them, and those of which results are kept.

    What is kept for `CLAIMS` is told by them.
    """
    found = []
    for name, module in modules.items():
        parts = tuple(getattr(module, "PARTS", ("",)))
        published = getattr(module, "PUBLISHED", None)
        if published is None and not hasattr(module, "CLAIMS"):
            kept = any(read_kept(results, name_with_part(name, part)) for part in parts)
            published = NOBODYS if kept else None
        if published is not None:
            title = (module.__doc__ or name).strip().splitlines()[0]
            found.append(Experiment(name, title, parts, published))
    return found


def claims(modules: Mapping[str, ModuleType]) -> "list[Claim]":
    """What the experiments test that is said elsewhere."""
    return [claim for module in modules.values() for claim in getattr(module, "CLAIMS", ())]


if __name__ == "__main__":
    command.run(main)
