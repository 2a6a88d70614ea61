"""Writes the report of a sweep: a page, Markdown and LaTeX tables, and a CSV of the runs.

  python -m gru_audio.report --workdir runs/spoken_digit
  python -m gru_audio.report --workdir runs/spoken_digit --output /tmp/report
  python -m gru_audio.report --workdir runs/spoken_digit --metric macro_f1
  python -m gru_audio.report --workdir runs/samplernn --judge runs/spoken_digit:GRU-seed0

The sweep may still be running, and runs may have failed: the page lists the missing runs. The same
command writes the report again. --experiment names the experiment file if it defines the task.

For models that generate sounds of a class, the report says how many of these a classifier knows. By
default it is linear; --judge names a trained one.
"""

from collections.abc import Sequence

from absl import flags

from gru_audio import command

_WORKDIR = flags.DEFINE_string("workdir", None, "The workdir of a sweep or of a training run.")
command.define_experiment()
_OUTPUT = flags.DEFINE_string("output", None, "Directory for the report. Default: WORKDIR/report.")
_METRIC = flags.DEFINE_string(
    "metric", None, "The metric that compares the variants. Default: the sweep's metric."
)
_JUDGE = flags.DEFINE_string(
    "judge", None, "The classifier of generated sounds, WORKDIR or WORKDIR:RUN. Default: linear."
)
flags.mark_flag_as_required("workdir")


def main(_: Sequence[str]) -> None:
    # These imports take seconds: --help does not wait for them.
    from gru_audio.reports.context import summary
    from gru_audio.reports.write import write_report
    from gru_audio.training.compilation import use_compilation_cache

    use_compilation_cache()
    page, comparison = write_report(_WORKDIR.value, _OUTPUT.value, _METRIC.value, _JUDGE.value)
    for line in summary(comparison):
        print(line)
    print(f"Report: {page}")


if __name__ == "__main__":
    command.run(main)
