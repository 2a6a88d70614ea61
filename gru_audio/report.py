"""Writes the report of a sweep: a page, Markdown and LaTeX tables, and a CSV of the runs.

  python -m gru_audio.report --workdir runs/spoken_digit
  python -m gru_audio.report --workdir runs/spoken_digit --output /tmp/report
  python -m gru_audio.report --workdir runs/spoken_digit --metric macro_f1
  python -m gru_audio.report --workdir runs/spoken_digit --figures paper/figures --format pdf,png
  python -m gru_audio.report --workdir runs/samplernn --judge runs/spoken_digit:GRU-seed0
  python -m gru_audio.report --all runs

The sweep may still be running, and runs may have failed: the page lists the missing runs. The same
command writes the report again. --experiment names the experiment file if it defines the task.

--figures DIR also writes the figures there, named for what they show. --all DIR writes one page on
all sweeps in DIR: what each has found, mean ranks of variants that several sweeps have by the same
name, and the probability that one is better than another (Agarwal et al. 2021).

For models that generate sounds of a class, the report says how many of these a classifier knows. By
default it is linear; --judge names a trained one.
"""

from collections.abc import Sequence

from absl import flags
from etils import epath

from gru_audio import command
from gru_audio.settings import UserError
from gru_audio.sweeps.layout import Layout
from gru_audio.sweeps.status import read_sweep

_WORKDIR = flags.DEFINE_string("workdir", None, "The workdir of a sweep or of a training run.")
command.define_experiment()
_OUTPUT = flags.DEFINE_string("output", None, "Directory for the report. Default: WORKDIR/report.")
_METRIC = flags.DEFINE_string(
    "metric", None, "The metric that compares the variants. Default: the sweep's metric."
)
_JUDGE = flags.DEFINE_string(
    "judge", None, "The classifier of generated sounds, WORKDIR or WORKDIR:RUN. Default: linear."
)
_FIGURES = flags.DEFINE_string("figures", None, "Directory for the figures alone.")
_FORMAT = flags.DEFINE_list("format", ["pdf"], "With --figures: svg, pdf or png, or several.")
_ALL = flags.DEFINE_string("all", None, "Directory with workdirs: write one page on all of them.")
flags.register_multi_flags_validator(
    ["workdir", "all"],
    lambda values: bool(values["workdir"]) != bool(values["all"]),
    message="Name a workdir by --workdir, or a directory with workdirs by --all.",
)
flags.register_validator(
    "format",
    lambda forms: forms and set(forms) <= {"svg", "pdf", "png"},
    message="must be svg, pdf or png, or several: pdf,png.",
)


def main(_: Sequence[str]) -> None:
    if _OUTPUT.value:
        command.output_folder("output", _OUTPUT.value)
    if _FIGURES.value:
        command.output_folder("figures", _FIGURES.value)
    if _WORKDIR.value:
        read_sweep(Layout(_WORKDIR.value).root)
    elif not epath.Path(_ALL.value).expanduser().is_dir():
        raise UserError(f"--all={_ALL.value} is no folder: name one that contains workdirs.")

    # These imports take seconds: --help does not wait for them.
    from gru_audio.reports.context import summary
    from gru_audio.reports.write import write_figures, write_report
    from gru_audio.training.compilation import use_compilation_cache

    use_compilation_cache()
    if _ALL.value:
        from gru_audio.reports.overview import write_overview

        print(f"Report: {write_overview(_ALL.value, _OUTPUT.value)}")
        return
    page, comparison = write_report(_WORKDIR.value, _OUTPUT.value, _METRIC.value, _JUDGE.value)
    if _FIGURES.value:
        written = write_figures(comparison, _FIGURES.value, _FORMAT.value)
        print(f"{len(written)} figures in {_FIGURES.value}")
    for line in summary(comparison):
        print(line)
    print(f"Report: {page}")


if __name__ == "__main__":
    command.run(main)
