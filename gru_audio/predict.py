"""Labels sound files with a finished run.

  python -m gru_audio.predict --workdir runs/one clip.wav folder_of_sounds
  python -m gru_audio.predict --workdir runs/spoken_digit --run GRU-seed0 --top_k 3 --json *.flac

Takes files (WAV, FLAC, OGG, MP3; any rate, any number of channels) and folders, which are searched.
The run's own checkpoint is all it needs. A file that is no sound is reported and skipped; the exit
code then is 1.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from gru_audio import command
from gru_audio.audio.io import BadAudio, decode
from gru_audio.config import UserError
from gru_audio.sweeping.workdir import Workdir
from gru_audio.training.trained import Trained

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run was trained.")
_RUN = flags.DEFINE_string("run", None, "Which run, where there are several.")
_TOP_K = flags.DEFINE_integer("top_k", 3, "How many labels to give.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON a file instead of a table.")
flags.mark_flag_as_required("workdir")

_SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif")  # taken from folders


def main(arguments: Sequence[str]) -> int:
    trained = Trained.load(Workdir(_WORKDIR.value).find_model(_RUN.value))
    if not trained.class_names:
        raise UserError(
            f"{trained.about['run']} gives no labels: config.task.name={trained.config.task.name}. "
            "`evaluate` scores it."
        )
    clips, names, bad = [], [], []
    for path in _files(arguments[1:]):
        try:
            clips.append(decode(path, trained.signal.rate).samples)
            names.append(str(path))
        except BadAudio as error:
            bad.append(f"{path}: {error.reason}")
    if clips:
        scores = trained.scores(clips, np.zeros(len(clips), np.int32))
        _print(names, scores["probabilities"], trained.class_names)
    for line in bad:
        print(f"skipped {line}", file=sys.stderr)
    return 1 if bad else 0


def _files(arguments: Sequence[str]) -> list[Path]:
    """The files named, and the sounds in the folders named."""
    if not arguments:
        raise UserError("Name the files or folders to label.")
    files: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix.lower() in _SOUNDS)
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path} does not exist.")
    if not files:
        raise UserError(f"No sound files in {', '.join(arguments)}.")
    return files


def _print(names: list[str], probabilities: np.ndarray, classes: Sequence[str]) -> None:
    top_k = min(_TOP_K.value, len(classes))
    order = np.argsort(-probabilities, axis=-1)[:, :top_k]
    if _JSON.value:
        for name, row, chances in zip(names, order, probabilities, strict=True):
            labels = [{"label": classes[c], "probability": float(chances[c])} for c in row]
            print(json.dumps({"file": name, "labels": labels}))
        return
    table = Table()
    table.add_column("file", overflow="fold")
    for place in range(top_k):
        table.add_column("label" if place == 0 else f"{place + 1}.")
    for name, row, chances in zip(names, order, probabilities, strict=True):
        table.add_row(name, *(f"{classes[c]} {chances[c]:.1%}" for c in row))
    Console().print(table)


if __name__ == "__main__":
    command.run(main)
