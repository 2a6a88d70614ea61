"""Copies an experiment of the package into the current folder, as a start for your own.

  gru-audio new my_experiment
  gru-audio new my_experiment --like speech_commands_12
  python -m gru_audio.new my_experiment --like own_cell

The file is my_experiment.py. `gru-audio experiments` lists what --like may name. An existing file
is never overwritten.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from gru_audio import command, experiment_files
from gru_audio.files import read_text
from gru_audio.settings import UserError, choose

_LIKE = flags.DEFINE_string("like", "own_sounds", "The experiment to copy.")


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise UserError("Name the new experiment: gru-audio new my_experiment.")
    name, like = arguments[1].removesuffix(".py"), _LIKE.value
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UserError(f'"{name}" is not a valid name: use letters, digits and underscores.')
    choose("experiment", like, dict.fromkeys(experiment_files.names()))
    text = read_text(experiment_files.find(like)).replace(f"experiments/{like}.py", f"{name}.py")
    file = Path(f"{name}.py")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError as error:
        raise UserError(f"{file} exists already: choose another name.") from error
    except OSError as error:
        raise UserError(f"Cannot write {file}: {error.strerror}.") from error
    print(f"{file} is a copy of {like}. Change it, then train it:")
    print(f"  gru-audio sweep --config {file} --workdir runs/{name}")


if __name__ == "__main__":
    command.run(main, names=True)
