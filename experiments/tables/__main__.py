"""Writes experiments/README.md: results of the experiments beside published values.

  python -m experiments.tables
  python -m experiments.tables --keep runs/esc10

The tables come from the small files in experiments/results. --keep first writes these files for the
sweep in a workdir: scores and costs of all runs, differences between variants, and learning curves
of the chosen runs.

Every experiment with `PUBLISHED` or with kept results gets a table. `CLAIMS` of an experiment names
the module with the statements that are tested on kept results.
"""

from collections.abc import Sequence

from absl import flags
from etils import epath

from gru_audio import command

_KEEP = flags.DEFINE_string("keep", None, "The workdir of a sweep whose results to keep.")
_EXPERIMENTS = flags.DEFINE_string("experiments", "experiments", "Directory of the experiments.")
_RESULTS = flags.DEFINE_string(
    "results", None, "Directory of the kept results. Default: EXPERIMENTS/results."
)


def main(_: Sequence[str]) -> None:
    # These imports take seconds: --help does not wait for them.
    from experiments.tables.kept import write_kept
    from experiments.tables.readme import write_readme
    from gru_audio.reports.write import read_comparison

    experiments = epath.Path(_EXPERIMENTS.value)
    results = epath.Path(_RESULTS.value or experiments / "results")
    if _KEEP.value:
        for path in write_kept(read_comparison(_KEEP.value), results):
            print(f"Kept: {path}")
    print(f"Tables: {write_readme(experiments, results)}")


if __name__ == "__main__":
    command.run(main)
