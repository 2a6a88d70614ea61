"""Measures speed and memory (in a checkout).

  gru-audio bench step
  python -m benchmarks step

The benchmarks are in the folder benchmarks/ of a checkout, and are not installed. There,
`gru-audio bench --help` lists them.
"""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from gru_audio import command
from gru_audio.settings import UserError

_CHECKOUT = Path(__file__).resolve().parents[1]


def main(_: Sequence[str]) -> None:
    raise UserError(
        "The benchmarks are not installed with the package: clone the repository, and run "
        "`make install` and `.venv/bin/gru-audio bench` there."
    )


if __name__ == "__main__":
    if (_CHECKOUT / "benchmarks" / "__main__.py").is_file():
        sys.path.insert(0, str(_CHECKOUT))
        runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
    else:
        command.run(main, names=True)
