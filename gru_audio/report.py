"""Writes the report of a sweep: a page, a Markdown table and a CSV.

  python -m gru_audio.report --workdir runs/spoken_digit
  python -m gru_audio.report --workdir runs/spoken_digit --output /tmp/report

The sweep may still be running, or runs may have failed: the page says what is missing. The same
command renews the report.
"""

from collections.abc import Sequence

from absl import flags

from gru_audio import command
from gru_audio.reporting.wording import evidence, headline, progress
from gru_audio.reporting.write import write_report

_WORKDIR = flags.DEFINE_string("workdir", None, "The workdir of a sweep or of a training run.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory for the report. Default: WORKDIR/report.")
flags.mark_flag_as_required("workdir")


def main(_: Sequence[str]) -> None:
    """Writes the report and prints what it finds."""
    page, comparison = write_report(_WORKDIR.value, _OUTPUT.value)
    print(f"{headline(comparison)}. {evidence(comparison)}")
    if missing := progress(comparison.results):
        print(missing)
    print(f"Report: {page}")


if __name__ == "__main__":
    command.run(main)
